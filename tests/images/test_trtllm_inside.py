"""In TensorRT-LLM's replica as docs/tensorrt-llm.md says: make engine && make serve, over the packages that are there.

The image has no make: here it is this machine's, where apt-get would have put one.
"""

import shutil
import signal
import threading
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from openai import OpenAI

from contract.engines.trtllm.images import PINNED
from contract.spec import Deployment, load_spec
from tests.e2e.servers import CODE, on_free_ports
from tests.e2e.test_trtllm import config_of
from tests.images import docker
from tests.images.container import Running
from tests.images.replicas import missing
from tests.serving.stream import until

MAKE = shutil.which("make") or ""
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.skipif(not MAKE, reason="there is no make to lend to the image"),
]

ROOMS = ("build", "clients", "contract", "gateway", "python_backend", "serving")
OURS = "import json, sys, transformers, tensorrt_llm; print(transformers.__version__, sys.prefix)"


def deployment(root: Path) -> tuple[Path, Deployment]:
    config = config_of(root, "tensorrt")
    spec = on_free_ports(load_spec(config))
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"ports": spec.ports.model_dump()}))
    return config, spec


def test_make_engine_and_make_serve(tmp_path: Path) -> None:
    root = tmp_path / "conch"
    for room in ROOMS:  # copied: what make writes is beside the code that writes it
        shutil.copytree(CODE / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(CODE / name, root)
    config, spec = deployment(root)
    words = f"--rm --gpus all --network host --ipc host --volume {root}:{root} --workdir {root}"
    engines = (CODE / "engines").resolve()  # a worktree has but a link to them
    lent = f"--init --volume {CODE}:{CODE}:ro --volume {engines}:{engines}:ro --volume {MAKE}:/usr/bin/make:ro"
    script = f"make engine CONFIG={config} && exec make serve CONFIG={config}"
    service, _ = docker.service([*words.split(), *lent.split(), PINNED, "bash", "-c", script])
    log = tmp_path / "log"
    with log.open("wb") as said:
        container = Running(service.container, said)
    ended: list[int] = []
    threading.Thread(target=lambda: ended.append(container.wait()), daemon=True).start()
    try:
        for _ in until(500, f"the gateway to be ready: {log}"):
            assert not ended, log.read_text()
            with suppress(OSError), urlopen(f"http://127.0.0.1:{spec.ports.gateway}/health/ready", timeout=5):
                break
        python = str(root / ".venv-image" / "bin" / "python")
        assert container.execute((python, "-c", OURS), 60).stdout.split() == ["4.57.3", str(root / ".venv-image")]
        openai = OpenAI(base_url=f"http://127.0.0.1:{spec.ports.gateway}/v1", api_key="none")
        question = [{"role": "user", "content": "Name a sea god."}]
        answer = openai.chat.completions.create(model=spec.name, messages=question, max_tokens=8)  # type: ignore[arg-type]
        assert answer.choices[0].message.content
        down = container.execute(("make", "down", f"CONFIG={config}"), 90)
        assert "draining" in down.stdout
        assert down.returncode in (0, -signal.SIGKILL), (
            down.stderr
        )  # the container ends with make serve, and it with that
        for _ in until(60, "make serve to end"):
            if ended:
                break
    finally:
        container.kill()
    text = log.read_text()
    assert ended == [0], text
    assert "next: make serve" in text and "Traceback" not in text
