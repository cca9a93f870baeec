"""A verified engine → engines/NAME/<version>, with its manifest; ``current`` points at the one in use."""

import hashlib
import json
import shutil
from functools import cache
from importlib.metadata import version
from pathlib import Path

from build import convert
from build.builders import builder_of
from build.fetch import describe
from build.steps import console, swap_link, sync
from contract.errors import ServeError
from contract.manifest import (
    MANIFEST,
    Manifest,
    Measured,
    Origin,
    check_files,
    digest,
    load_manifest,
    now,
    this_machine,
)
from contract.spec import Deployment


def write_manifest(
    folder: Path,
    spec: Deployment,
    checkpoint: Path,
    *,
    engine_version: str,
    commit: str,
    measured: Measured | None = None,
    seconds: float = 0,
) -> Manifest:
    """Describe an engine folder in its manifest.json; ``measured`` is None until it is verified.

    Args:
        commit: of the hub's repository that the checkpoint is from; '' if from none.
    """
    assert spec.source is not None
    config = json.loads((checkpoint / "config.json").read_text())
    files = {
        str(file.relative_to(folder)): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    template = folder / "chat_template.jinja"
    builder = builder_of(spec.engine.runtime)
    packages = sorted({*convert.PACKAGES, *builder.PACKAGES})
    manifest = Manifest(
        deployment=spec.name,
        version=engine_version,
        runtime=spec.engine.runtime,
        precision=spec.engine.precision,
        origin=Origin(
            source=describe(spec.source),
            commit=commit,
            files=_digests(checkpoint),
            architecture=config["architectures"][0],
            tokenizer_sha256=digest(folder / "tokenizer.json"),
            chat_template_sha256=hashlib.sha256(template.read_bytes()).hexdigest() if template.exists() else "",
        ),
        built_with={package: version(package) for package in packages} | builder.built_with(folder),
        built_for=this_machine(),
        gpu=builder.target(folder, spec),
        max_position_embeddings=config["max_position_embeddings"],
        vocab_size=config["vocab_size"],
        eos_token_ids=_eos(folder, config),
        measured=measured,
        built_at=now(),
        build_seconds=round(seconds, 1),
        size_bytes=sum(files.values()),
        files=files,
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
    return manifest


@cache
def _digests(checkpoint: Path) -> dict[str, str]:
    """Of a finished step's folder, which does not change any more."""
    return {file.name: digest(file) for file in sorted(checkpoint.iterdir()) if file.is_file()}


def published(home: Path, engine_version: str) -> Manifest | None:
    """The manifest of an engine that is in its place and whole; one that is not whole is removed."""
    engine = home / engine_version
    if not engine.exists():
        return None
    try:
        manifest = load_manifest(engine)
        check_files(engine, manifest)
    except ServeError as fault:
        console.print(f"[yellow]building again[/yellow]: {fault.message}")
        shutil.rmtree(engine)
        return None
    return manifest


def publish(home: Path, built: Path, engine_version: str) -> Path:
    """Move a verified engine to its place; returns that place."""
    sync(built)
    built.rename(home / engine_version)
    sync(home)
    return home / engine_version


def use(home: Path, engine_version: str) -> Path:
    """Make a published engine the current one; returns its place."""
    swap_link(home / "current", engine_version)
    sync(home)
    return home / engine_version


def _eos(folder: Path, config: dict[str, object]) -> tuple[int, ...]:
    """End-of-sequence ids: generation_config.json has the last word, as in transformers."""
    generation = folder / "generation_config.json"
    named = json.loads(generation.read_text()).get("eos_token_id") if generation.exists() else None
    named = config.get("eos_token_id") if named is None else named
    if named is None:
        return ()
    return tuple(named) if isinstance(named, list) else (int(str(named)),)
