"""Where a deployment is rendered for, and what its containers see of it."""

from dataclasses import dataclass
from pathlib import Path

from contract.manifest import engines_root
from contract.sections import PathSource
from contract.spec import Deployment
from deploy.service import Mount

CODE = "/conch"  # what a container needs of the project, and no more: no environment or key of the host's
SPEC = "/etc/conch/deployment.yaml"
KEPT = "/kept"  # what the gateway writes down: its ledger, its traces


@dataclass(frozen=True)
class Site:
    """Where a deployment is rendered for.

    Args:
        root: the project.
        folder: of the rendered files.
        user: who the containers run as, ``UID:GID``.
        rootless: that is whoever renders, and no other.
    """

    root: Path
    folder: Path
    user: str
    rootless: bool = True


def parts(site: Site, names: tuple[str, ...]) -> tuple[Mount, ...]:
    """Of the project, what a container needs and no more."""
    return tuple(Mount(site.root / name, f"{CODE}/{name}") for name in names)


def spec_file(site: Site) -> Mount:
    """The spec as the containers read it."""
    return Mount(site.folder / "deployment.yaml", SPEC)


def engine_folder(spec: Deployment, site: Site, writable: bool = False) -> Mount:
    """The deployment's engines."""
    return Mount(engines_root(site.root, spec.name), str(engines_root(Path(CODE), spec.name)), writable)


def own_environment(spec: Deployment) -> str:
    """Where python_backend.worker looks for an engine's own environment: the image's, as Triton's needs numpy 1."""
    return f"{CODE}/.venv-{spec.engine.runtime}"


def state_folder(site: Site, name: str) -> Path:
    """Where an installed environment is kept."""
    return site.folder / "state" / name


def kept(spec: Deployment, site: Site) -> tuple[Mount, ...]:
    """The folder of what the gateway writes down: a file alone could not be rotated."""
    return (
        (Mount(state_folder(site, "gateway"), KEPT, writable=True),) if spec.gateway.ledger or spec.tracing.file else ()
    )


def checkpoint(spec: Deployment) -> tuple[Mount, ...]:
    """A checkpoint of the host, where the host has it."""
    if not isinstance(spec.source, PathSource):
        return ()
    path = on_host(spec.source)
    return (Mount(path, str(path)),)


def linked(spec: Deployment, site: Site) -> tuple[Mount, ...]:
    """What an engine for GPUs may only link to, at its own place: a checkpoint, or the hub's cache that this host has.

    An engine that was built in a container has what it links to in its own folder (services.hub_cache).
    """
    if isinstance(spec.source, PathSource):
        return checkpoint(spec)
    home = engines_root(site.root, spec.name).resolve()
    links = (file.resolve() for file in (home / "current").glob("*") if file.is_symlink())
    outside = {file.parent for file in links if file.exists() and not file.is_relative_to(home)}
    return tuple(Mount(folder, str(folder)) for folder in sorted(outside))


def on_host(source: PathSource) -> Path:
    """A checkpoint's place, for the machine where it is rendered."""
    return source.path.expanduser().resolve()
