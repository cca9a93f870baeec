"""FP8 with block scales → BF16, number by number."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from build.cast import cast
from build.fp8 import Decoder
from tests.build.fp8_checkpoint import BLOCK, Bits, bits_of, nearest, random_weight, spread, to_fp8, write


def decoded(codes: torch.Tensor, scales: torch.Tensor) -> Bits:
    out = torch.empty(codes.shape, dtype=torch.bfloat16)
    Decoder().decode(codes.view(torch.uint8), scales.numpy(), out)
    return bits_of(out)


def all_codes(count: int) -> torch.Tensor:
    """``count`` blocks one below the other, each with every code."""
    return torch.arange(256, dtype=torch.uint8).repeat(count * BLOCK // 2).view(-1, BLOCK).view(torch.float8_e4m3fn)


def delicate(seed: int, count: int) -> torch.Tensor:
    """Scales that some code's significand takes close to the middle between two BF16 numbers."""
    rng = np.random.default_rng(seed)
    middle = (rng.integers(1 << 7, 1 << 8, count) * 2 + 1) * 2.0**15
    scales = (middle / rng.integers(8, 16, count)).astype(np.float32)
    scales = (scales.view(np.int32) + rng.integers(-1, 2, count, dtype=np.int32)).view(np.float32)
    return torch.from_numpy(np.ldexp(scales, rng.integers(-60, 0, count)).astype(np.float32))[:, None]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 2 * BLOCK + 3),
    columns=st.integers(1, 2 * BLOCK + 3),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_any_codes_scales_and_shapes(rows: int, columns: int, seed: int, data: st.DataObject) -> None:
    codes, scales = random_weight(rows, columns, seed)
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    for index in np.ndindex(tuple(scales.shape)):
        scales[index] = data.draw(finite | st.floats(2.0**-14, 2.0**-8, width=32))
    np.testing.assert_array_equal(decoded(codes, scales), nearest(codes, scales))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_products_that_rounding_twice_would_spoil(seed: int) -> None:
    scales = delicate(seed, 16)
    codes = all_codes(16)
    wanted = nearest(codes, scales)
    np.testing.assert_array_equal(decoded(codes, scales), wanted)


def test_rounding_twice_does_spoil_them() -> None:
    codes, scales = all_codes(64), delicate(0, 64)
    twice = codes.float() * spread(scales, tuple(codes.shape))
    assert (bits_of(twice.bfloat16()) != nearest(codes, scales)).sum() > 100


@pytest.mark.parametrize("exponent", [-149, -140, -127, -126, -118, -117, -116, 117, 118, 119, 120, 127])
def test_scales_at_the_ends_of_the_range(exponent: int) -> None:
    codes = all_codes(4)
    scales = torch.ldexp(torch.tensor([[1.0], [-1.0], [1.1], [1.9]]), torch.tensor(exponent))
    np.testing.assert_array_equal(decoded(codes, scales), nearest(codes, scales))


def test_nan_codes_stay_nan_of_their_sign() -> None:
    bits = decoded(all_codes(1), torch.tensor([[0.5]])).reshape(-1)[:256]
    assert (bits[0x7F], bits[0xFF]) == (0x7FC0, 0xFFC0)
    assert np.isnan((bits.astype(np.uint32) << 16).view(np.float32)).sum() == 2


def test_a_round_trip(tmp_path: Path) -> None:
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(0)).bfloat16()
    codes, scales = to_fp8(weight)
    write(tmp_path / "fp8", {"model.safetensors": {"w": codes, "w_scale_inv": scales}})
    (tmp_path / "bf16").mkdir()
    cast(tmp_path / "fp8", tmp_path / "bf16")
    back = load_file(tmp_path / "bf16" / "model.safetensors")["w"]
    # Half a unit of e4m3's last place, and half of BF16's.
    bound = torch.maximum(weight.float().abs() * (2**-4 + 2**-8), spread(scales, (300, 200)) * 2**-10)
    assert ((back.float() - weight.float()).abs() <= bound).all()
    codes, scales = to_fp8(weight, powers_of_two=True)
    again = torch.from_numpy(decoded(codes, scales).view(np.int16)).view(torch.bfloat16)
    assert torch.equal(to_fp8(again, powers_of_two=True)[0].view(torch.uint8), codes.view(torch.uint8))
