"""What the threads of a cast do: some rows of a tensor from one file to another, cast or copied."""

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from build.cast_plan import BLOCK, Piece
from build.fp8 import Decoder
from build.safetensors_file import Tensor, read_into, write_from
from contract.errors import BuildError

_CHUNK = 1 << 21  # bytes read at once

Job = Callable[[int], int]  # takes the descriptor of the new file, returns how many bytes it wrote there


class Worker(threading.local):
    """Buffers of a thread's own, made once: fresh memory would cost as much time as the cast."""

    def __init__(self, files: Mapping[Path, FileIO]) -> None:
        self._files = files
        self._decoder = Decoder()
        self._read = torch.empty(0, dtype=torch.uint8)
        self._cast = torch.empty(0, dtype=torch.bfloat16)

    def jobs(self, piece: Piece) -> Iterator[Job]:
        """What casts or copies a tensor, in parts for different threads."""
        if piece.scales is None:
            for begin in range(0, piece.size, _CHUNK):
                yield partial(self._copy_part, piece, begin, min(begin + _CHUNK, piece.size))
        elif piece.size:
            rows, columns = piece.tensor.shape
            step = max(_CHUNK // columns // BLOCK, 1) * BLOCK
            for top in range(0, rows, step):
                yield partial(self._cast_rows, piece, piece.scales, top, min(top + step, rows))

    def _copy_part(self, piece: Piece, begin: int, end: int, target: int) -> int:
        part = self._load(piece.tensor, begin, end)
        write_from(target, memoryview(part.numpy()), piece.begin + begin)
        return end - begin

    def _cast_rows(self, piece: Piece, scales: Tensor, top: int, bottom: int, target: int) -> int:
        _, columns = piece.tensor.shape
        factors = self._scales(scales, top // BLOCK, -(-bottom // BLOCK))
        codes = self._load(piece.tensor, top * columns, bottom * columns).view(-1, columns)
        if self._cast.numel() < codes.numel():
            self._cast = torch.empty(codes.numel(), dtype=torch.bfloat16)
        out = self._cast[: codes.numel()]
        self._decoder.decode(codes, factors, out.view(codes.shape))
        write_from(target, memoryview(out.view(torch.uint8).numpy()), piece.begin + 2 * top * columns)
        return 2 * (bottom - top) * columns

    def _scales(self, scales: Tensor, top: int, bottom: int) -> npt.NDArray[np.float32]:
        columns = scales.shape[1]
        dtype = {"F32": torch.float32, "BF16": torch.bfloat16}[scales.dtype]
        raw = self._load(scales, top * columns * dtype.itemsize, bottom * columns * dtype.itemsize)
        found: npt.NDArray[np.float32] = raw.clone().view(dtype).to(torch.float32).view(-1, columns).numpy()
        broken = np.argwhere(~np.isfinite(found))
        if len(broken):
            down, right = broken[0]
            raise BuildError(
                f"{scales.name} in {scales.file} is {found[down, right]} for block [{top + down}, {right}]",
                fix="Download it again",
            )
        return found

    def _load(self, tensor: Tensor, begin: int, end: int) -> torch.Tensor:
        """Some bytes of a tensor; the next call of the same thread overwrites them."""
        if self._read.numel() < end - begin:
            self._read = torch.empty(end - begin, dtype=torch.uint8)
        part = self._read[: end - begin]
        read_into(self._files[tensor.file].fileno(), memoryview(part.numpy()), tensor.begin + begin, tensor.file)
        return part
