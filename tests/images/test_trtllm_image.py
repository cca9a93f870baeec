"""In the replica of TensorRT-LLM's image: what it has, and that what is laid over it sees it and comes first."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from build.builders import builder_of
from contract.engines.trtllm.images import PINNED
from contract.spec import load_spec
from deploy.images import server_image
from tests.deploy.cases import CODE, gpu
from tests.images.docker import program
from tests.images.project import Project
from tests.images.rendered import checkout, deploy
from tests.images.replicas import missing, replica

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

_NAMES = ("tensorrt_llm", "tensorrt", "transformers", "tokenizers", "huggingface_hub", "numpy", "openai", "pip")
_VERSIONS = f"import importlib.metadata as m, json; print(json.dumps({{it: m.version(it) for it in {_NAMES!r}}}))"
# What tensorrt_llm.serve imports, and so the executor of the PyTorch path.
_SERVE = "from openai.types.responses.response_content_part_added_event import PartReasoningText"
_IMAGE = {
    "tensorrt_llm": "1.2.1",
    "tensorrt": "10.14.1.48",
    "transformers": "4.57.3",
    "tokenizers": "0.22.2",
    "huggingface_hub": "0.36.2",
    "numpy": "1.26.4",
    "openai": "1.107.3",
    "pip": "24.0",
}


@pytest.fixture
def docker(tmp_path: Path) -> str:
    """The program, over replicas."""
    return str(program(tmp_path))


def said(*words: str) -> str:
    """What a command says; it ends well."""
    run = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_what_the_image_has(docker: str) -> None:
    inside = (docker, "run", "--rm", "--user=10001:10001", PINNED)
    assert json.loads(said(*inside, "python3", "-c", _VERSIONS)) == _IMAGE
    programs = "make git sshd ssh uv docker gcc nvidia-smi python3 pip3 tritonserver"
    found = said(*inside, "bash", "-c", f"for it in {programs}; do command -v $it || true; done")
    assert found.split() == [
        "/opt/venv-tritonserver/bin/python3",
        "/opt/venv-tritonserver/bin/pip3",
        "/opt/tritonserver/bin/tritonserver",
    ]
    run = subprocess.run([*inside, "python3", "-c", _SERVE], capture_output=True, text=True, timeout=60, check=False)
    assert "cannot import name 'PartReasoningText'" in run.stderr


def test_the_servers_environment_sees_the_image_and_has_what_that_lacks(tmp_path: Path) -> None:
    """The install service as rendered, but for what e2e installs too: here only what the image has too old."""
    folder = deploy(gpu("trtllm"), checkout(tmp_path))
    requirements = (folder / "requirements.txt").read_text().splitlines()
    lacks = server_image("trtllm").lacks
    assert set(lacks) < set(requirements)
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lacks))
    file = folder / "compose.yaml"
    rendered = yaml.safe_load(file.read_text())
    with Project(file, replica, tmp_path) as project:
        for _ in range(2):  # a later start finds it done
            code, told = project.run("install")
            assert code == 0, told
        assert "Requirement already satisfied: openai<3,>=2 in /state/venv" in told
        rendered["services"]["server"]["command"] = ["/state/venv/bin/python", "-c", f"{_SERVE}\n{_VERSIONS}"]
        file.write_text(yaml.safe_dump(rendered))
        code, told = project.run("server")
    assert code == 0, told
    versions = json.loads(told.splitlines()[-1])
    assert versions.pop("openai").startswith("2.")
    assert versions == {name: version for name, version in _IMAGE.items() if name != "openai"}


def test_the_builders_container_has_what_the_image_lacks(
    docker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command, with another program at the end. It has no network, and needs none."""
    monkeypatch.setenv("PATH", str(Path(docker).parent), prepend=":")
    spec = load_spec(CODE / "configs" / "qwen3-0.6b-trtllm.yaml")
    work = tmp_path / "engines" / spec.name / ".work"
    work.mkdir(parents=True)
    command = builder_of("trtllm").command(tmp_path, spec, work / "engine")
    cache = tmp_path / "engines" / ".trtllm"
    (cache / "home").mkdir(parents=True)
    script = f"import pathlib, build.trtllm.over as it; it.lay_over(pathlib.Path({str(cache)!r}))"
    subprocess.run([CODE / ".venv-build" / "bin" / "python", "-c", script], cwd=CODE, check=True)
    image = command.index(PINNED)
    asked = f"import openai; {_SERVE}; print(openai.__version__)"
    assert said(*command[: image + 1], "python3", "-c", asked).startswith("2.")
