"""Runtime trtllm from make engine to a chat through the gateway, in replicas of the images and from what is rendered.

TensorRT-LLM is its double (tests/doubles), whose tokens come from the default deployment's engine: so what a
client gets must be what OpenVINO would have said. The containers are the runner's (tests/images). All else is real.
"""

import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai import OpenAI

from clients.grpc import Client
from contract.errors import InvalidRequest
from contract.manifest import Manifest, load_manifest
from contract.spec import Deployment, load_spec
from deploy.site import SPEC
from tests.e2e.servers import CODE, build, on_free_ports
from tests.images import machine
from tests.images.project import Project
from tests.images.rendered import checkout, deploy, gpu_host
from tests.images.replicas import missing, replica
from tests.runtimes.contract import CHECKS, Check, Served
from tests.trtllm.adapters import write_adapter

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

OPENVINO = CODE / "engines" / "smollm2-135m"
PYTHON = "/state/venv/bin/python"
FRANCE = "The capital of France is"


@dataclass(frozen=True)
class Up:
    """A deployment that runs in its containers."""

    spec: Deployment
    project: Project

    def chat(self, **options: Any) -> str:
        """A streamed answer through the gateway."""
        openai = OpenAI(base_url=f"http://127.0.0.1:{self.spec.ports.gateway}/v1", api_key="none")
        question: Any = [{"role": "user", "content": "Name a sea god."}]
        chunks = openai.chat.completions.create(
            model=self.spec.name, messages=question, temperature=0, stream=True, **options
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def config_of(root: Path, backend: str) -> Path:
    """A deployment of the default model's checkpoint, as make engine converted it."""
    (checkpoint,) = (OPENVINO / ".work").glob("convert-*")
    config = root / f"smollm2-{backend}.yaml"
    options: dict[str, Any] = {"backend": backend, "gpu": "h100", "log_probs": backend == "tensorrt"}
    adapters = {"tensorrt": {"sea": ["q_proj"]}, "pytorch": {"land": ["up_proj"], "sea": ["q_proj"]}}[backend]
    options["lora"] = {
        "adapters": {name: str(write_adapter(root / backend / name, modules)) for name, modules in adapters.items()}
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
def project_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Both backends' project: one engines folder, one rendered for each; what was installed does not stay."""
    folder = checkout(tmp_path_factory.mktemp("conch"))
    yield folder
    shutil.rmtree(folder / "deploy", ignore_errors=True)


@pytest.fixture(scope="module")
def root(backend: str, project_root: Path) -> Path:
    with gpu_host(project_root / f"bin-{backend}"):
        said = build(config_of(project_root, backend), project_root)
    stages = ("importing TensorRT-LLM", "building the engine", "saving the engine")
    assert all((stage in said) == (backend == "tensorrt") for stage in stages)
    return project_root


@pytest.fixture(scope="module")
def manifest(root: Path, backend: str) -> Manifest:
    return load_manifest(root / "engines" / f"smollm2-{backend}" / "current")


@pytest.fixture(scope="module")
def server(root: Path, backend: str) -> Iterator[Up]:
    """As ``docker compose up --wait`` starts it. What is installed for one backend is the other's too."""
    spec = on_free_ports(load_spec(root / f"smollm2-{backend}.yaml"))
    rendered = root / "deploy" / "rendered"
    shared = rendered / "state"
    shared.mkdir(parents=True, exist_ok=True)
    (rendered / spec.name).mkdir()
    (rendered / spec.name / "state").symlink_to(shared)
    folder = deploy(spec, root)
    logs = root / f"logs-{backend}"
    logs.mkdir()
    with Project(folder / "compose.yaml", replica, logs) as project:
        project.up(wait=True)
        yield Up(spec, project)


@pytest.fixture(scope="module")
def served(server: Up, root: Path) -> Served:
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
    with gpu_host(tmp_path / "bin"):
        assert "verifying against the fp32 reference" in build(config, tmp_path)
    measured = load_manifest(tmp_path / "engines" / "smollm2-tensorrt" / "current").measured
    assert measured and 0.8 < measured.top1_agreement < 1
    assert measured.perplexity_ratio is None
    assert measured.tokens_compared > 200


def test_check_compares_it_with_the_machine(server: Up) -> None:
    run = server.project.execute("server", PYTHON, "-m", "serving", "check", SPEC)
    assert run.returncode == 0, run.stderr
    assert (
        "OK  gpus: 2 × NVIDIA H100 80GB HBM3, driver 590.44.01, TensorRT-LLM 1.2.1, TensorRT 10.14.1.48" in run.stdout
    )


def test_a_machine_that_does_not_fit_is_refused_before_the_start(
    server: Up, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '0, GPU-0, NVIDIA A100-SXM4-80GB, 8.0, 81920, 525.85.12'\n")
    smi.chmod(0o755)
    monkeypatch.setattr(machine, "driver", lambda: {"/usr/bin/nvidia-smi": smi})
    code, said = server.project.run("server")
    assert code == 1
    assert "the driver is 525.85.12, the container needs 580 or newer. Update the driver" in said
    built_for = "the engine was built for sm90 (NVIDIA H100 80GB HBM3), NVIDIA A100-SXM4-80GB is sm80"
    assert (built_for in said) == (backend == "tensorrt")
    assert "Traceback" not in said


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


def test_a_schema_through_the_gateway(server: Up, backend: str) -> None:
    openai = OpenAI(base_url=f"http://127.0.0.1:{server.spec.ports.gateway}/v1", api_key="none")
    question: Any = [{"role": "user", "content": "Name a sea god."}]
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
    shape: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    guided = openai.chat.completions.create(
        model=f"smollm2-{backend}", messages=question, max_tokens=64, temperature=0, response_format=shape
    )
    assert isinstance(json.loads(guided.choices[0].message.content or "")["n"], int)


def test_a_container_that_is_killed_starts_again(server: Up, backend: str) -> None:
    """Docker's part, so one backend is enough. The gateway stays, and finds it again."""
    if backend == "pytorch":
        pytest.skip("the same containers")
    assert server.chat(max_tokens=8)
    server.project.kill("server")
    server.project.wait_for("server", restarts=1)
    assert server.chat(max_tokens=8)
    assert server.project.lives["gateway"].restarts == 0


def test_what_is_stopped_drains_and_comes_up_again(server: Up, backend: str) -> None:
    """What was installed stays; the chat is the same."""
    said = server.chat(max_tokens=8)
    assert said
    server.project.stop()
    codes = {name: life.exit_code for name, life in server.project.lives.items()}
    # On a busy machine Triton now and then does not exit in its time, and its supervisor ends it: nothing is in flight.
    assert codes.pop("server") in (0, 128 + signal.SIGKILL)
    assert set(codes.values()) == {0}
    if backend == "pytorch":
        return
    server.project.up(wait=True)
    assert server.chat(max_tokens=8) == said
