"""LlamaIndex's Triton client against the ensemble, unchanged."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.servers import CODE, synthetic

PROMPT = "Hello, Triton. "
SAID = (PROMPT * 3)[:40]
PYTHON = CODE / ".venv-clients" / "llama-index-llms-nvidia-triton" / "bin" / "python"


@pytest.mark.long
def test_llama_index(tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip("no .venv-clients: make test-clients makes it")
    with synthetic(tmp_path) as server:
        program = Path(__file__).parent / "programs" / "llama_index_llms_nvidia_triton.py"
        command = [str(PYTHON), str(program), f"127.0.0.1:{server.spec.ports.grpc}", PROMPT]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    heard = json.loads(run.stdout)
    for said in (heard["complete"], "".join(heard["stream_complete"])):
        assert said in (SAID, SAID[:-1]), "it counts to max_tokens itself, and leaves the last delta unread"
    assert len(heard["stream_complete"]) > 1
    assert heard["chat"].startswith("user: Hello, Triton.")
