"""How a precision stores a matrix: which tensors stand in a checkpoint for each weight, and what computes with them."""

import fnmatch
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from build.plan.config import Config
from build.plan.weights import Weight
from contract.errors import BuildError

# Bytes of a number, by safetensors' names.
BYTES = {"F32": 4, "I32": 4, "I64": 8, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E8M0": 1, "I8": 1, "U8": 1}
_PLAIN = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}

# Outputs and inputs of a matrix → suffix, shape and dtype of every tensor that stands for it.
Tensors = tuple[tuple[str, tuple[int, ...], str], ...]


@dataclass(frozen=True)
class Scheme:
    """A precision of weights."""

    name: str  # as engine.precision has it, where it has it
    dtype: str  # of what is not quantized
    tensors: Callable[[int, int], Tensors] | None = None  # None: nothing is quantized
    compute: str = "bf16"  # bf16, int8, fp8 or fp4: what multiplies
    block: tuple[int, int] = (1, 1)  # outputs and inputs that a GPU's part must have whole
    skip: tuple[str, ...] = ()  # modules that are not quantized: names, patterns, or re:…
    fused_only: bool = False  # of experts that are one tensor


@dataclass(frozen=True)
class Stored:
    """One tensor of a checkpoint file, or one of each expert."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int

    @property
    def bytes(self) -> int:
        """Of all experts' tensors."""
        return math.prod(self.shape) * BYTES[self.dtype] * self.count


def stored(weight: Weight, scheme: Scheme) -> Iterator[Stored]:
    """What a checkpoint holds for a weight."""
    if scheme.tensors is None or not takes(weight, scheme):
        yield Stored(weight.name, weight.shape, weight.dtype or scheme.dtype, weight.count)
        return
    if weight.fused:
        experts, inputs, outputs = weight.shape
        for suffix, shape, dtype in scheme.tensors(outputs, inputs):
            yield Stored(weight.name + suffix, (experts, *shape), dtype, weight.count)
        return
    module = weight.name.removesuffix(".weight")
    for suffix, shape, dtype in scheme.tensors(*weight.shape):
        yield Stored(f"{module}.{suffix}", shape, dtype, weight.count)


def takes(weight: Weight, scheme: Scheme) -> bool:
    """Whether a scheme quantizes a weight."""
    if not weight.linear or (scheme.fused_only and not weight.fused):
        return False
    module = weight.name.removesuffix(".weight").replace("*", "0")
    return not any(_names(pattern, module) for pattern in scheme.skip)


def _names(pattern: str, module: str) -> bool:
    """Whether an entry of a list of modules means this one."""
    if pattern.startswith("re:"):
        return re.match(pattern[3:], module) is not None
    if "*" in pattern:
        return fnmatch.fnmatchcase(module, pattern) or fnmatch.fnmatchcase(module, f"{pattern}.*")
    return f".{pattern}." in f".{module}."


