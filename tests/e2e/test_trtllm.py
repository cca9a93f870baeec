"""Runtime trtllm from a checkpoint to a chat through the gateway: build, manifest, check, repository, Triton, ensemble.

TensorRT-LLM is its double (tests/doubles), whose tokens come from the default deployment's engine: so what a
client gets must be what OpenVINO would have said. All else is real.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from openai import OpenAI
from tokenizers import Tokenizer

from build.repository import write_repository
from clients import http
from clients.grpc import Client
from clients.request import joined
from contract.errors import ContextTooLong, InvalidRequest, UnsupportedByEngine
from contract.manifest import Manifest, load_manifest
from contract.spec import load_spec
from contract.tensors import FinishReason
from serving.supervisor import Running, running
from tests.e2e.servers import CODE, build, metric, on_free_ports
from tests.serving.stream import until

DOUBLES = CODE / "tests" / "doubles"
OPENVINO = CODE / "engines" / "smollm2-135m"
FRANCE = "The capital of France is"
PROMPTS = (FRANCE, "🙂🚀👩‍👩‍👧‍👦 Emoji, emoji: 🎉🎉🎉", "日本語の文章：今日は天気がいいですね。", "L'été à la plage — ")
EOS = 2


@pytest.fixture(scope="module", autouse=True)
def doubles() -> Iterator[None]:
    """Every process from here on finds the doubles first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(DOUBLES))
        patch.setenv("PATH", f"{DOUBLES / 'bin'}:{os.environ['PATH']}")
        patch.setenv("TRTLLM_DOUBLE_ENGINE", str(OPENVINO / "current"))
        yield


def config_of(root: Path, backend: str) -> Path:
    """A deployment of the default model's checkpoint, as make engine converted it."""
    (checkpoint,) = (OPENVINO / ".work").glob("convert-*")
    config = root / f"smollm2-{backend}.yaml"
    options: dict[str, Any] = {"backend": backend, "gpu": "h100", "log_probs": backend == "tensorrt"}
    if backend == "tensorrt":
        (root / "sea").mkdir()
        (root / "sea" / "adapter_config.json").write_text('{"r": 8}')
        options["lora"] = {"adapters": {"sea": str(root / "sea")}}
    data = {
        "name": config.stem,
        "source": {"kind": "path", "path": str(checkpoint)},
        "engine": {"runtime": "trtllm", "precision": "bf16", "trtllm": options},
        "limits": {"max_seq_len": 2048, "max_input_len": 1536, "max_num_tokens": 512, "max_batch_size": 32},
        "verify": {"reference": "none", "min_top1_agreement": 0.8},
    }
    config.write_text(yaml.safe_dump(data))
    return config


