"""Another version in the place of the one that is served, on the same doors; the old one again where it does not start.

Asked by SIGUSR1 (contract/rollout.py): the server drains and ends, its model repository changes places with the one
that waits, and the next server starts from that. The gateway stays.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from contract.errors import ConchError, ServeError
from contract.rollout import told_reload, waiting_repository
from contract.spec import Deployment, load_spec
from serving.rundir import take_requests_again
from serving.supervision import Supervision
from serving.triton import Launch

Launcher = Callable[[Deployment, Path, int], Launch]


@dataclass(frozen=True)
class Before:
    """What was served before a reload."""

    spec: Deployment
    config: Path
    release: str


def take(own: Supervision, launcher: Launcher) -> Before | None:
    """Turn to the version that waits; None, and a word to the user, where there is none fit to be served."""
    own.reload.clear()
    before = Before(own.spec, own.door.config, own.state.release)
    told = told_reload(own.folder)
    try:
        if told is None:
            raise ServeError("nothing was left to reload")
        _turn(own, Before(load_spec(told.config), told.config, told.release), launcher)
        return before
    except ConchError as refusal:
        own.tell(f"not reloaded: {refusal}", "yellow")
        return None
    finally:
        with suppress(OSError):
            take_requests_again(own.folder)


def go_back(own: Supervision, before: Before, reason: str, launcher: Launcher) -> None:
    """Turn to what was served before."""
    own.tell(f"{own.spec.name} did not start from release {own.state.release}: {reason}; back to the one before", "red")
    own.publish(last_failure=reason)
    _turn(own, before, launcher)


def _turn(own: Supervision, to: Before, launcher: Launcher) -> None:
    """Serve another version from now on, whose repository waits.

    Raises:
        ServeError: it has none.
    """
    swap_repositories(own.root, own.spec.name)
    own.spec = to.spec
    own.door.config = to.config
    for descriptor in own.launch.pass_fds:
        os.close(descriptor)
    own.launch = launcher(to.spec, own.root, int(own.policy.exit_timeout_s))
    own.publish(release=to.release, server_pid=0, ready_at=0.0)


def swap_repositories(root: Path, deployment: str) -> None:
    """Let the model repository that serves and the one that waits change places.

    Raises:
        ServeError: none waits.
    """
    waits, serves = waiting_repository(root, deployment), root / "model_repository" / deployment
    if not waits.is_dir():
        raise ServeError(f"no model repository waits at {waits}", fix="make release writes it")
    aside = serves.with_name(f".{deployment}.aside")
    serves.rename(aside)
    waits.rename(serves)
    aside.rename(waits)
