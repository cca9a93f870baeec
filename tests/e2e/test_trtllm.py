"""Runtime trtllm from a checkpoint to a chat through the gateway: build, manifest, check, repository, Triton, ensemble.

TensorRT-LLM is its double (tests/doubles), whose tokens come from the default deployment's engine: so what a
client gets must be what OpenVINO would have said. All else is real.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from openai import OpenAI

from build.repository import write_repository
from clients.grpc import Client
from contract.errors import InvalidRequest
from contract.manifest import Manifest, load_manifest
from contract.spec import load_spec
from serving.supervisor import Running, running
from tests.e2e.servers import CODE, build, on_free_ports
from tests.runtimes.contract import CHECKS, Check, Served
from tests.serving.stream import until
from tests.trtllm.adapters import write_adapter

DOUBLES = CODE / "tests" / "doubles"
OPENVINO = CODE / "engines" / "smollm2-135m"
FRANCE = "The capital of France is"


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
    adapters = {"tensorrt": {"sea": ["q_proj"]}, "pytorch": {"land": ["up_proj"], "sea": ["q_proj"]}}[backend]
    options["lora"] = {
        "adapters": {name: str(write_adapter(root / name, modules)) for name, modules in adapters.items()}
    }
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
def served(server: Running, root: Path) -> Served:
    return Served(server.spec, root / "engines" / server.spec.name / "current")


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
    smi.write_text("#!/bin/sh\necho '0, GPU-0, NVIDIA A100-SXM4-80GB, 8.0, 81920, 525.85.12'\n")
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
        assert "the driver is 525.85.12, the container needs 580 or newer. Update the driver" in run.stderr
        built_for = "the engine was built for sm90 (NVIDIA H100 80GB HBM3), NVIDIA A100-SXM4-80GB is sm80"
        assert (built_for in run.stderr) == (backend == "tensorrt")
        assert "Traceback" not in run.stderr


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: str(check.__name__))
def test_the_contract(served: Served, check: Check) -> None:
    if check.__name__ == "what_is_declared_works_and_all_else_is_refused_by_name":
        # OpenVINO, which speaks for the double, has no structural tags; adapters have a test of their own.
        check(served, frozenset({"lora_name", "guided_decoding_guide_type:structural_tag"}))  # type: ignore[call-arg]
    elif check.__name__ == "guides_are_kept_and_bad_ones_refused":
        pytest.skip("no gate stands before TensorRT-LLM, and OpenVINO, which speaks for it, dies of a bad guide")
    else:
        check(served)


def test_adapters_are_chosen_by_name(client: Client, backend: str) -> None:
    assert client.generate(FRANCE, max_tokens=4, lora_name="sea").text  # the double has no weights to differ by
    there = "sea" if backend == "tensorrt" else "land, sea"
    with pytest.raises(InvalidRequest, match=f"lora_name: there is no adapter 'moon'; there are {there}") as refused:
        client.generate(FRANCE, max_tokens=4, lora_name="moon")
    assert refused.value.field == "lora_name"


def test_a_schema_through_the_gateway(server: Running, backend: str) -> None:
    openai = OpenAI(base_url=f"http://127.0.0.1:{server.spec.ports.gateway}/v1", api_key="none")
    question: Any = [{"role": "user", "content": "Name a sea god."}]
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
