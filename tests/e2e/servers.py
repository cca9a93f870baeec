"""Real servers for the tests: a deployment of its own, in a root of its own, on ports of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from build.repository import write_repository
from contract import metrics_page
from contract.address import free_ports
from contract.sections import Streaming
from contract.spec import Deployment, load_spec
from loadtests.load.get import get
from serving.supervisor import PROGRAM, Running, running

CODE = Path(__file__).resolve().parents[2]
QUIET = (sys.executable, "-m", "tests.e2e.without_canaries")
DEFAULT = CODE / "configs" / "smollm2-135m.yaml"


def build(config: Path, root: Path) -> str:
    """What make engine says."""
    command = [str(CODE / ".venv-build" / "bin" / "python"), "-m", "build", str(config), "--root", str(root)]
    run = subprocess.run(command, cwd=CODE, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    return run.stderr


def on_free_ports(spec: Deployment) -> Deployment:
    """The same deployment on ports of its own."""
    http, grpc, metrics, gateway = free_ports(4)
    ports = spec.ports.model_copy(update={"http": http, "grpc": grpc, "metrics": metrics, "gateway": gateway})
    return spec.model_copy(update={"ports": ports})


@contextmanager
def synthetic(
    root: Path,
    *,
    name: str = "synthetic",
    step_ms: float = 10,
    gateway: dict[str, object] | None = None,
    streaming: Streaming | None = None,
    canaries: bool = True,
    **limits: int,
) -> Iterator[Running]:
    """The synthetic engine in a real Triton; behind the gateway where ``gateway`` has the spec's section for it.

    Without canaries every request in its engine is the test's.
    """
    spec = on_free_ports(
        Deployment.model_validate(
            {
                "name": name,
                "engine": {"runtime": "synthetic", "step_ms": step_ms},
                "limits": {"max_seq_len": 4096, **limits},
                "streaming": streaming or Streaming(),
                "gateway": {"enabled": gateway is not None, **(gateway or {})},
            }
        )
    )
    write_repository(root, spec, None)
    with running(spec, root, program=PROGRAM if canaries else QUIET) as server:
        yield server


@contextmanager
def smollm2(
    root: Path, *, gateway: bool = False, canaries: bool = False, keys: Path | None = None, exact: bool = False
) -> Iterator[Running]:
    """The default deployment's engine, as make engine left it; without canaries its batches are the test's alone.

    Where it is exact, its activations and its cache are fp32: what is computed beside a request changes none of its
    choices, as they do where int8 rounds a batch together.
    """
    spec = on_free_ports(load_spec(DEFAULT))
    spec = spec.model_copy(update={"gateway": spec.gateway.model_copy(update={"enabled": gateway, "keys": keys})})
    (root / "engines").mkdir(exist_ok=True)
    built = CODE / "engines" / spec.name
    if exact:
        spec = spec.model_copy(update={"engine": spec.engine.model_copy(update={"precision": "fp32"})})
        _in_fp32(built / "current", root / "engines" / spec.name / "current")
    else:
        (root / "engines" / spec.name).symlink_to(built)
    write_repository(root, spec, root / "engines" / spec.name / "current")
    with running(spec, root, program=PROGRAM if canaries else QUIET) as server:
        yield server


def _in_fp32(built: Path, engine: Path) -> None:
    """The same weights, with OpenVINO's runtime options in the model's own file."""
    engine.mkdir(parents=True)
    for each in built.iterdir():
        (engine / each.name).symlink_to(each.resolve())
    network = engine / "openvino_model.xml"
    option = '<DYNAMIC_QUANTIZATION_GROUP_SIZE value="0" />'
    text = network.read_text().replace("<runtime_options>", f"<runtime_options>{option}")
    assert option in text
    manifest = json.loads((engine / "manifest.json").read_text())
    manifest |= {"precision": "fp32", "files": manifest["files"] | {network.name: len(text.encode())}}
    for name, content in ((network.name, text), ("manifest.json", json.dumps(manifest))):
        (engine / name).unlink()
        (engine / name).write_text(content)


def samples(page: str, name: str) -> dict[str, float]:
    """A metric's samples on a page of Prometheus', by their labels."""
    found = (each for each in metrics_page.samples(page) if each.name == name)
    return {" ".join(f'{label}="{value}"' for label, value in each.labels.items()): each.value for each in found}


def metric(server: Running, name: str) -> dict[str, float]:
    """A metric's samples, as Triton's /metrics has them now."""
    ports = server.spec.ports
    return samples(get(f"http://{ports.host}:{ports.metrics}/metrics", 5).decode(), name)
