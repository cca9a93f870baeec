"""Checkpoints in DeepSeek's block FP8, quantized from BF16 or random, and what the right BF16 of one is."""

import json
import shutil
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

BLOCK = 128
INDEX = "model.safetensors.index.json"
QUANTIZATION = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
_LARGEST = 448.0  # of e4m3

Bits = npt.NDArray[np.uint16]
# Every finite BF16 number of one sign, and the first that is beyond: what rounds to it is infinite.
_BITS = np.arange(0x7F80, dtype=np.uint32)
_NUMBERS = np.append((_BITS << 16).view(np.float32).astype(np.float64), 2.0**128)


def spread(scales: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The scale of every element."""
    return scales.repeat_interleave(BLOCK, 0)[: shape[0]].repeat_interleave(BLOCK, 1)[:, : shape[1]]


def to_fp8(weight: torch.Tensor, *, powers_of_two: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """BF16 → FP8 and the scale of every block, its largest element becoming e4m3's largest."""
    rows, columns = weight.shape
    down, right = ceil(rows / BLOCK), ceil(columns / BLOCK)
    padded = torch.zeros(down * BLOCK, right * BLOCK)
    padded[:rows, :columns] = weight.float().abs()
    scales = padded.view(down, BLOCK, right, BLOCK).amax((1, 3)).clamp(min=1e-12) / _LARGEST
    if powers_of_two:
        scales = torch.exp2(torch.ceil(torch.log2(scales)))
    return (weight.float() / spread(scales, (rows, columns))).to(torch.float8_e4m3fn), scales


def random_weight(rows: int, columns: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Any codes, NaN too, and scales as a checkpoint has them."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (rows, columns), dtype=torch.uint8, generator=generator)
    scales = torch.rand(ceil(rows / BLOCK), ceil(columns / BLOCK), generator=generator) * 1e-3 + 1e-6
    return codes.view(torch.float8_e4m3fn), scales


def write(folder: Path, shards: dict[str, dict[str, torch.Tensor]], **config: Any) -> Path:
    """A folder with these shards, an index and a config.json; no tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in shards.items():
        save_file(tensors, folder / name, metadata={"format": "pt"})
    if list(shards) != ["model.safetensors"]:
        places = {tensor: name for name, tensors in shards.items() for tensor in tensors}
        total = sum(tensor.nbytes for tensors in shards.values() for tensor in tensors.values())
        index = {"metadata": {"total_size": total, "total_parameters": 1}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index))
    whole = {"architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "quantization_config": QUANTIZATION}
    (folder / "config.json").write_text(json.dumps(whole | config))
    return folder


def quantize(checkpoint: Path, folder: Path) -> Path:
    """A Hugging Face checkpoint of one shard → block FP8 in two, with some scales away from their weights."""
    shutil.copytree(checkpoint, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    first: dict[str, torch.Tensor] = {}
    second: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith("_proj.weight"):
            first[name], second[f"{name}_scale_inv"] = to_fp8(tensor.bfloat16())
        else:
            second[name] = tensor.bfloat16()
    config = json.loads((folder / "config.json").read_text())
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    return write(folder, dict(zip(names, (first, second), strict=True)), **config | {"dtype": "bfloat16"})


def nearest(codes: torch.Tensor, scales: torch.Tensor) -> Bits:
    """The BF16 bits of codes × scales by search among all BF16 numbers, in float64, where the products are exact."""
    exact = (codes.double() * spread(scales, tuple(codes.shape)).double()).numpy()
    size = np.abs(exact)
    above = np.minimum(np.searchsorted(_NUMBERS, size), len(_NUMBERS) - 1)
    below = np.maximum(above - 1, 0)
    up, down = _NUMBERS[above] - size, size - _NUMBERS[below]
    bits = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below).astype(np.uint16)
    bits = np.where(size >= _NUMBERS[-1], 0x7F80, bits)
    bits = np.where(np.isnan(exact), 0x7FC0, bits)
    return np.asarray(bits | (np.signbit(exact).astype(np.uint16) << 15), dtype=np.uint16)


def bits_of(tensor: torch.Tensor) -> Bits:
    assert tensor.dtype == torch.bfloat16
    return np.asarray(tensor.view(torch.int16).numpy().view(np.uint16))
