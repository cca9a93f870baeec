"""Bench tools against the default deployment: every request of theirs ends well, and counts what they asked for."""

import json
from pathlib import Path

import pytest

from serving.supervisor import Running
from tests.e2e.servers import CODE
from tests.gateway.conftest import origin
from tests.real.conftest import installed, said

pytestmark = pytest.mark.long

TOKENIZER = str((CODE / "engines" / "smollm2-135m" / "current").resolve())


def test_aiperf(real: Running, tmp_path: Path) -> None:
    """With the usage in each chunk."""
    asked = ["--request-count", "6", "--concurrency", "2", "--synthetic-input-tokens-mean", "20"]
    asked += ["--output-tokens-mean", "20", "--extra-inputs", "ignore_eos:true", "--streaming"]
    counted = ["--use-server-token-count", "--per-chunk-usage", "--tokenizer", TOKENIZER]
    alone = ["--no-server-metrics", "--no-gpu-telemetry", "--ui", "none", "--output-artifact-dir", str(tmp_path)]
    where = ["--model", real.spec.name, "--url", origin(real), "--endpoint-type", "chat"]
    # Offline by name, it takes no folder for a tokenizer.
    said([installed("aiperf/bin/aiperf"), "profile", *where, *asked, *counted, *alone], tmp_path, HF_HUB_OFFLINE="")
    records = [json.loads(line) for line in (tmp_path / "profile_export.jsonl").read_text().splitlines()]
    assert [record["metrics"]["output_sequence_length"]["value"] for record in records] == [20] * 6


def test_guidellm(real: Running, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = {
        "backend": f"kind=openai_http,target={origin(real)},model={real.spec.name}",
        "profile": "kind=synchronous",
        "constraint": "kind=max_requests,count=3",
        "tokenizer": f"kind=hf_auto,model={TOKENIZER}",
        "data": "kind=synthetic_text,prompt_tokens=20,output_tokens=10",
        "output": f"kind=json,path={report}",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    said([installed("guidellm/bin/guidellm"), "run", *words, "--disable-console"], tmp_path)
    (benchmark,) = json.loads(report.read_text())["benchmarks"]
    assert {state: len(requests) for state, requests in benchmark["requests"].items() if state != "total"} == {
        "successful": 3,
        "errored": 0,
        "incomplete": 0,
    }


@pytest.mark.parametrize(
    ("backend", "more"),
    [
        ("sglang-oai-chat", {"separate_reasoning": True, "tools": []}),
        ("sglang-oai", {"stream_options": {"continuous_usage_stats": True, "include_usage": False}}),
        ("vllm-chat", {"top_k": -1}),
        ("vllm", {"min_p": 0}),
        ("lmdeploy", {}),
        ("trt", {}),
    ],
)
def test_sglang(real: Running, tmp_path: Path, backend: str, more: dict[str, object]) -> None:
    """Each asks past the model's end of text, with what --extra-request-body puts beside it; one asks Triton itself."""
    report = tmp_path / "report.jsonl"
    own = backend == "trt"
    counted = {} if own else {"stream_options": {"continuous_usage_stats": True}}
    options = {
        "backend": backend,
        "base-url": f"http://127.0.0.1:{real.spec.ports.http}" if own else origin(real),
        "model": real.spec.name,
        "tokenizer": TOKENIZER,
        "dataset-name": "random-ids",
        "random-input-len": "20",
        "random-output-len": "12",
        "random-range-ratio": "1",
        "num-prompts": "4",
        "max-concurrency": "2",
        "extra-request-body": json.dumps(counted | more),
        "output-file": str(report),
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    said([installed("sglang/bin/python"), "-m", "sglang.bench_serving", *words, "--output-details"], tmp_path)
    found = json.loads(report.read_text())
    assert (found["completed"], found["errors"]) == (4, [""] * 4)
    assert found["output_lens"] == [12] * 4
    assert all(found["generated_texts"])
