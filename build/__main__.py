"""``python -m build CONFIG`` (make engine): fetch → convert → engine → verify → publish → repository."""

import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from build import convert, fetch, openvino, publish, verify
from build.repository import write_repository
from build.steps import console, key_of, step, swap_link
from contract.errors import ConchError
from contract.manifest import MANIFEST, engines_root, load_manifest
from contract.spec import Deployment, load_spec

ROOT = Path(__file__).resolve().parent.parent

Config = Annotated[Path, typer.Argument(help="a deployment spec, such as configs/smollm2-135m.yaml")]
Root = Annotated[Path, typer.Option(help="the folder of engines/ and model_repository/")]


def main(config: Config, root: Root = ROOT) -> None:
    """Build the engine of a deployment and write its model repository."""
    try:
        spec = load_spec(config)
        engine = build(config.resolve(), spec, root) if spec.source else None
        repository = write_repository(root, spec, engine)
    except ConchError as refusal:
        console.print(f"[red]✗[/red] {refusal}", markup=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("\n[yellow]interrupted[/yellow]: run it again and it goes on where it stopped")
        sys.exit(130)
    console.print(f"[green]✓[/green] model repository: {_near(repository)}")
    console.print(f"next: make serve CONFIG={config}")


def build(config: Path, spec: Deployment, root: Path) -> Path:
    """The published engine of a deployment, built unless it is there.

    Raises:
        BuildError: a step refused or failed; what earlier steps made is kept for the next run.
    """
    source = spec.source
    assert source is not None
    fetch.check_source(source)
    home = engines_root(root, spec.name)
    work = home / ".work"
    source_key = fetch.source_key(source)
    packages = {package: version(package) for package in openvino.PACKAGES}
    engine_version = key_of(source_key, packages, spec.engine.runtime, spec.engine.precision)
    published = home / engine_version
    if (published / MANIFEST).exists():
        measured = load_manifest(published).measured
        assert measured is not None
        verify.judge(measured, spec.verify)
        swap_link(home / "current", engine_version)
        console.print(f"[green]✓[/green] engine: {_near(published)} is there already")
        return published
    begun = time.monotonic()
    fetched = step(work, "fetch", source_key, lambda folder: fetch.fetch(source, folder))
    weights = _size(fetched)
    checkpoint = step(
        work,
        "convert",
        key_of(source_key, packages["transformers"]),
        lambda folder: convert.convert(fetched, folder),
        needs_bytes=8 * weights if any(fetched.glob("*.gguf")) else 0,
    )
    built = step(
        work,
        "engine",
        engine_version,
        lambda folder: openvino.build(checkpoint, spec.engine, folder),
        needs_bytes=2 * _size(checkpoint),
    )
    publish.write_manifest(built, spec, checkpoint, engine_version, None, 0)
    console.print("verifying against the fp32 reference")
    measured = verify.measure(config, spec, checkpoint, built)
    verify.show(measured)
    verify.judge(measured, spec.verify)
    publish.write_manifest(built, spec, checkpoint, engine_version, measured, time.monotonic() - begun)
    target = publish.publish(root, spec, built, engine_version)
    console.print(f"[green]✓[/green] engine: {_near(target)}, {time.monotonic() - begun:.0f} s in all")
    return target


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _near(path: Path) -> Path:
    """A path as the user would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    typer.run(main)
