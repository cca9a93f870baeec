"""Replicas of images: folders laid out as an image is, in which bubblewrap runs what is rendered for it.

Made once, of registry packages and this machine's own programs, and kept in the user's cache.
"""

import fcntl
import hashlib
import shutil
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from tests.images import making
from tests.images.host import CACHE, CODE, find_python, missing
from tests.images.recipes import RECIPES, Recipe

__all__ = ["Replica", "missing", "replica"]

# Whose tokens the doubles tell: the default deployment's engine, which make engine builds.
_ENGINE = CODE / "engines" / "smollm2-135m" / "current"


@dataclass(frozen=True)
class Replica:
    """An image, as a container engine knows one.

    Args:
        root: its files.
        environment: its variables.
        entrypoint: what starts a container's command.
        user: whose the first process is; '' is root.
        workdir: where it begins.
        binds: of this machine, in this order: what is shown read-only at which place of the root.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    binds: tuple[tuple[Path, str], ...] = ()


@cache
def replica(reference: str) -> Replica:
    """The replica of an image, made where it is not there yet.

    Args:
        reference: the image as rendered, with or without a digest.

    Raises:
        KeyError: there is no recipe for it.
    """
    name = reference.partition("@")[0]
    recipe = RECIPES[name]
    return Replica(
        root=_made(name.rpartition("/")[2].replace(":", "-"), recipe),
        environment=recipe.environment | (_told() if recipe.doubles else {}),
        entrypoint=recipe.entrypoint,
        user=recipe.user,
        workdir=recipe.workdir,
        binds=(*making.binds(), *_doubles(recipe)),
    )


def _made(name: str, recipe: Recipe) -> Path:
    """The replica's folder, named by all that it depends on."""
    makers = Path(making.__file__).read_text(encoding="utf-8")
    names = [double.name for double in making.doubles(recipe)]
    folder = CACHE / f"{name}-{hashlib.sha256(f'{recipe}{makers}{find_python()}{names}'.encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = Path(mkdtemp(prefix=f"{name}.", dir=CACHE))
            try:
                making.make(recipe, unfinished)
                unfinished.chmod(0o755)
                unfinished.rename(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _doubles(recipe: Recipe) -> tuple[tuple[Path, str], ...]:
    """The doubles, each where its package would be, and the engine that speaks for them."""
    packages = making.packages(recipe)
    speaking = [(_ENGINE.resolve(), making.SPEAKING)] if recipe.doubles and _ENGINE.exists() else []
    return (*((path, f"{packages}/{path.name}") for path in making.doubles(recipe)), *speaking)


def _told() -> dict[str, str]:
    """Where the doubles find what speaks for them."""
    engine = dict.fromkeys(("TRTLLM_DOUBLE_ENGINE", "DOUBLE_ENGINE"), making.SPEAKING)
    return engine | {"DOUBLE_PATH": making.SPEAKERS}
