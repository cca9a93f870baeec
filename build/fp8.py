"""FP8 (e4m3) with a scale for every block of 128 × 128 → BF16, the exact product correctly rounded, at memory's speed.

torch converts FP8 one element at a time on a CPU. Here an FP8 code becomes a float16 by moving its bits: e4m3's
exponent is biased by 7 and float16's by 15, so the moved bits are the code's value / 256, subnormals included.
"""

from math import ceil

import numpy as np
import numpy.typing as npt
import torch

from build.cast_plan import BLOCK

_PIECE = 1 << 17  # elements between two steps of the pipeline: they stay in the core's cache
_SHIFT = 256.0  # what the moved bits lack, see above
# A code has 4 significant bits: these are all the significands that a product begins with.
_SIGNIFICANDS = np.arange(8, 16, dtype=np.float64)
# Between these a product of any code but 0 is a normal float32.
_SMALLEST, _LARGEST = 2.0**-117, 2.0**119


class Decoder:
    """Working memory of one thread."""

    def __init__(self) -> None:
        self._shorts = torch.empty(0, dtype=torch.int16)
        self._floats = torch.empty(0, dtype=torch.float32)

    def decode(self, codes: torch.Tensor, scales: npt.NDArray[np.float32], out: torch.Tensor) -> None:
        """Write codes × scales as BF16.

        Args:
            codes: (rows, columns), uint8; the first row is the first of a block.
            scales: of each block, the last ones cut off where rows or columns end.
            out: (rows, columns), bfloat16.
        """
        rows, columns = codes.shape
        delicate = _rounds_twice(scales)
        factors = torch.from_numpy(np.where(delicate, np.float32(0), scales) * np.float32(_SHIFT))
        factors = factors.repeat_interleave(BLOCK, dim=1)[:, :columns]
        step = ceil(BLOCK / max(ceil(BLOCK * columns / _PIECE), 1))
        if self._shorts.numel() < step * columns:
            self._shorts = torch.empty(step * columns, dtype=torch.int16)
            self._floats = torch.empty(step * columns, dtype=torch.float32)
        for top in range(0, rows, BLOCK):
            bottom = min(top + BLOCK, rows)
            for at in range(top, bottom, step):
                piece = codes[at : min(at + step, bottom)]
                shorts = self._shorts[: piece.numel()].view(piece.shape)
                floats = self._floats[: piece.numel()].view(piece.shape)
                # The sign is copied into bits 7 to 15, of which the shift leaves 14 and 15: 14 is the exponent's.
                shorts.copy_(piece.view(torch.int8)).bitwise_left_shift_(7).bitwise_and_(~(1 << 14))
                floats.copy_(shorts.view(torch.float16)).mul_(factors[top // BLOCK])
                out[at : at + len(piece)].copy_(floats)
        plain_codes, bits = codes.numpy(), out.view(torch.int16).numpy().view(np.uint16)
        for down, right in np.argwhere(delicate):
            block = np.s_[down * BLOCK : (down + 1) * BLOCK, right * BLOCK : (right + 1) * BLOCK]
            bits[block] = _table(scales[down, right])[plain_codes[block]]
        # 7F and FF, the largest of each sign, are NaN and hardly ever there; float16 has a number in their place.
        if codes.view(torch.int8).amax() == 0x7F or codes.amax() == 0xFF:
            bits[plain_codes == 0x7F] = 0x7FC0
            bits[plain_codes == 0xFF] = 0xFFC0


def _rounds_twice(scales: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """The blocks, about one in 10,000, where a product rounded to float32 and then to bfloat16 may be another number.

    That takes a float32 in the middle between two bfloat16 which is not the exact product.
    """
    exact = scales.astype(np.float64)[..., None] * _SIGNIFICANDS
    with np.errstate(over="ignore", under="ignore"):
        rounded = exact.astype(np.float32)
    in_the_middle = (rounded.view(np.uint32) & 0xFFFF) == 0x8000
    size = np.abs(scales)
    beyond = ((size < _SMALLEST) & (size > 0)) | (size >= _LARGEST)
    return np.asarray((in_the_middle & (rounded != exact)).any(-1) | beyond)


def _table(scale: np.float32) -> npt.NDArray[np.uint16]:
    """The BF16 bits of all 256 codes × a scale. The products are exact in float64: 4 bits by 24."""
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    exact = codes.to(torch.float64).numpy() * np.float64(scale)
    _, exponents = np.frexp(exact)
    unit = np.ldexp(1.0, np.maximum(exponents, -125) - 8)  # of a bfloat16's last place; -125: the subnormals'
    with np.errstate(over="ignore"):
        nearest = (np.rint(exact / unit) * unit).astype(np.float32)
    return np.asarray(nearest.view(np.uint32) >> 16, dtype=np.uint16)
