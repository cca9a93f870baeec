"""Throughput against latency at rising rates, and the rate held within the objectives (make capacity's search)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from contract.checkout import ROOT
from contract.errors import ServeError
from loadtests.compare.doors import Absent, Door
from loadtests.compare.effort import WAYS, Effort

_PRECISION = 0.12
_SEEDS = 1000  # between two ways: they may ask one server, whose prefix cache knows what the other asked


def capacity(door: Door, effort: Effort, start: float, folder: Path) -> dict[str, Any]:
    """Open-loop load tests at rate after rate.

    Args:
        start: requests/s that are tried first.
        folder: where each rate's own report goes.

    Raises:
        Absent: there is no address to load, or no time for it.
        ServeError: the load test failed.
    """
    if not effort.capacity_s:
        raise Absent("--capacity-seconds is 0")
    if door.load is None:
        raise Absent("a bare process has no address that a load could be sent to")
    transport, host, model = door.load
    options = {
        "host": host,
        "transport": transport,
        "model": model,
        "rate": round(start, 3),
        "seconds": effort.step_s,
        "warm-up": effort.step_s / 4,
        "cool-down": effort.step_s / 12,
        "budget": effort.capacity_s,
        "precision": _PRECISION,
        "prompt-tokens": effort.input_tokens,
        "answer-tokens": effort.output_tokens,
        "extra": '{"ignore_eos": true}',
        "slo": effort.slo,
        "seed": _SEEDS * (1 + WAYS.index(door.way)),
        "workers": effort.clients if effort.clients > 1 else 0,
        "out": folder,
    }
    command = [sys.executable, "-m", "loadtests.load.capacity"]
    command += [f"--{name}={value}" for name, value in options.items()]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if run.returncode:
        raise ServeError(f"the search ended with code {run.returncode}: {(run.stderr or run.stdout)[-600:]}")
    said = json.loads((folder / "capacity.json").read_text())
    steps = sorted(said["steps"], key=lambda step: step["rate"])
    return {
        "sentence": said["sentence"],
        "holds_per_s": said["holds_per_s"],
        "finished": said["finished"],
        "steps": [_step(step) for step in steps],
    }


def _step(step: dict[str, Any]) -> dict[str, Any]:
    measured = {each["objective"].split(" ")[0].lower(): each["measured_s"] for each in step["slo"]}
    return {
        "rate": step["rate"],
        "held": step["held"],
        "valid": step["valid"],
        "tokens_per_s": step["output_tokens_per_s"],
        **{f"{name}_p95_ms": None if at is None else round(1000 * at, 1) for name, at in measured.items()},
        "failed": step["failed"],
    }
