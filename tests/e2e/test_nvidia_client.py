"""Clients written for NVIDIA's inflight_batcher_llm work: its own programs' calls, LlamaIndex's, curl, bench tools."""

import json
import queue
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from contract.nvidia import TOKENS
from contract.stage import admin_key
from serving.supervisor import Running
from serving.triton import ADMIN_METADATA
from tests.e2e.servers import metric, synthetic
from tests.serving.stream import until

PROMPT = "Hello, Triton. "
SAID = (PROMPT * 3)[:40]
STAGES = {f"synthetic_{stage}" for stage in ("preprocess", "engine", "postprocess")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with synthetic(tmp_path_factory.mktemp("nvidia")) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[grpcclient.InferenceServerClient]:
    with grpcclient.InferenceServerClient(f"127.0.0.1:{server.spec.ports.grpc}") as opened:
        yield opened


def as_tensors(values: dict[str, Any], kind: Any = grpcclient) -> list[Any]:
    """Inputs as NVIDIA's programs prepare them: the dtype is the array's own."""
    tensors = []
    for name, value in values.items():
        tensor = kind.InferInput(name, value.shape, np_to_triton_dtype(value.dtype))
        tensor.set_data_from_numpy(value)
        tensors.append(tensor)
    return tensors


def int32(*values: int) -> Any:
    return np.array([values], dtype=np.int32)


def fp32(value: float) -> Any:
    return np.array([[value]], dtype=np.float32)


def flag(value: bool) -> Any:
    return np.array([[value]], dtype=bool)


def text(value: str) -> Any:
    return np.array([[value]]).astype(object)


def stream(
    client: grpcclient.InferenceServerClient, model: str, values: dict[str, Any], outputs: list[str] | None = None
) -> list[grpcclient.InferResult]:
    """A stream as end_to_end_grpc_client opens it: what came back once the server has closed it."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put(error or result))
    wanted = outputs and [grpcclient.InferRequestedOutput(name) for name in outputs]
    client.async_stream_infer(model, as_tensors(values), outputs=wanted, request_id="1")
    client.stop_stream()
    results = list(answers.queue)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def end_to_end(streaming: bool, **more: Any) -> dict[str, Any]:
    """What end_to_end_grpc_client.py sends unless told otherwise."""
    return {
        "text_input": text(PROMPT),
        "max_tokens": int32(40),
        "stream": flag(streaming),
        "beam_width": int32(1),
        "temperature": fp32(1.0),
        "exclude_input_in_output": flag(False),
        **more,
    }


@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls"])
def test_end_to_end_grpc_client(client: grpcclient.InferenceServerClient, model: str) -> None:
    """Whole: the prompt precedes, as that program's own --check-outputs expects."""
    values = end_to_end(False, return_log_probs=flag(False), num_return_sequences=int32(1))
    (result,) = stream(client, model, values, ["text_output"])
    output = result.as_numpy("text_output")
    assert output.shape == (1,)
    assert output[0].decode("utf-8") == PROMPT + SAID


def test_end_to_end_grpc_client_streaming(client: grpcclient.InferenceServerClient) -> None:
    results = stream(client, "ensemble", end_to_end(True, end_id=int32(-1), pad_id=int32(-1)), ["text_output"])
    assert len(results) > 1
    assert {result.as_numpy("text_output").shape for result in results} == {(1,)}
    assert "".join(result.as_numpy("text_output")[0].decode() for result in results) == SAID


def test_shapes_are_nvidias(client: grpcclient.InferenceServerClient) -> None:
    """postprocessing's [beams], and [1, beams, …] of what tensorrt_llm makes; nothing that nobody asked for."""
    last = stream(client, "ensemble", end_to_end(True))[-1]
    shapes = {tensor.name: tuple(tensor.shape) for tensor in last.get_response().outputs}
    tokens = shapes.pop("output_ids")[1]
    assert shapes == {
        "text_output": (1,),
        "finish_reason": (1,),
        "num_input_tokens": (1, 1),
        "num_output_tokens": (1, 1),
        "num_cached_tokens": (1, 1),
    }
    assert tokens >= 1


@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls", "tensorrt_llm_streaming"])
def test_performance_metrics(client: grpcclient.InferenceServerClient, model: str) -> None:
    """int64 and [1, 1], as its tensorrt_llm makes them; in an answer of a model that answers infer too."""
    wanted = ["arrival_time_ns", "first_scheduled_time_ns", "first_token_time_ns", "last_token_time_ns"]
    values = end_to_end(False, return_perf_metrics=flag(True))
    if model == "tensorrt_llm_streaming":
        values = {"input_ids": int32(5, 6), "input_lengths": int32(2), "request_output_len": int32(9)}
        values["return_perf_metrics"] = flag(True)
    moments = [stream(client, model, values)[-1].as_numpy(name) for name in wanted]
    assert {(moment.shape, moment.dtype.name) for moment in moments} == {((1, 1), "int64")}
    told = [int(moment[0, 0]) for moment in moments]
    assert told == sorted(told) and told[0] < told[-1]


def test_every_input_that_its_programs_know(client: grpcclient.InferenceServerClient) -> None:
    more = {
        "bad_words": text(""),
        "stop_words": text(""),
        "top_k": int32(1),
        "top_p": fp32(0.0),
        "length_penalty": fp32(2.0),
        "repetition_penalty": fp32(1.0),
        "num_return_sequences": int32(1),
        "seed": np.array([[7]], dtype=np.uint64),
        "random_seed": np.array([[7]], dtype=np.uint64),
        "end_id": int32(2),
        "pad_id": int32(2),
        "num_draft_tokens": int32(0),
        "return_context_logits": flag(False),
        "return_generation_logits": flag(False),
        "return_perf_metrics": flag(False),
        "return_num_input_tokens": flag(True),
    }
    (result,) = stream(client, "ensemble", end_to_end(False, **more))
    assert result.as_numpy("finish_reason")[0] == b"length"
    assert result.as_numpy("num_output_tokens").tolist() == [[40]]


def core_model(streaming: bool, **more: Any) -> dict[str, Any]:
    """What inflight_batcher_llm_client.py sends to tensorrt_llm, with the ids from a file."""
    return {
        "input_ids": int32(5, 6, 7),
        "input_lengths": int32(3),
        "request_output_len": int32(8),
        "beam_width": int32(1),
        "temperature": fp32(1.0),
        "streaming": flag(streaming),
        "end_id": int32(-1),
        "pad_id": int32(50256),
        "runtime_top_k": int32(1),
        "runtime_top_p": fp32(0.0),
        **more,
    }


GENERATED = [5, 6, 7, 5, 6, 7, 5, 6]


def test_inflight_batcher_llm_client(client: grpcclient.InferenceServerClient) -> None:
    """Its default: async_infer, the prompt's ids first, cut by sequence_length."""
    done: queue.Queue[Any] = queue.Queue()
    client.async_infer(
        "tensorrt_llm",
        as_tensors(core_model(False)),
        request_id="1",
        callback=lambda result, error: done.put(error or result),
        parameters={"Streaming": False},
    )
    result = done.get(timeout=30)
    assert not isinstance(result, Exception), result
    assert result.as_numpy("output_ids").tolist() == [[[5, 6, 7, *GENERATED]]]
    assert result.as_numpy("sequence_length").tolist() == [[11]]


def test_inflight_batcher_llm_client_excluding_the_input(client: grpcclient.InferenceServerClient) -> None:
    values = core_model(False, exclude_input_in_output=flag(True))
    wanted = [grpcclient.InferRequestedOutput(name) for name in ("output_ids", "sequence_length")]
    result = client.infer("tensorrt_llm", as_tensors(values), outputs=wanted)
    assert {tensor.name for tensor in result.get_response().outputs} == {"output_ids", "sequence_length"}
    assert result.as_numpy("output_ids").tolist() == [[GENERATED]]


def test_inflight_batcher_llm_client_streaming(client: grpcclient.InferenceServerClient) -> None:
    results = stream(client, "tensorrt_llm_streaming", core_model(True))
    ids = [token for result in results for token in result.as_numpy("output_ids")[0][0].tolist()]
    assert ids == GENERATED
    assert [result.as_numpy("sequence_length").tolist() for result in results] == [
        [[result.as_numpy("output_ids").shape[2]]] for result in results
    ]


def test_benchmark_core_model_over_http(server: Running) -> None:
    values = {name: core_model(False)[name] for name in ("input_ids", "input_lengths", "request_output_len")}
    with httpclient.InferenceServerClient(f"127.0.0.1:{server.spec.ports.http}") as client:
        values |= {"pad_id": int32(2), "end_id": int32(1)}
        result = client.async_infer("tensorrt_llm", as_tensors(values, httpclient), request_id="0").get_result()
    assert result.get_response()["id"] == "0"
    assert result.as_numpy("output_ids").shape == (1, 1, 11)


def test_a_quick_starts_infer(client: grpcclient.InferenceServerClient) -> None:
    """One call, one answer, under the name that does not stream; the one that does is Triton's to refuse."""
    values = as_tensors({"text_input": text(PROMPT), "max_tokens": int32(40)})
    assert client.infer("tensorrt_llm_bls", values).as_numpy("text_output")[0].decode() == SAID
    with pytest.raises(InferenceServerException, match="decoupled"):
        client.infer("ensemble", values)


@pytest.mark.parametrize("model", ["tensorrt_llm_bls", "tensorrt_llm"])
def test_who_asks_a_unary_model_to_stream_is_told_whom_to_ask(
    client: grpcclient.InferenceServerClient, model: str
) -> None:
    values = core_model(True) if model == "tensorrt_llm" else end_to_end(True)
    with pytest.raises(InferenceServerException, match=r"Ask ensemble .* or tensorrt_llm_streaming"):
        stream(client, model, values)


def test_a_unary_models_refusal_has_its_code(client: grpcclient.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"temperature: must be in \[0, 2\]") as refused:
        client.infer("tensorrt_llm_bls", as_tensors({"text_input": text(PROMPT), "temperature": fp32(9.0)}))
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls", "tensorrt_llm", "tensorrt_llm_streaming"])
def test_a_batch_is_refused_with_the_way_out(client: grpcclient.InferenceServerClient, model: str) -> None:
    """As end_to_end_grpc_client sends it with --batch-inputs: [2, 1]."""
    asked = end_to_end(False) if model in ("ensemble", "tensorrt_llm_bls") else core_model(False)
    values = {name: np.concatenate([value, value]) for name, value in asked.items()}
    said = r"(text_input|input_ids): 2 prompts in one request, of shape \[2, .\]\. Send each in a request of its own"
    with pytest.raises(InferenceServerException, match=said):
        stream(client, model, values)


def test_many_unary_requests_run_at_once(client: grpcclient.InferenceServerClient, server: Running) -> None:
    """More than Triton's 32 threads: what the batch takes, runs."""
    values = as_tensors({"text_input": text(PROMPT), "max_tokens": int32(400)})
    done: queue.Queue[Any] = queue.Queue()
    for _ in range(50):
        client.async_infer("tensorrt_llm_bls", values, callback=lambda result, error: done.put(error or result))
    for _ in until(10, "fifty streams at once"):
        if sum(metric(server, "conch_requests_active").values()) == 50:
            break
    results = [done.get(timeout=60) for _ in range(50)]
    assert {result.as_numpy("num_output_tokens").item() for result in results} == {400}


def test_a_client_that_leaves_a_unary_model_frees_its_slot(
    client: grpcclient.InferenceServerClient, server: Running
) -> None:
    values = as_tensors({"text_input": text(PROMPT), "max_tokens": int32(4000)})
    call = client.async_infer("tensorrt_llm_bls", values, callback=lambda result, error: None)
    for _ in until(10, "the request to run"):
        if sum(metric(server, "conch_requests_active").values()):
            break
    call.cancel()
    for _ in until(5, "the engine to stop"):
        if not sum(metric(server, "conch_streams_open").values()):
            break


@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls"])
def test_tritons_timeout_ends_the_request(
    client: grpcclient.InferenceServerClient, server: Running, model: str
) -> None:
    values = as_tensors({"text_input": text(PROMPT), "max_tokens": int32(4000)})
    done: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: done.put(error))
    began = time.monotonic()
    client.async_stream_infer(model, values, timeout=300_000)
    error = done.get(timeout=20)
    assert "[deadline_exceeded]" in str(error)
    assert time.monotonic() - began < 10  # of the forty seconds that it would take
    client.stop_stream()
    for _ in until(5, "the engine to stop"):
        if not sum(metric(server, "conch_requests_active").values()):
            break


