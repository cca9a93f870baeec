"""What cannot be started so is refused with what is wrong and what to do; and what the command leaves behind."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from contract.errors import SpecError
from contract.sections import Ports
from contract.spec import Deployment
from deploy.images import PYTHON, server_image
from deploy.render import prepare, render, write
from deploy.site import Site
from tests.deploy.cases import CODE, TORCH, cpu, gpu


def rendered(spec: Deployment, root: Path = CODE, image: str = "") -> dict[str, str]:
    where = Site(root, root / "deploy" / "rendered" / spec.name, f"{os.getuid()}:{os.getgid()}")
    return render(spec, where, "configs/x.yaml", engine="docker", torch=TORCH, image=image)


def test_a_gateway_that_is_open_to_everybody() -> None:
    with pytest.raises(SpecError, match=r"gateway\.host is 0\.0\.0\.0.*without a key.*gateway\.keys"):
        rendered(cpu(gateway={"host": "0.0.0.0"}))


def test_the_wheels_triton_is_shown_to_no_strangers() -> None:
    on_gpus = gpu("vllm").model_copy(update={"ports": Ports(host="0.0.0.0")})
    with pytest.raises(SpecError, match=r"ports\.host is 0\.0\.0\.0.*ports\.trusted_network"):
        rendered(cpu(ports={"host": "0.0.0.0"}))
    with pytest.raises(SpecError, match=r"ports\.host is 0\.0\.0\.0"):
        rendered(on_gpus, image="vllm/vllm-openai:v0.26.0")
    assert rendered(cpu(ports={"host": "0.0.0.0", "trusted_network": True}))
    assert rendered(on_gpus)  # NVIDIA's image has a Triton of its own


def test_an_image_of_another_runtime() -> None:
    with pytest.raises(SpecError, match=r"nginx:1 is none that runs vllm.*26\.08-vllm.*vllm-openai"):
        rendered(gpu("vllm"), image="nginx:1")


def test_a_runtime_without_an_image() -> None:
    with pytest.raises(SpecError, match=r"no image is known for mlc.*trtllm"):
        rendered(gpu("mlc"))


def test_a_project_that_cannot_be_mounted(tmp_path: Path) -> None:
    root = tmp_path / "a:b"
    root.mkdir()
    with pytest.raises(SpecError, match=r"a:b/.* has a colon"):
        rendered(cpu(), root)


def test_images_are_those_of_the_runtime() -> None:
    assert server_image("synthetic") is server_image("openvino") is PYTHON
    assert server_image("trtllm").name.endswith("-trtllm-python-py3")
    second = server_image("vllm", "vllm/vllm-openai:v0.26.0")
    assert second.digest
    assert "nvidia-pytriton" in rendered(gpu("vllm"), image=second.name)["requirements.txt"]
    mirrored = server_image("trtllm", "10.0.0.1:5000/nv/tritonserver:26.05-trtllm-python-py3")
    assert mirrored.reference == "10.0.0.1:5000/nv/tritonserver:26.05-trtllm-python-py3"


def test_the_spec_names_its_own_image() -> None:
    spec = gpu("trtllm")
    section = SimpleNamespace(container=SimpleNamespace(image="nvcr.io/nvidia/tritonserver:26.05-trtllm-python-py3"))
    spec = spec.model_copy(update={"engine": spec.engine.model_copy(update={"trtllm": section})})
    assert spec.engine.image.endswith(":26.05-trtllm-python-py3")
    assert cpu().engine.image == ""


def test_what_is_written_is_there_for_the_containers(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text((CODE / "pyproject.toml").read_text())
    spec = cpu()
    where = Site(tmp_path, tmp_path / "deploy" / "rendered" / spec.name, f"{os.getuid()}:{os.getgid()}")
    for _ in range(2):
        write(rendered(spec, tmp_path), where.folder)
        prepare(spec, where)
        password = where.folder / "secrets" / "grafana_password"
        first = password.read_text()
    assert password.read_text() == first
    assert password.stat().st_mode & 0o777 == 0o600
    assert (where.folder / "state" / "install").is_dir()
    assert (tmp_path / "engines" / "small").is_dir()
    assert os.access(where.folder / "run.sh", os.X_OK)


def deploy(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy", *words, "--torch", TORCH]
    return subprocess.run(command, cwd=CODE, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_and_refuses_without_a_traceback(tmp_path: Path) -> None:
    printed = deploy("configs/synthetic.yaml", "--print")
    assert printed.returncode == 0, printed.stderr
    files = printed.stdout.split("# compose.yaml\n")[1].split("\n# ")[0]
    assert "engine" not in yaml.safe_load(files)["services"]
    config = tmp_path / "open.yaml"
    config.write_text("name: open\nengine: {runtime: synthetic}\ngateway: {host: 0.0.0.0}\n")
    refused = deploy(str(config))
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: gateway.host is 0.0.0.0")
    missing = deploy("configs/nothing.yaml")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
