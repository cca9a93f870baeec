"""What a cast will read and write, from config.json, the index and the shards' headers: refused before any work."""

from dataclasses import dataclass
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

from build.fetch import read_json
from build.safetensors_file import Tensor, aligned, lay_out, read_header
from contract.errors import BuildError

BLOCK = 128  # rows and columns of a weight that share a scale
INDEX = "model.safetensors.index.json"
_SCALE = "_scale_inv"  # X_scale_inv scales X
_SCALE_DTYPES = ("F32", "BF16")  # DeepSeek's, and Qwen's
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")  # those in another format are not copied


@dataclass(frozen=True)
class Piece:
    """A tensor on its way."""

    tensor: Tensor
    scales: Tensor | None  # none: it is copied as it is
    begin: int  # of its bytes in the new shard
    size: int


@dataclass(frozen=True)
class Shard:
    """A new file."""

    name: str
    header: bytes
    pieces: tuple[Piece, ...]
    size: int


@dataclass(frozen=True)
class Plan:
    """A new checkpoint."""

    shards: tuple[Shard, ...]
    config: dict[str, Any]  # config.json
    index: dict[str, Any] | None  # none: the checkpoint is one file and has none
    weights: tuple[Path, ...]  # what is read for the shards
    others: tuple[Path, ...]  # what else is there: config.json, the index, and what is copied


def new_config(folder: Path) -> dict[str, Any]:
    """The config.json of the BF16 copy.

    Raises:
        BuildError: the checkpoint is not in block FP8; names the field.
    """
    path = folder / "config.json"
    config = read_json(path)
    found = config.pop("quantization_config", None)
    if not isinstance(found, dict):
        raise BuildError(f"{path} has no quantization_config: it is no FP8 checkpoint", fix="Use it as it is")
    for field, wanted in (("quant_method", "fp8"), ("fmt", "e4m3"), ("weight_block_size", [BLOCK, BLOCK])):
        value = found.get(field, "e4m3" if field == "fmt" else None)
        if value != wanted:
            raise BuildError(
                f"{path}: quantization_config.{field} is {value!r}, and only {wanted!r} can be cast",
                fix="Use a checkpoint in DeepSeek's FP8, or the unquantized one",
            )
    names = [name for name in ("dtype", "torch_dtype") if name in config] or ["torch_dtype"]
    return config | dict.fromkeys(names, "bfloat16")


def make_plan(source: Path) -> Plan:
    """What casting a checkpoint comes to.

    Raises:
        BuildError: it is not whole, or not in block FP8.
    """
    config = new_config(source)
    old_index = read_json(source / INDEX) if (source / INDEX).exists() else None
    files = _files(source, old_index)
    headers = {file: read_header(file) for file in files}
    tensors: dict[str, Tensor] = {}
    for tensor in chain.from_iterable(found for found, _ in headers.values()):
        if tensor.name in tensors:
            raise BuildError(f"{tensor.name} is in {tensors[tensor.name].file} and in {tensor.file}", fix="Remove one")
        tensors[tensor.name] = tensor
    for name in old_index["weight_map"] if old_index else ():
        if name not in tensors:
            raise BuildError(f"{source / INDEX} names {name}, which is in no shard", fix="Download it again")
    scales = _scales(tensors)
    if not scales:
        raise BuildError(f"{source} has no FP8 tensor, whatever its config.json says", fix="Download it again")
    taken = {tensor.name for tensor in scales.values()}
    shards = [
        _shard(file.name, [tensor for tensor in found if tensor.name not in taken], scales, metadata)
        for file, (found, metadata) in headers.items()
    ]
    shards = [shard for shard in shards if shard.pieces]  # not one that had nothing but scales
    others = [file for file in sorted(source.iterdir()) if file.is_file() and file.suffix not in _WEIGHTS]
    return Plan(
        shards=tuple(shards),
        config=config,
        index=_index(old_index, shards) if old_index else None,
        weights=tuple(files),
        others=tuple(file for file in others if file.name[0] != "."),
    )


def _files(source: Path, index: dict[str, Any] | None) -> list[Path]:
    if index is None:
        if not (source / "model.safetensors").exists():
            raise BuildError(f"{source} has neither {INDEX} nor model.safetensors", fix="Download it again")
        return [source / "model.safetensors"]
    if not isinstance(index.get("weight_map"), dict):
        raise BuildError(f"{source / INDEX} has no weight_map", fix="Download it again")
    files = [source / name for name in sorted(set(index["weight_map"].values()))]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise BuildError(f"{source} lacks {', '.join(missing)}, which its index names", fix="Download it again")
    return files


def _scales(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The scales of each FP8 tensor, by its name, whatever shard they are in."""
    found: dict[str, Tensor] = {}
    for name, weight in tensors.items():
        if not weight.dtype.startswith("F8_"):
            continue
        scales = tensors.get(name + _SCALE)
        if weight.dtype != "F8_E4M3":
            raise BuildError(f"{name} in {weight.file} is {weight.dtype}, and only F8_E4M3 can be cast")
        if scales is None:
            raise BuildError(f"{name} in {weight.file} has no {name + _SCALE} in any shard", fix="Download it again")
        if scales.dtype not in _SCALE_DTYPES:
            raise BuildError(f"{scales.name} in {scales.file} is {scales.dtype}, not {' or '.join(_SCALE_DTYPES)}")
        wanted = tuple(ceil(length / BLOCK) for length in weight.shape)
        if len(wanted) != 2 or scales.shape != wanted:
            raise BuildError(
                f"{scales.name} in {scales.file} is {list(scales.shape)}: {name}, {list(weight.shape)}, has "
                f"{list(wanted)} blocks of {BLOCK} × {BLOCK}"
            )
        found[name] = scales
    taken = {scales.name for scales in found.values()}
    for name, tensor in tensors.items():
        if name.endswith(_SCALE) and name not in taken:
            raise BuildError(f"{name} in {tensor.file} scales no FP8 tensor", fix="Download it again")
    return found


def _shard(name: str, tensors: list[Tensor], scales: dict[str, Tensor], metadata: dict[str, str]) -> Shard:
    renamed = [
        Tensor(each.name, "BF16", each.shape, each.file, each.begin, 2 * each.size) if each.name in scales else each
        for each in tensors
    ]
    ordered = aligned(renamed)
    header, size = lay_out([(each.name, each.dtype, each.shape, each.size) for each in ordered], metadata)
    old = {tensor.name: tensor for tensor in tensors}
    pieces, begin = [], len(header)
    for tensor in ordered:
        pieces.append(Piece(old[tensor.name], scales.get(tensor.name), begin, tensor.size))
        begin += tensor.size
    return Shard(name, header, tuple(pieces), size)


def _index(old: dict[str, Any], shards: list[Shard]) -> dict[str, Any]:
    places = {piece.tensor.name: shard.name for shard in shards for piece in shard.pieces}
    total = sum(piece.size for shard in shards for piece in shard.pieces)
    # Beside total_size transformers writes total_parameters, among which the scales were counted.
    metadata = {key: value for key, value in (old.get("metadata") or {}).items() if key != "total_parameters"}
    return {"metadata": metadata | {"total_size": total}, "weight_map": dict(sorted(places.items()))}
