"""The verbs in order: source → fetch → convert → (cast →) engine → verify → publish."""

import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from build import cast, convert, fetch, publish, verify
from build.builders import Builder, builder_of
from build.steps import alive, console, exclusive, key_of, near, resumable_step, step
from contract.errors import BuildError, VerifyError
from contract.manifest import Manifest, engines_root
from contract.sections import AnySource, HubSource
from contract.spec import Deployment


def build(config: Path, spec: Deployment, root: Path, *, use: bool = True) -> Path:
    """The published engine of a deployment, built unless it is there.

    Args:
        use: make it the current one.

    Raises:
        BuildError: a step refused or failed; what earlier steps made is kept for the next run.
    """
    source = spec.source
    assert source is not None
    fetch.check_source(source)
    home = engines_root(root, spec.name)
    with exclusive(home / ".work"):
        engine_version = _build(config, spec, source, home)
        return publish.use(home, engine_version) if use else home / engine_version


def fetch_source(spec: Deployment, root: Path) -> Path:
    """The folder of a deployment's source, which a later build takes up.

    Raises:
        BuildError: the source is not there, or not whole.
    """
    assert spec.source is not None
    fetch.check_source(spec.source)
    work = engines_root(root, spec.name) / ".work"
    with exclusive(work):
        return _fetch(spec.source, work)


def _fetch(source: AnySource, work: Path) -> Path:
    return step(
        work,
        "fetch",
        fetch.source_key(source),
        lambda folder: fetch.fetch(source, folder),
        shows_itself=isinstance(source, HubSource),
    )


def show_command(spec: Deployment, root: Path) -> list[str]:
    """What the engine step would run outside this process; nothing is fetched or built.

    Raises:
        BuildError: the engine step runs in this process.
    """
    source = spec.source
    builder = builder_of(spec.engine.runtime)
    work = engines_root(root, spec.name) / ".work"
    keys = None if source is None else keys_of(spec, source, builder)
    made_by = "cast" if spec.engine.cast else "convert"
    command = (
        builder.command(work / f"{made_by}-{keys.checkpoint}", spec, work / f"engine-{keys.engine}") if keys else []
    )
    if not command:
        raise BuildError(f"runtime {spec.engine.runtime} runs no command: its engine is made by make engine itself")
    return command


@dataclass(frozen=True)
class Keys:
    """What the results of the steps depend on."""

    source: str
    converted: str
    checkpoint: str  # what the engine is built from
    engine: str  # the engine's version too


def keys_of(spec: Deployment, source: AnySource, builder: Builder) -> Keys:
    """The keys of a deployment's steps."""
    source_key = fetch.source_key(source)
    converted_key = key_of(source_key, convert.RECIPE, _versions(convert.PACKAGES))
    checkpoint_key = key_of(converted_key, cast.RECIPE, spec.engine.cast) if spec.engine.cast else converted_key
    engine_key = key_of(
        checkpoint_key,
        builder.RECIPE,
        _versions(builder.PACKAGES),
        spec.engine.runtime,
        spec.engine.precision,
        *builder.key(spec),
    )
    return Keys(source_key, converted_key, checkpoint_key, engine_key)


def _build(config: Path, spec: Deployment, source: AnySource, home: Path) -> str:
    work = home / ".work"
    builder = builder_of(spec.engine.runtime)
    keys = keys_of(spec, source, builder)
    engine_version = keys.engine
    published = publish.published(home, engine_version)
    if published:
        _judge(published, spec)
        console.print(f"[green]✓[/green] engine: {near(home / engine_version)} is there already")
        return engine_version
    begun = time.monotonic()
    if isinstance(source, HubSource):
        with TemporaryDirectory(dir=work) as folder:
            fetch.peek(source, Path(folder))
            _check(builder, Path(folder), spec, work)
    fetched = _fetch(source, work)
    commit = fetch.commit_of(fetched)
    weights = _size(fetched)
    converted = step(
        work,
        "convert",
        keys.converted,
        lambda folder: convert.convert(fetched, folder),
        needs_bytes=8 * weights if any(fetched.glob("*.gguf")) else 0,
    )
    _check(builder, converted, spec, work)
    checkpoint = converted
    if spec.engine.cast:
        checkpoint = resumable_step(work, "cast", keys.checkpoint, lambda folder: cast.cast(converted, folder))
    built = step(
        work,
        "engine",
        engine_version,
        lambda folder: builder.build(checkpoint, spec, folder),
        needs_bytes=builder.SIZE * _size(checkpoint),
    )
    manifest = publish.write_manifest(built, spec, checkpoint, engine_version=engine_version, commit=commit)
    measured = None
    if spec.verify.reference == "none":
        _judge(manifest, spec)
    else:
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
        commit=commit,
        measured=measured,
        seconds=time.monotonic() - begun,
    )
    target = publish.publish(home, built, engine_version)
    console.print(f"[green]✓[/green] engine: {near(target)}, {time.monotonic() - begun:.0f} s in all")
    return engine_version


def _check(builder: Builder, checkpoint: Path, spec: Deployment, work: Path) -> None:
    """Refuse what cannot be built; what is to be cast is known by the JSON files that it will have."""
    if not spec.engine.cast:
        builder.check(checkpoint, spec)
        return
    with TemporaryDirectory(dir=work) as folder:
        try:
            cast.preview(checkpoint, Path(folder))
        except BuildError as refusal:
            raise BuildError(f"engine.cast is {spec.engine.cast}: {refusal.message}", fix=refusal.fix) from None
        builder.check(Path(folder), spec)


def _judge(manifest: Manifest, spec: Deployment) -> None:
    """Refuse an engine that was not verified, unless the config wants none of it."""
    if manifest.measured:
        verify.judge(manifest.measured, spec.verify)
    elif spec.verify.reference == "none":
        console.print("[yellow]not verified[/yellow]: verify.reference is none")
    else:
        raise VerifyError(
            f"engine {manifest.version} was published unverified, and verify.reference is {spec.verify.reference}",
            fix="Remove its folder and run make engine again, or set verify.reference: none",
        )


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    return {package: version(package) for package in packages}


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
