"""The servers that the clients meet, and how their programs are run."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.repository import write_repository
from contract.spec import Deployment
from contract.tensors import stage_names
from serving.supervisor import Running, running
from tests.e2e.servers import CODE, on_free_ports, smollm2
from tests.gateway.conftest import origin

CLIENTS = CODE / ".venv-clients"
PAGE = "http://friend.example"  # may call, of all other origins
CONTEXT = 400_000  # bytes: Claude Code's own prompt has a third of that


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The default deployment behind its gateway."""
    with smollm2(tmp_path_factory.mktemp("real"), gateway=True) as server:
        yield server


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A real ensemble behind its gateway, with the engine of scripted_engine.py in its middle."""
    root = tmp_path_factory.mktemp("scripted")
    spec = on_free_ports(
        Deployment.model_validate(
            {
                "name": "scripted",
                "engine": {"runtime": "synthetic"},
                "limits": {"max_seq_len": CONTEXT, "max_input_len": CONTEXT - 50_000},
                "gateway": {"enabled": True, "parser": "hermes", "cors_origins": [PAGE]},
            }
        )
    )
    stage = write_repository(root, spec, None) / stage_names(spec.name)[1] / "1" / "model.py"
    stage.write_text(stage.read_text().replace("python_backend.engine_model", "tests.real.scripted_engine"))
    with running(spec, root) as server:
        yield server


def program(client: str, server: Running, *more: str, timeout: float = 300) -> str:
    """What programs/CLIENT.py says in that client's own environment; it is given the gateway, the model, and ``more``."""  # noqa: E501
    python = CLIENTS / client / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {python}: make test-clients makes it")
    module = f"tests.real.programs.{client.replace('-', '_')}"
    return said([python, "-m", module, origin(server), server.spec.name, *more], CODE, timeout=timeout)


def script(client: str, server: Running, *, timeout: float = 300) -> str:
    """What programs/CLIENT.mjs says."""
    copy = shutil.copy(Path(__file__).parent / "programs" / f"{client}.mjs", installed("node_modules").parent)
    return said(["node", copy, origin(server), server.spec.name], CLIENTS, timeout=timeout)


def installed(path: str) -> Path:
    """Something of .venv-clients."""
    if not (CLIENTS / path).exists():
        pytest.skip(f"no .venv-clients/{path}: make test-clients makes it")
    return CLIENTS / path


def said(command: list[str | Path], folder: Path, *, timeout: float = 300, **environment: str) -> str:
    """A command's standard output; none of it may fail, nor ask another machine for anything."""
    run = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | OFFLINE | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    print(run.stdout, run.stderr, sep="\n")
    assert run.returncode == 0, run.stderr[-4000:]
    return run.stdout


OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "OPENAI_API_KEY": "none needed",
    "ANTHROPIC_API_KEY": "none needed",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DO_NOT_TRACK": "1",
}
