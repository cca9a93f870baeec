"""The version on trial takes the place of the current one: the same server's ports, its supervisor, its doors.

While the current server drains, ends and starts again as the new version, the one on trial answers everything. What
does not start there is undone by the supervisor itself; then the version before is served again.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contract.errors import ConchError, ServeError
from contract.manifest import engines_root
from contract.rollout import Reload, tell_reload, waiting_repository
from contract.spec import Deployment, write_spec
from contract.state import Phase
from release.candidate import point, write_repository
from release.live import Live

_SOON_S = 0.1


def take_the_place(live: Live, release: str, spec: Deployment, engine: Path | None, config: Path) -> None:
    """Have the deployment's supervisor serve a version from now on.

    Args:
        spec: the version's, with the deployment's own doors; written to ``config``.

    Raises:
        ServeError: it did not start there; the version before is served again.
    """
    write_spec(config, spec)
    write_repository(config, live.root, "--engine", str(engine or "none"))
    link = engines_root(live.root, live.name) / "current"
    before = link.resolve() if engine else None
    with _undisturbed():
        tell_reload(live.run_dir, Reload(release, config))
        os.kill(live.state.supervisor_pid, signal.SIGUSR1)
        if engine:
            point(link, Path(engine.name))
        try:
            _wait(live, release)
        except ConchError:
            if before:
                point(link, Path(before.name))
            raise
        finally:
            shutil.rmtree(waiting_repository(live.root, live.name), ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Who asks to end it meanwhile is heard when it is done."""
    asking = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, asking)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, asking)


def _wait(live: Live, release: str) -> None:
    """Return once the deployment is served from this release.

    Raises:
        ServeError: it went back to the one before, or is gone.
    """
    away = False
    while True:
        state = live.state
        away = away or state.phase is not Phase.READY
        if away and state.phase is Phase.READY:
            if state.release != release:
                raise ServeError(f"it did not start in the current one's place: {state.last_failure}")
            return
        time.sleep(_SOON_S)
