"""The other images' deployments as rendered: up, a streamed chat, a killed server, stop.

TensorRT-LLM's is tests/e2e/test_trtllm.py, in CI; these take minutes each.
"""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from openai import OpenAI

from contract.spec import Deployment, load_spec
from tests.e2e.servers import CODE, DEFAULT, build, on_free_ports
from tests.images.docker import program
from tests.images.project import Project
from tests.images.rendered import checkout, deploy
from tests.images.replicas import missing, replica
from tests.serving.stream import until

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(missing()), reason=missing())]

OPENVINO = CODE / "engines" / "smollm2-135m"
IMAGES = {"openvino": "", "sglang": "", "lmdeploy": "", "vllm": "", "vllm-openai": "vllm/vllm-openai:v0.26.0"}


def built(case: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment, and its engine in the project's folder: all are of the default deployment's checkpoint."""
    if case == "openvino":
        left_out = shutil.ignore_patterns(".work")
        shutil.copytree(OPENVINO, root / "engines" / OPENVINO.name, symlinks=True, ignore=left_out)
        return on_free_ports(load_spec(DEFAULT))
    runtime = case.partition("-")[0]
    (checkpoint,) = (OPENVINO / ".work").glob("convert-*")
    data: dict[str, Any] = {
        "name": f"smollm2-{case}",
        "source": {"kind": "path", "path": str(checkpoint)},
        "engine": {"runtime": runtime, "precision": "fp32" if runtime == "vllm" else "bf16"},
        "limits": {"max_seq_len": 2048, "max_input_len": 1536, "max_num_tokens": 512, "max_batch_size": 32},
        "verify": {"reference": "none"},
    }
    config = root / f"{data['name']}.yaml"
    config.write_text(yaml.safe_dump(data))
    monkeypatch.setenv("PYTHONPATH", str(CODE / "tests" / "doubles"))
    monkeypatch.setenv("DOUBLE_ENGINE", str(OPENVINO / "current"))
    build(config, root)
    return on_free_ports(load_spec(config))


@pytest.mark.parametrize("case", IMAGES)
def test_it_comes_up_chats_and_starts_again(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = checkout(tmp_path)
    spec = built(case, root, monkeypatch)
    with Project(deploy(spec, root, IMAGES[case]) / "compose.yaml", replica, tmp_path) as project:
        project.up(wait=True, timeout_s=900)
        assert chat(spec)
        project.kill("server")
        project.wait_for("server", restarts=1, timeout_s=900)
        assert chat(spec)
    assert {life.exit_code for life in project.lives.values()} == {0}


def test_the_commands_of_run_sh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install, then server and gateway detached; a name is taken until it is removed."""
    root = checkout(tmp_path)
    spec = built("openvino", root, monkeypatch)
    script = deploy(spec, root) / "run.sh"
    programs = tmp_path / "bin"
    programs.mkdir()
    docker = str(program(programs))
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    names = [f"conch-{spec.name}-{service}" for service in ("gateway", "server")]
    try:
        subprocess.run(["sh", str(script)], check=True, timeout=240)
        for _ in until(240, "the gateway to be ready"):
            with suppress(OSError), urlopen(f"http://127.0.0.1:{spec.ports.gateway}/health/ready", timeout=5):
                break
        assert chat(spec)
        again = subprocess.run(["sh", str(script)], capture_output=True, text=True, timeout=240, check=False)
        assert "is already in use" in again.stderr
    finally:
        for name in names:
            subprocess.run([docker, "stop", name], check=True, timeout=90)
    assert "stopped" in (programs / f"{names[1]}.log").read_text()


def chat(spec: Deployment) -> str:
    """A streamed answer through the gateway."""
    openai = OpenAI(base_url=f"http://127.0.0.1:{spec.ports.gateway}/v1", api_key="none")
    question: Any = [{"role": "user", "content": "Name a sea god."}]
    chunks = openai.chat.completions.create(model=spec.name, messages=question, max_tokens=8, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
