"""Models that a test plans: the numeric facts of famous ones (configs/models), changed where a test wants it."""

import json
from pathlib import Path
from typing import Any

from build.plan.architectures import shapes_of
from build.plan.asked import Asked
from build.plan.config import Config
from build.plan.layout import Layout, Load
from build.plan.machines import Machines, parse_machines
from build.plan.memory import Demand
from build.plan.planner import Plan, make_plan
from build.plan.quantization import own

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "configs" / "models"

# As each is published: what its quantization_config says.
INT8 = {"quant_method": "blockwise_int8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}

R1_CONTEXT = 163_840
# SGLang's guide to DeepSeek-V3: weights, how a checkpoint says so, and the GPUs that it lists.
R1_LISTED: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("FP8, as published", {}, ("h200x8", "h100x8x2", "h800x8x2", "h20x8x2")),
    ("BF16, cast from it", {"quantization_config": None}, ("h200x8x2", "a100x8x4", "a800x8x4")),
    ("INT8 in blocks", {"quantization_config": INT8}, ("a100x8x2",)),
    ("AWQ, 4 bits", {"quantization_config": AWQ}, ("a100x8", "h100x8", "h20x8")),
)


def path_of(name: str) -> Path:
    return MODELS / f"{name}.json"


def config_of(name: str, **changes: Any) -> Config:
    """A model's config; a change to None takes the field out."""
    values = json.loads(path_of(name).read_text()) | changes
    values = {key: value for key, value in values.items() if not (key in changes and value is None)}
    return Config(f"{name}.json", values, values["architectures"][0], values.get("quantization_config") or {})


def load_of(name: str, **changes: Any) -> Load:
    config = config_of(name, **changes)
    return Load(shapes_of(config), own(config))


def plan_of(
    name: str,
    gpus: str | Machines,
    *,
    precision: str = "",
    layout: Layout | None = None,
    length: int = 8192,
    prompt: int = 0,
    batch: int = 256,
    cache: str = "auto",
    **changes: Any,
) -> Plan:
    machines = parse_machines(gpus) if isinstance(gpus, str) else gpus
    demand = Demand(length, prompt or length // 2, batch, 8192, cache)
    return make_plan(Asked(config_of(name, **changes), machines, demand, precision, layout))
