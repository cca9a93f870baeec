"""Safetensors files as bytes at offsets: the library maps or loads whole tensors, and a cast must not."""

import json
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from contract.errors import BuildError

METADATA = "__metadata__"
_ITEM = {"F8_E4M3": 1, "BF16": 2, "F32": 4}  # bytes; of the types that are read, not only copied


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's bytes lie."""

    name: str
    dtype: str  # safetensors' name of it, such as F8_E4M3
    shape: tuple[int, ...]
    file: Path
    begin: int  # of its bytes in the file
    size: int  # bytes


def read_header(file: Path) -> tuple[list[Tensor], dict[str, str]]:
    """The tensors of a file in the order of their bytes, and its metadata.

    Raises:
        BuildError: the file is not whole.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > size:
                raise ValueError
            header = json.loads(opened.read(length))
        metadata = header.pop(METADATA, {})
        tensors = [_tensor(file, name, entry, 8 + length) for name, entry in header.items()]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise BuildError(f"{file} is truncated or no safetensors file", fix="Download it again") from None
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.size))
    end = 8 + length
    for tensor in tensors:
        if tensor.begin != end:
            raise BuildError(
                f"{file}: the bytes of {tensor.name} overlap others, or leave a gap", fix="Download it again"
            )
        end += tensor.size
    if end != size:
        raise BuildError(f"{file} is truncated: {size} bytes, {end} promised", fix="Download it again")
    return tensors, metadata


def _tensor(file: Path, name: str, entry: dict[str, Any], start: int) -> Tensor:
    begin, end = entry["data_offsets"]
    tensor = Tensor(name, str(entry["dtype"]), tuple(map(int, entry["shape"])), file, start + begin, end - begin)
    if tensor.size != _ITEM.get(tensor.dtype, 0) * prod(tensor.shape) and tensor.dtype in _ITEM:
        raise ValueError
    return tensor


def lay_out(tensors: Iterable[tuple[str, str, tuple[int, ...], int]], metadata: dict[str, str]) -> tuple[bytes, int]:
    """The beginning of a file that holds these tensors (name, dtype, shape, bytes) in this order, and its length."""
    header: dict[str, Any] = {METADATA: metadata} if metadata else {}
    end = 0
    for name, dtype, shape, size in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin aligned
    begin = struct.pack("<Q", len(text)) + text
    return begin, len(begin) + end


def aligned(tensors: Iterable[Tensor]) -> list[Tensor]:
    """In the library's own order, wide types first: every tensor then begins at a multiple of its item's size."""
    return sorted(tensors, key=lambda tensor: (-tensor.size // max(prod(tensor.shape), 1), tensor.name))


def read_into(descriptor: int, buffer: memoryview, offset: int, file: Path) -> None:
    """Fill a buffer from a file's bytes at an offset.

    Raises:
        BuildError: the file ends before.
    """
    while len(buffer):
        count = os.preadv(descriptor, [buffer], offset)
        if not count:
            raise BuildError(f"{file} has become shorter", fix="Download it again")
        buffer, offset = buffer[count:], offset + count


def write_from(descriptor: int, buffer: memoryview, offset: int) -> None:
    """Write a whole buffer to a file at an offset."""
    while len(buffer):
        count = os.pwrite(descriptor, buffer, offset)
        buffer, offset = buffer[count:], offset + count