@pytest.fixture(scope="module", params=["tensorrt", "pytorch"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def root(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(backend)
    said = build(config_of(folder, backend), folder)
    stages = ("importing TensorRT-LLM", "building the engine", "saving the engine")
    assert all((stage in said) == (backend == "tensorrt") for stage in stages)
    return folder


@pytest.fixture(scope="module")
def manifest(root: Path, backend: str) -> Manifest:
    return load_manifest(root / "engines" / f"smollm2-{backend}" / "current")


@pytest.fixture(scope="module")
def server(root: Path, backend: str) -> Iterator[Running]:
    spec = on_free_ports(load_spec(root / f"smollm2-{backend}.yaml"))
    write_repository(root, spec, root / "engines" / spec.name / "current")
    with running(spec, root) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Client]:
    with Client(f"127.0.0.1:{server.spec.ports.grpc}") as connected:
        yield connected


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(OPENVINO / "current" / "tokenizer.json"))


def test_the_manifest_tells_what_it_is(manifest: Manifest, backend: str) -> None:
    assert manifest.gpu
    assert (manifest.gpu.backend, manifest.gpu.name, manifest.gpu.sm) == (backend, "NVIDIA H100 80GB HBM3", 90)
    assert manifest.measured is None
    if backend == "pytorch":
        assert "trtllm/model.safetensors" in manifest.files
        return
    assert (manifest.built_with["tensorrt_llm"], manifest.built_with["tensorrt"]) == ("1.2.1", "10.14.1.48")
    assert manifest.gpu.options["build_config.max_batch_size"] == 33
    assert "trtllm/rank0.engine" in manifest.files


@pytest.mark.long
def test_an_engine_is_verified_against_its_checkpoint(tmp_path: Path) -> None:
    """The double's tokens are an int8 engine's, which the fp32 reference knows to be near."""
    config = config_of(tmp_path, "tensorrt")
    config.write_text(config.read_text().replace("reference: none", "reference: cpu"))
    assert "verifying against the fp32 reference" in build(config, tmp_path)
    measured = load_manifest(tmp_path / "engines" / "smollm2-tensorrt" / "current").measured
    assert measured and 0.8 < measured.top1_agreement < 1
    assert measured.perplexity_ratio is None
    assert measured.tokens_compared > 200


def test_a_second_build_finds_its_work_done(root: Path, backend: str) -> None:
    assert "is there already" in build(root / f"smollm2-{backend}.yaml", root)


def test_check_compares_it_with_the_machine(server: Running, root: Path, backend: str) -> None:
    command = [sys.executable, "-m", "serving", "check", str(server.folder / "config.yaml"), "--root", str(root)]
    run = subprocess.run(command, cwd=CODE, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert (
        "OK  gpus: 2 × NVIDIA H100 80GB HBM3, driver 590.44.01, TensorRT-LLM 1.2.1, TensorRT 10.14.1.48" in run.stdout
    )


def test_a_machine_that_does_not_fit_is_refused_before_the_start(root: Path, backend: str, tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '0, GPU-0, NVIDIA A100-SXM4-80GB, 8.0, 81920, 550.54.14'\n")
    smi.chmod(0o755)
    spec = on_free_ports(load_spec(root / f"smollm2-{backend}.yaml"))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    (tmp_path / "engines").symlink_to(root / "engines")
    for verb in ("check", "serve"):
        run = subprocess.run(
            [sys.executable, "-m", "serving", verb, str(config), "--root", str(tmp_path)],
            cwd=CODE,
            env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 1
        assert "the driver is 550.54.14, the container needs 590 or newer. Update the driver" in run.stderr
        built_for = "the engine was built for sm90 (NVIDIA H100 80GB HBM3), NVIDIA A100-SXM4-80GB is sm80"
        assert (built_for in run.stderr) == (backend == "tensorrt")
        assert "Traceback" not in run.stderr


@pytest.mark.parametrize("prompt", PROMPTS)
def test_joined_deltas_are_the_one_shot_decode(client: Client, tokenizer: Tokenizer, prompt: str) -> None:
    deltas = list(client.stream(prompt, max_tokens=32))
    assert len(deltas) > 1
    for answer in (joined(deltas), client.generate(prompt, max_tokens=32)):
        assert answer.text == tokenizer.decode(list(answer.output_ids), skip_special_tokens=True)
        assert answer.num_output_tokens == len(answer.output_ids) > 16
        assert answer.num_input_tokens == len(tokenizer.encode(prompt).ids)


def test_http_says_the_same(server: Running, client: Client) -> None:
    address = f"127.0.0.1:{server.spec.ports.http}"
    assert joined(http.stream(FRANCE, address=address, max_tokens=24)) == client.generate(FRANCE, max_tokens=24)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_stop_strings_never_leak(client: Client, stream: bool) -> None:
    free = client.generate(FRANCE, max_tokens=24)
    for start in range(1, len(free.text) - 8, 7):
        stop = free.text[start : start + 7]
        options: dict[str, Any] = {"max_tokens": 24, "stop_words": [stop]}
        answer = joined(client.stream(FRANCE, **options)) if stream else client.generate(FRANCE, **options)
        assert answer.text == free.text[: free.text.index(stop)]
        assert answer.finish_reason == FinishReason.STOP


def test_the_end_of_sequence_is_an_id_without_text(client: Client) -> None:
    guide: dict[str, Any] = {"guided_decoding_guide_type": "regex", "guided_decoding_guide": "yes"}
    answer = client.generate(FRANCE, max_tokens=24, **guide)
    assert (answer.text, answer.finish_reason, answer.output_ids[-1]) == ("yes", FinishReason.STOP, EOS)


def test_a_client_that_leaves_frees_its_slot(server: Running, client: Client) -> None:
    """Long before the request would have ended by itself."""
    cancelled = 'finish_reason="cancelled"'

    def count() -> float:
        found = metric(server, "conch_requests_total")
        return sum(value for labels, value in found.items() if cancelled in labels)

    before = count()
    for _ in client.stream(FRANCE, max_tokens=1900, ignore_eos=True):
        break
    for _ in until(30, "the slot to be free"):
        if count() == before + 1 and not sum(metric(server, "conch_requests_active").values()):
            break


def test_a_crowd_is_served_by_one_process(server: Running, tokenizer: Tokenizer) -> None:
    address = f"127.0.0.1:{server.spec.ports.grpc}"

    def ask(number: int) -> Any:
        with Client(address) as own:
            return joined(own.stream(FRANCE, max_tokens=16))

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(32)))
    # An int8 engine may turn a near-tie in a batch, so texts are compared with their ids and not with each other.
    for answer in answers:
        assert answer.num_output_tokens == 16
        assert answer.text == tokenizer.decode(list(answer.output_ids), skip_special_tokens=True)
    for _ in until(10, "every request to be forgotten"):
        if not sum(metric(server, "conch_requests_active").values()):
            break


def test_seeds_and_log_probs_where_the_backend_has_them(client: Client, backend: str) -> None:
    asked: tuple[dict[str, Any], ...] = ({"temperature": 1.0, "seed": 7}, {"return_log_probs": True})
    for options in asked:
        if backend == "tensorrt":
            first = client.generate(FRANCE, max_tokens=12, **options)
            assert client.generate(FRANCE, max_tokens=12, **options) == first
            assert (len(first.log_probs) == len(first.output_ids)) == ("return_log_probs" in options)
        else:
            with pytest.raises(UnsupportedByEngine, match="is not supported by the trtllm engine"):
                client.generate(FRANCE, max_tokens=12, **options)


def test_what_cannot_be_is_refused_by_name(client: Client) -> None:
    with pytest.raises(ContextTooLong):
        client.generate("tide " * 1600, max_tokens=4)
    with pytest.raises(InvalidRequest, match="temperature"):
        client.generate(FRANCE, temperature=9.0)
    for options in ({"bad_words": ["sea"]}, {"beam_width": 2}):
        with pytest.raises(UnsupportedByEngine, match=next(iter(options))):
            client.generate(FRANCE, max_tokens=4, **options)


def test_adapters_are_chosen_by_name(client: Client, backend: str) -> None:
    if backend == "tensorrt":
        assert client.generate(FRANCE, max_tokens=4, lora_name="sea").text  # its double has no weights to differ by
        refusal, words = InvalidRequest, "lora_name: there is no adapter 'moon'; there are sea"
    else:
        refusal, words = UnsupportedByEngine, "lora_name: is not supported by the trtllm engine"
    with pytest.raises(refusal, match=words) as refused:
        client.generate(FRANCE, max_tokens=4, lora_name="moon")
    assert refused.value.field == "lora_name"


def test_the_gateway_knows_no_difference(server: Running, backend: str) -> None:
    openai = OpenAI(base_url=f"http://127.0.0.1:{server.spec.ports.gateway}/v1", api_key="none")
    question: Any = [{"role": "user", "content": "Name a sea god."}]
    stream = openai.chat.completions.create(
        model=f"smollm2-{backend}", messages=question, max_tokens=16, temperature=0, stream=True
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    whole = openai.chat.completions.create(model=f"smollm2-{backend}", messages=question, max_tokens=16, temperature=0)
    assert streamed and streamed == whole.choices[0].message.content
    assert whole.usage and whole.usage.completion_tokens <= 16
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
    shape: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    guided = openai.chat.completions.create(
        model=f"smollm2-{backend}", messages=question, max_tokens=64, temperature=0, response_format=shape
    )
    assert isinstance(json.loads(guided.choices[0].message.content or "")["n"], int)


def test_a_dead_engine_is_replaced(server: Running, backend: str) -> None:
    """The worker holds the LLM, whichever its backend: when it dies, the supervisor starts anew."""
    if backend == "pytorch":
        pytest.skip("the same worker")
    for process in psutil.Process(server.supervisor_pid).children(recursive=True):
        if "python_backend.worker" in process.cmdline():
            process.kill()
    for _ in until(90, "the server to be restarted"):
        if server.restarts == 1 and server.state.phase == "ready":
            break
    with Client(f"127.0.0.1:{server.spec.ports.grpc}") as anew:
        assert anew.generate(FRANCE, max_tokens=4).num_output_tokens == 4
