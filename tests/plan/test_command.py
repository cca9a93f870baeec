"""``make plan`` as a user types it: by model, by deployment, from the hub, as a table and as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from build.plan.asked import Options, by_deployment
from build.plan.layout import Layout
from build.plan.machines import Machines
from build.plan.memory import Demand
from contract.spec import load_spec
from tests.build.hub import hub
from tests.plan.models import ROOT, path_of

R1 = "deepseek-ai/DeepSeek-R1"


def plan(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "build.plan", *arguments],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def r1(tmp_path: Path) -> Path:
    """DeepSeek-R1's repository, with a weight file that nobody may fetch."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text(path_of("deepseek-r1").read_text())
    (folder / "model-00001-of-000163.safetensors").write_bytes(b"weights")
    return folder


def test_a_table() -> None:
    run = plan("--model", str(path_of("deepseek-r1")), "--gpus", "h200x8")
    assert run.returncode == 0, run.stderr
    for part in (
        "671.03 billion, of which a token meets 36.63",
        "673.2 GB in fp8_block",
        "70,272 bytes a token",
        "1 × 8 h200: 139 GiB, 4800 GB/s, sm90, has FP8, NVLink",
        "15.4 GB more: the MTP module",
        "TP 8: an estimate by a roofline, not a measurement",
        "all-reduce (TP)",
    ):
        assert part in run.stdout, part
    assert max(map(len, run.stdout.splitlines())) <= 100


def test_json_of_a_deployment_from_the_hub_fetches_no_weights(r1: Path, tmp_path: Path) -> None:
    """The configuration that the project ships for R1: eight H200, attention by data."""
    cache = tmp_path / "cache"
    with hub(R1, r1) as endpoint:
        run = plan("configs/deepseek-r1-trtllm.yaml", "--json", HF_ENDPOINT=endpoint, HF_HOME=str(cache))
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["weights"]["bytes"] == 673_150_611_808
    assert found["gpus"]["name"] == "h200" and found["gpus"]["per_node"] == 8
    (layout,) = found["layouts"]
    assert layout["name"] == found["best"]["layout"] == "TP 8 × EP 8, attention by data"
    assert layout["fits"] and layout["largest_batch"] > 100
    assert [speed["batch"] for speed in found["best"]["estimates_of_one_copy"]] == [
        1,
        min(128, layout["largest_batch"]),
    ]
    assert {path.name for path in cache.rglob("*") if path.name.endswith((".json", ".safetensors"))} == {"config.json"}


def test_a_model_of_the_hub(r1: Path, tmp_path: Path) -> None:
    with hub(R1, r1) as endpoint:
        run = plan("--model", R1, "--gpus", "a100x8x4", HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "cache"))
    assert run.returncode == 0, run.stderr
    assert "a100 is sm80 and has no FP8" in run.stdout and "1342.1 GB in bf16" in run.stdout


def test_a_refusal() -> None:
    run = plan("--model", str(path_of("deepseek-r1")), "--gpus", "h100x8")
    assert run.returncode == 1 and not run.stdout and "Traceback" not in run.stderr
    assert run.stderr.startswith("✗ ") and "What would fit: GPUS=h100x8x2" in run.stderr
    assert plan().stderr == "✗ nothing to plan. Give MODEL=owner/name, or CONFIG=configs/NAME.yaml\n"


def test_what_a_deployment_asks_for(tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    source = f"name: x\nsource: {{kind: path, path: {path_of('llama-3.1-8b')}}}\n"
    limits = "limits: {max_seq_len: 4096, max_input_len: 3072, max_batch_size: 32, max_num_tokens: 2048}\n"
    vllm = "{gpu_memory_utilization: 0.8, kv_cache_dtype: fp8_e4m3, quantization: fp8}"
    config.write_text(
        f"{source}{limits}engine: {{runtime: vllm, precision: bf16, parallel: {{tensor: 2}}, vllm: {vllm}}}\n"
    )
    asked = by_deployment(load_spec(config), "h100x4", Options())
    assert asked.demand == Demand(4096, 3072, 32, 2048, "fp8", 0.8)
    assert (asked.layout, asked.precision) == (Layout(2), "fp8")
    for engine, cache, precision in (
        ("{runtime: sglang, precision: bf16, sglang: {kv_cache_dtype: fp8_e5m2, quantization: fp8}}", "fp8", "fp8"),
        ("{runtime: lmdeploy, precision: bf16, lmdeploy: {quant_policy: 4}}", "int4", "bf16"),
    ):
        config.write_text(f"{source}{limits}engine: {engine}\n")
        asked = by_deployment(load_spec(config), "h100", Options())
        assert (asked.demand.cache, asked.precision) == (cache, precision)
    trtllm = "{gpu: h100, gpus_per_node: 4, kv_cache: {precision: fp8}}"
    engine = f"engine: {{runtime: trtllm, precision: fp8, parallel: {{tensor: 4, pipeline: 2}}, trtllm: {trtllm}}}\n"
    config.write_text(source + limits + engine)
    asked = by_deployment(load_spec(config), "", Options())
    assert asked.machines == Machines("h100", 4, 2)
    assert asked.demand == Demand(4096, 3072, 32, 2048, "fp8", 0.9)
    assert (asked.layout, asked.precision) == (Layout(4, 2), "fp8")
