"""The verbs in order: source → fetch → convert → engine → verify → publish."""

import time
from importlib.metadata import version
from pathlib import Path

from build import convert, fetch, publish, verify
from build.builders import builder_of
from build.steps import alive, console, exclusive, key_of, near, step
from contract.manifest import engines_root, this_machine
from contract.spec import AnySource, Deployment


def build(config: Path, spec: Deployment, root: Path) -> Path:
    """The published engine of a deployment, built unless it is there.

    Raises:
        BuildError: a step refused or failed; what earlier steps made is kept for the next run.
    """
    source = spec.source
    assert source is not None
    fetch.check_source(source)
    home = engines_root(root, spec.name)
    with exclusive(home / ".work"):
        return _build(config, spec, source, home)


def _build(config: Path, spec: Deployment, source: AnySource, home: Path) -> Path:
    work = home / ".work"
    builder = builder_of(spec.engine.runtime)
    source_key = fetch.source_key(source)
    checkpoint_key = key_of(source_key, convert.RECIPE, _versions(convert.PACKAGES))
    machine = this_machine()  # an engine is verified on the machine that runs it
    engine_version = key_of(
        checkpoint_key,
        builder.RECIPE,
        _versions(builder.PACKAGES),
        spec.engine.runtime,
        spec.engine.precision,
        machine.arch,
        machine.instruction_sets,
        *((spec.engine.vllm.model_dump(),) if spec.engine.runtime == "vllm" else ()),  # verified under these
    )
    published = publish.published(home, engine_version)
    if published:
        assert published.measured is not None
        verify.judge(published.measured, spec.verify)
        target = publish.use(home, engine_version)
        console.print(f"[green]✓[/green] engine: {near(target)} is there already")
        return target
    begun = time.monotonic()
    fetched = step(work, "fetch", source_key, lambda folder: fetch.fetch(source, folder))
    weights = _size(fetched)
    checkpoint = step(
        work,
        "convert",
        checkpoint_key,
        lambda folder: convert.convert(fetched, folder),
        needs_bytes=8 * weights if any(fetched.glob("*.gguf")) else 0,
    )
    built = step(
        work,
        "engine",
        engine_version,
        lambda folder: builder.build(checkpoint, spec.engine, folder),
        needs_bytes=2 * _size(checkpoint),
    )
    publish.write_manifest(built, spec, checkpoint, engine_version=engine_version)
    console.print("verifying against the fp32 reference")
    with alive("verify"):
        measured = verify.measure(builder, config, spec, checkpoint, built)
    verify.show(measured)
    verify.judge(measured, spec.verify)
    publish.write_manifest(
        built,
        spec,
        checkpoint,
        engine_version=engine_version,
        measured=measured,
        seconds=time.monotonic() - begun,
    )
    target = publish.publish(home, built, engine_version)
    console.print(f"[green]✓[/green] engine: {near(target)}, {time.monotonic() - begun:.0f} s in all")
    return target


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    return {package: version(package) for package in packages}


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