def test_a_sequence_is_refused(client: grpcclient.InferenceServerClient) -> None:
    values = as_tensors({"text_input": text(PROMPT), "max_tokens": int32(4)})
    with pytest.raises(InferenceServerException, match="sequence_id"):
        client.infer("tensorrt_llm_bls", values, sequence_id=5, sequence_start=True)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"extra": 1.5}, "extra"),
        ({"extra": float("nan")}, "extra"),
        ({"timeout": 1.5}, "timeout"),
        ({"priority": 0.0}, ""),
    ],
)
def test_fractions_as_parameters(server: Running, more: dict[str, float], field: str) -> None:
    """A model of Triton 2.51 cannot hand them on."""
    address = f"http://127.0.0.1:{server.spec.ports.http}/v2/models/tensorrt_llm_bls/generate"
    body = json.dumps({"text_input": PROMPT, "max_tokens": 4} | more)
    run = subprocess.run(["curl", "-s", "-d", body, address], capture_output=True, text=True, check=True)
    answer = json.loads(run.stdout)
    assert answer.get("error", "").startswith(f"[invalid_request] {field}: " if field else "")
    assert bool(field) == ("error" in answer)


def test_llama_indexs_client(client: grpcclient.InferenceServerClient) -> None:
    """As llama-index-llms-nvidia-triton 0.6 does: a float seed of its own, top_p 0, JSON read back, a stop signal."""
    values = {
        "text_input": np.array([[PROMPT]]).astype(object),
        "max_tokens": int32(40),
        "top_k": int32(1),
        "top_p": fp32(0),
        "temperature": fp32(1.0),
        "length_penalty": fp32(1.0),
        "repetition_penalty": fp32(1.0),
        "random_seed": np.array([[0]], dtype=np.uint64),
        "beam_width": int32(1),
        "stream": flag(True),
    }
    results = stream(client, "ensemble", {**values, "repetition_penalty": fp32(1.0)}, ["text_output"])
    said = "".join("".join(token.decode() for token in result.as_numpy("text_output")) for result in results)
    assert said == SAID
    assert results[-1].get_response(as_json=True)["parameters"]["triton_final_response"]["bool_param"]


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


def test_every_config_is_valid_to_triton(server: Running, client: grpcclient.InferenceServerClient) -> None:
    admin = {ADMIN_METADATA: admin_key(server.folder)}
    models = {model.name for model in client.get_model_repository_index(headers=admin).models}
    assert models == {name for name in models if client.is_model_ready(name)}
    assert models == STAGES | {"ensemble", "synthetic", "tensorrt_llm", "tensorrt_llm_bls", "tensorrt_llm_streaming"}
    for model in ("tensorrt_llm", "tensorrt_llm_streaming"):
        metadata = client.get_model_metadata(model)
        assert {tensor.name for tensor in metadata.inputs} == set(TOKENS.inputs)
