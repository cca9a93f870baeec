"""SGLang and LMDeploy from a checkpoint to a chat through the gateway: build, manifest, check, Triton, the contract.

Both are doubles (tests/doubles), whose tokens come from the default deployment's engine; all else is real.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from build.repository import write_repository
from contract.manifest import load_manifest
from contract.spec import load_spec
from serving.supervisor import Running, running
from tests.e2e.servers import CODE, on_free_ports
from tests.runtimes.contract import CHECKS, Check, Served

DOUBLES = CODE / "tests" / "doubles"
OPENVINO = CODE / "engines" / "smollm2-135m"


@pytest.fixture(scope="module", autouse=True)
def doubles() -> Iterator[None]:
    """Every process from here on finds the doubles first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(DOUBLES))
        patch.setenv("DOUBLE_ENGINE", str(OPENVINO / "current"))
        yield


@pytest.fixture(scope="module", params=["sglang", "lmdeploy"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one of them was built by make engine's own command."""
    runtime = str(request.param)
    folder = tmp_path_factory.mktemp(runtime)
    (checkpoint,) = (OPENVINO / ".work").glob("convert-*")
    config = folder / "config.yaml"
    data = {
        "name": f"smollm2-{runtime}",
        "source": {"kind": "path", "path": str(checkpoint)},
        "engine": {"runtime": runtime, "precision": "bf16"},
        "limits": {"max_seq_len": 2048, "max_input_len": 1536, "max_num_tokens": 512, "max_batch_size": 32},
        "verify": {"reference": "none"},
    }
    config.write_text(yaml.safe_dump(data))
    command = [str(CODE / ".venv-build" / "bin" / "python"), "-m", "build", str(config), "--root", str(folder)]
    run = subprocess.run(command, cwd=CODE, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    return folder


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Running]:
    spec = on_free_ports(load_spec(root / "config.yaml"))
    write_repository(root, spec, root / "engines" / spec.name / "current")
    with running(spec, root) as started:
        yield started


@pytest.fixture(scope="module")
def served(server: Running, root: Path) -> Served:
    return Served(server.spec, root / "engines" / server.spec.name / "current")


def test_the_manifest_tells_what_it_is(served: Served) -> None:
    manifest = load_manifest(served.engine)
    assert (manifest.runtime, manifest.precision) == (served.spec.engine.runtime, "bf16")
    assert "model.safetensors" in manifest.files


def test_check_passes(server: Running, root: Path) -> None:
    command = [sys.executable, "-m", "serving", "check", str(server.folder / "config.yaml"), "--root", str(root)]
    run = subprocess.run(command, cwd=CODE, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: str(check.__name__))
def test_the_contract(served: Served, check: Check) -> None:
    if check.__name__ == "what_is_declared_works_and_all_else_is_refused_by_name":
        # OpenVINO, which speaks for the doubles, has none of these.
        missing = frozenset({"lora_name", "logit_bias", "guided_decoding_guide_type:structural_tag"})
        check(served, missing)  # type: ignore[call-arg]
    else:
        check(served)


@pytest.mark.parametrize("runtime", ["sglang", "lmdeploy"])
def test_an_engine_that_is_not_installed(runtime: str, tmp_path: Path) -> None:
    """Said by make engine, with the target that installs it."""
    said = _build(runtime, tmp_path, os.environ | {"PYTHONPATH": ""})
    assert f"Run make {runtime} first" in said
    assert "Traceback" not in said


def test_an_engine_of_another_release(tmp_path: Path) -> None:
    (tmp_path / "sglang-0.5.16.dist-info").mkdir()
    (tmp_path / "sglang-0.5.16.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: sglang\nVersion: 0.5.16\n"
    )
    said = _build("sglang", tmp_path, os.environ | {"PYTHONPATH": str(tmp_path)})
    assert "SGLang 0.5.16 is in" in said and "SGLang 0.5.17 is wanted. Run make sglang first" in said


def _build(runtime: str, folder: Path, environment: dict[str, str]) -> str:
    """What make engine says."""
    (checkpoint,) = (OPENVINO / ".work").glob("convert-*")
    config = folder / "config.yaml"
    engine = {"runtime": runtime, "precision": "bf16"}
    source = {"kind": "path", "path": str(checkpoint)}
    config.write_text(json.dumps({"name": "absent", "source": source, "engine": engine}))
    command = [str(CODE / ".venv-build" / "bin" / "python"), "-m", "build", str(config), "--root", str(folder)]
    run = subprocess.run(command, cwd=CODE, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 1, run.stderr
    return run.stderr