def _of_fp8_block(rows: int, columns: int, dtype: str = "F8_E4M3") -> Callable[[int, int], Tensors]:
    return lambda outputs, inputs: (
        ("weight", (outputs, inputs), dtype),
        ("weight_scale_inv", (-(-outputs // rows), -(-inputs // columns)), "F32"),
    )


def _of_channels(dtype: str, scale: str) -> Callable[[int, int], Tensors]:
    return lambda outputs, inputs: (("weight", (outputs, inputs), dtype), ("weight_scale", (outputs, 1), scale))


def _of_tensor(scale: str, shape: tuple[int, ...], static: bool) -> Callable[[int, int], Tensors]:
    def tensors(outputs: int, inputs: int) -> Tensors:
        given = (("weight", (outputs, inputs), "F8_E4M3"), ("weight_scale", shape, scale))
        return (*given, ("input_scale", shape, scale)) if static else given

    return tensors


def _groups(inputs: int, group: int) -> int:
    """Of inputs that share a scale; a size of -1 is all of them."""
    return -(-inputs // group) if group > 0 else 1


def _of_awq(bits: int, group: int) -> Callable[[int, int], Tensors]:
    return lambda outputs, inputs: (
        ("qweight", (inputs, outputs * bits // 32), "I32"),
        ("qzeros", (_groups(inputs, group), outputs * bits // 32), "I32"),
        ("scales", (_groups(inputs, group), outputs), "F16"),
    )


def _of_gptq(bits: int, group: int) -> Callable[[int, int], Tensors]:
    return lambda outputs, inputs: (
        ("qweight", (inputs * bits // 32, outputs), "I32"),
        ("qzeros", (_groups(inputs, group), outputs * bits // 32), "I32"),
        ("scales", (_groups(inputs, group), outputs), "F16"),
        ("g_idx", (inputs,), "I32"),
    )


def _of_packed(bits: int, group: int, scale: str) -> Callable[[int, int], Tensors]:
    return lambda outputs, inputs: (
        ("weight_packed", (outputs, inputs * bits // 32), "I32"),
        ("weight_scale", (outputs, _groups(inputs, group)), scale),
        ("weight_shape", (2,), "I64"),
    )


def _nvfp4(outputs: int, inputs: int) -> Tensors:
    return (
        ("weight", (outputs, inputs // 2), "U8"),
        ("weight_scale", (outputs, inputs // 16), "F8_E4M3"),
        ("weight_scale_2", (), "F32"),
        ("input_scale", (), "F32"),
    )


def _mxfp4(outputs: int, inputs: int) -> Tensors:
    return ("_blocks", (outputs, inputs // 32, 16), "U8"), ("_scales", (outputs, inputs // 32), "U8")


def _int8(outputs: int, inputs: int) -> Tensors:
    return ("weight", (outputs, inputs), "I8"), ("weight_scale", (outputs, 1), "F32")


def _int4(outputs: int, inputs: int) -> Tensors:
    return ("weight", (outputs, inputs // 2), "U8"), ("weight_scale", (outputs, 1), "F32")


def named(precision: str, dtype: str) -> Scheme:
    """The scheme that a deployment's engine.precision means, whatever the checkpoint is in.

    Raises:
        BuildError: there is no such precision.
    """
    if precision in _PLAIN:
        return Scheme(precision, _PLAIN[precision])
    kinds = {
        "int8": Scheme("int8", dtype, _int8),
        "int4": Scheme("int4", dtype, _int4),
        "int4_awq": Scheme("int4_awq", dtype, _of_awq(4, 128), block=(1, 128)),
        "int8_sq": Scheme("int8_sq", dtype, _int8, "int8"),
        "w4a8_awq": Scheme("w4a8_awq", dtype, _of_awq(4, 128), "fp8", (1, 128)),
        "fp8": Scheme("fp8", dtype, _of_tensor("F32", (), static=True), "fp8"),
        "fp8_rowwise": Scheme("fp8_rowwise", dtype, _of_channels("F8_E4M3", "F32"), "fp8"),
        "fp8_block": Scheme("fp8_block", dtype, _of_fp8_block(128, 128), "fp8", (128, 128)),
        "nvfp4": Scheme("nvfp4", dtype, _nvfp4, "fp4", (1, 16)),
    }
    if precision not in kinds:
        raise BuildError(f"PRECISION={precision} is not known", fix=f"Known: {', '.join((*_PLAIN, *kinds))}")
    return kinds[precision]


def own(config: Config) -> Scheme:
    """The scheme that the checkpoint itself is in.

    Raises:
        BuildError: by a method that the plan does not know.
    """
    found = config.quantization
    dtype = config.dtype
    if not found:
        return Scheme(next(name for name, value in _PLAIN.items() if value == dtype), dtype)
    method = str(found.get("quant_method"))
    if method not in METHODS:
        raise BuildError(
            f"{config.name}: the plan does not know quant_method {method}",
            fix=f"Known: {', '.join(METHODS)}. PRECISION= plans for another",
        )
    skip = [
        str(each)
        for key in ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
        for each in found.get(key) or ()
    ]
    return replace(METHODS[method](config, found, dtype), skip=tuple(skip))


def _fp8(config: Config, found: dict[str, Any], dtype: str) -> Scheme:
    if block := found.get("weight_block_size"):
        rows, columns = _pair(config, block)
        return Scheme("fp8_block", dtype, _of_fp8_block(rows, columns), "fp8", (rows, columns))
    static = found.get("activation_scheme") == "static"
    return Scheme("fp8", dtype, _of_tensor("F32", (), static), "fp8")


def _blockwise_int8(config: Config, found: dict[str, Any], dtype: str) -> Scheme:
    rows, columns = _pair(config, found.get("weight_block_size"))
    return Scheme("int8_block", dtype, _of_fp8_block(rows, columns, "I8"), "int8", (rows, columns))


def _awq(config: Config, found: dict[str, Any], dtype: str) -> Scheme:
    bits, group = _number(config, found, "bits"), _number(config, found, "group_size")
    return Scheme("int4_awq" if bits == 4 else f"int{bits}_awq", dtype, _of_awq(bits, group), block=(1, max(1, group)))


def _gptq(config: Config, found: dict[str, Any], dtype: str) -> Scheme:
    bits, group = _number(config, found, "bits"), _number(config, found, "group_size")
    return Scheme(f"int{bits}_gptq", dtype, _of_gptq(bits, group), block=(1, max(1, group)))


def _mxfp4_method(config: Config, found: dict[str, Any], dtype: str) -> Scheme:
    return Scheme("mxfp4", dtype, _mxfp4, fused_only=True)


def _modelopt(config: Config, found: dict[str, Any], dtype: str) -> Scheme:
    algorithm = str(found.get("quant_algo"))
    known = {"FP8": "fp8", "NVFP4": "nvfp4"}
    if algorithm not in known:
        raise BuildError(f"{config.name}: quant_algo {algorithm} is not known", fix=f"Known: {', '.join(known)}")
    return named(known[algorithm], dtype)


def _compressed(config: Config, found: dict[str, Any], dtype: str) -> Scheme:
    """compressed-tensors, as llm-compressor writes it: one group for all linear layers."""
    groups = list((found.get("config_groups") or {}).values())
    weights = groups[0].get("weights") if len(groups) == 1 else None
    if not weights:
        raise BuildError(f"{config.name}: config_groups has not exactly one group", fix="PRECISION= plans for another")
    kind, bits, strategy = weights.get("type"), weights.get("num_bits"), weights.get("strategy")
    inputs = groups[0].get("input_activations") or {}
    static = bool(inputs) and not inputs.get("dynamic")
    if kind == "float" and bits == 8:
        if strategy == "block":
            rows, columns = _pair(config, weights.get("block_structure"))
            return Scheme("fp8_block", dtype, _of_fp8_block(rows, columns), "fp8", (rows, columns))
        if strategy == "tensor":
            return Scheme("fp8", dtype, _of_tensor(dtype, (1,), static), "fp8")
        return Scheme("fp8_rowwise", dtype, _of_channels("F8_E4M3", dtype), "fp8")
    if kind == "int" and bits == 8 and inputs:
        return Scheme("int8_sq", dtype, _of_channels("I8", dtype), "int8")
    if kind == "int" and bits in (4, 8) and weights.get("symmetric", True):
        group = int(weights.get("group_size") or 0)
        return Scheme(f"int{bits}_packed", dtype, _of_packed(bits, group, dtype), block=(1, max(1, group)))
    raise BuildError(
        f"{config.name}: compressed-tensors of {bits}-bit {kind} are not known",
        fix="Known: 8-bit float, 8-bit int, symmetric 4-bit int. PRECISION= plans for another",
    )


def _pair(config: Config, block: Any) -> tuple[int, int]:
    if isinstance(block, list) and len(block) == 2 and all(isinstance(each, int) and each > 0 for each in block):
        return block[0], block[1]
    raise BuildError(f"{config.name}: weight_block_size is {block!r} and must be two sizes", fix="Write [128, 128]")


def _number(config: Config, found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or value == 0 or (name == "bits" and value not in (2, 3, 4, 8)):
        raise BuildError(f"{config.name}: quantization_config.{name} is {value!r}", fix="Use the config as published")
    return value


METHODS: dict[str, Callable[[Config, dict[str, Any], str], Scheme]] = {
    "fp8": _fp8,
    "blockwise_int8": _blockwise_int8,
    "awq": _awq,
    "gptq": _gptq,
    "mxfp4": _mxfp4_method,
    "modelopt": _modelopt,
    "compressed-tensors": _compressed,
}
