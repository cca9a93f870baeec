"""An unmodified client of NVIDIA's inflight_batcher_llm ensemble works: tritonclient, curl, [1, 1] shapes."""

import json
import queue
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from serving.supervisor import Running
from tests.e2e.servers import synthetic


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with synthetic(tmp_path_factory.mktemp("nvidia")) as running:
        yield running


def _input(name: str, value: object, dtype: str) -> grpcclient.InferInput:
    """As end_to_end_grpc_client.py of inflight_batcher_llm makes its inputs."""
    kinds = {"BYTES": object, "INT32": np.int32, "FP32": np.float32, "BOOL": bool, "UINT64": np.uint64}
    data = np.array([[value]] if not isinstance(value, list) else [value], dtype=kinds[dtype])
    tensor = grpcclient.InferInput(name, data.shape, dtype)
    tensor.set_data_from_numpy(data)
    return tensor


def _infer(server: Running, inputs: list[grpcclient.InferInput]) -> list[grpcclient.InferResult]:
    answers: queue.Queue[tuple[grpcclient.InferResult | None, Exception | None]] = queue.Queue()
    results = []
    with grpcclient.InferenceServerClient(f"127.0.0.1:{server.spec.ports.grpc}") as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("ensemble", inputs, request_id="1", enable_empty_final_response=True)
        while True:
            result, error = answers.get(timeout=30)
            if error:
                raise error
            assert result is not None
            response = result.get_response()
            if response.outputs:
                results.append(result)
            if response.parameters["triton_final_response"].bool_param:
                client.stop_stream()
                return results


def _text(result: grpcclient.InferResult) -> str:
    return str(result.as_numpy("text_output")[0][0].decode())


NVIDIA_INPUTS = [
    ("text_input", "Hello, Triton. ", "BYTES"),
    ("max_tokens", 40, "INT32"),
    ("bad_words", [b""], "BYTES"),
    ("stop_words", [b""], "BYTES"),
    ("top_k", 1, "INT32"),
    ("top_p", 1.0, "FP32"),
    ("temperature", 1.0, "FP32"),
    ("length_penalty", 1.0, "FP32"),
    ("repetition_penalty", 1.0, "FP32"),
    ("beam_width", 1, "INT32"),
    ("num_return_sequences", 1, "INT32"),
    ("seed", 7, "UINT64"),
    ("end_id", 2, "INT32"),
    ("pad_id", 2, "INT32"),
    ("return_log_probs", False, "BOOL"),
    ("return_context_logits", False, "BOOL"),
    ("return_generation_logits", False, "BOOL"),
    ("exclude_input_in_output", True, "BOOL"),
]


@pytest.mark.parametrize("stream", [True, False])
def test_tritonclient_with_nvidias_tensors(server: Running, stream: bool) -> None:
    inputs = [_input(name, value, dtype) for name, value, dtype in NVIDIA_INPUTS]
    results = _infer(server, [*inputs, _input("stream", stream, "BOOL")])
    assert "".join(map(_text, results)) == "Hello, Triton. Hello, Triton. Hello, Triton. "[:40]
    assert (len(results) > 1) == stream
    assert results[-1].as_numpy("finish_reason")[0][0] == b"length"
    assert results[-1].as_numpy("num_output_tokens").tolist() == [[40]]


def test_curl_generate_stream(server: Running) -> None:
    url = f"http://127.0.0.1:{server.spec.ports.http}/v2/models/ensemble/generate_stream"
    body = json.dumps({"text_input": "tide ", "max_tokens": 20, "stream": True})
    out = subprocess.run(["curl", "-sN", url, "-d", body], capture_output=True, text=True, check=True, timeout=30)
    events = [json.loads(line.removeprefix("data: ")) for line in out.stdout.splitlines() if line]
    assert "".join(event["text_output"] for event in events) == "tide tide tide tide "
    assert events[-1]["finish_reason"] == "length"


def test_sglangs_bench_serving(server: Running) -> None:
    """Its --backend trt: parameters of an older ensemble, and an end_id that no token has."""
    url = f"http://127.0.0.1:{server.spec.ports.http}/v2/models/ensemble/generate_stream"
    body = {
        "accumulate_tokens": True,
        "text_input": "tide ",
        "temperature": 0.000001,
        "top_p": 1.0,
        "max_tokens": 20,
        "stream": True,
        "min_length": 20,
        "end_id": 1048576,
    }
    out = subprocess.run(["curl", "-sN", url, "-d", json.dumps(body)], capture_output=True, text=True, timeout=30)
    events = [json.loads(line.removeprefix("data:")) for line in out.stdout.splitlines() if line]
    assert "".join(event["text_output"] for event in events) == "tide tide tide tide "


def test_the_model_answers_to_its_own_name_too(server: Running) -> None:
    url = f"http://127.0.0.1:{server.spec.ports.http}/v2/models/{server.spec.name}/generate"
    body = json.dumps({"text_input": "ab", "max_tokens": 4})
    out = subprocess.run(["curl", "-s", url, "-d", body], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(out.stdout)["text_output"] == "abab"


def test_every_config_is_valid_to_triton(server: Running, tmp_path: Path) -> None:
    with grpcclient.InferenceServerClient(f"127.0.0.1:{server.spec.ports.grpc}") as client:
        models = {model.name for model in client.get_model_repository_index().models}
        ready = {name for name in models if client.is_model_ready(name)}
        inputs = {tensor.name for tensor in client.get_model_metadata("ensemble").inputs}
    assert (
        models
        == ready
        == {"ensemble", "synthetic", *(f"synthetic_{s}" for s in ("preprocess", "engine", "postprocess"))}
    )
    assert {name for name, _, _ in NVIDIA_INPUTS} <= inputs
