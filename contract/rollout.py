"""A release, as its parts tell each other of it: files in the run folder of the deployment that it is for.

Who releases holds a lock for as long as it lives, so that nothing it has said outlives it: a gateway that can take the
lock gives the version on trial no request any more.
"""

import fcntl
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")

RELEASES = "releases"  # a folder for each, and the history of all
HISTORY = "history.jsonl"
OBSERVED = "observed.jsonl"  # a line for each request that ended while it was on
_RELEASING = "releasing.lock"
_ROLLOUT = "rollout.json"
_RELOAD = "reload.json"


class Rollout(msgspec.Struct, frozen=True):
    """What the gateway is to do with the version on trial."""

    release: str  # the release's id
    share: float  # of the requests that it gets, 0 to 1
    trial: Path  # its deployment spec, with its own ports
    trial_root: Path  # the folder of its engines/
    current: Path | None = None  # the spec to serve by from now on, once it has taken the current one's place


class Reload(msgspec.Struct, frozen=True):
    """What the supervisor is to serve from now on: asked by SIGUSR1."""

    release: str
    config: Path  # the spec; its model repository waits at :func:`waiting_repository`


class Observed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request that ended during a release, as the gateway saw it; times in seconds."""

    trial: bool  # it was the version on trial that was asked
    failed: bool  # that version failed on it, whoever answered then
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft_s: float | None = None  # from its admission; none: it was not streamed
    tpot_s: float | None = None  # a token after the first; none: there was none


def release_folder(run_dir: Path, release: str) -> Path:
    """What is kept of a release."""
    return run_dir / RELEASES / release


def waiting_repository(root: Path, deployment: str) -> Path:
    """The model repository that a reload puts in the place of the one that serves, and back where it fails."""
    return root / "model_repository" / f".{deployment}.waits"


def tell_rollout(run_dir: Path, rollout: Rollout | None) -> None:
    """Tell the gateway; None: the release is over."""
    if rollout is None:
        (run_dir / _ROLLOUT).unlink(missing_ok=True)
    else:
        _replace(run_dir / _ROLLOUT, rollout)


def told_rollout(run_dir: Path) -> Rollout | None:
    """What the gateway was told by a release that is still on."""
    with suppress(FileNotFoundError):
        told = _read(run_dir / _ROLLOUT, Rollout)
        return told if is_releasing(run_dir) else None
    return None


def tell_reload(run_dir: Path, reload: Reload) -> None:
    """Leave for the supervisor what it is to serve; a signal has it look."""
    _replace(run_dir / _RELOAD, reload)


def told_reload(run_dir: Path) -> Reload | None:
    """What was left for the supervisor, once."""
    with suppress(FileNotFoundError):
        told = _read(run_dir / _RELOAD, Reload)
        (run_dir / _RELOAD).unlink()
        return told
    return None


def releasing_lock(run_dir: Path) -> Path:
    """What the one who releases holds, with flock."""
    return run_dir / _RELEASING


def is_releasing(run_dir: Path) -> bool:
    """Whether the one who releases lives.

    Raises:
        FileNotFoundError: nobody ever did.
    """
    with releasing_lock(run_dir).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _read(path: Path, kind: type[T]) -> T:
    return msgspec.json.decode(path.read_bytes(), type=kind, dec_hook=lambda wanted, value: wanted(value))


def _replace(path: Path, what: msgspec.Struct) -> None:
    """Write a file as a whole: no reader meets half of it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(msgspec.json.encode(what, enc_hook=str))
    fresh.replace(path)
