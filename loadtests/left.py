"""What a deployment has on its machine: processes, listeners, shared memory, temporary files; and what is too much."""

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from contract.spec import Deployment
from contract.stage import run_dir
from loadtests.family import SERVER, family_of

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_LOG = "server.log"  # and those before it
_FLAG = "shm-region-prefix-name="


@dataclass(frozen=True)
class Left:
    """What is there at one moment."""

    prefix: str  # of its shared memory, which is on every command line of its server
    processes: frozenset[str]  # that run and are not of its supervisor's tree
    listeners: frozenset[str]  # on its ports, likewise
    shared: int
    temporary: frozenset[str]
    run_files: frozenset[str]  # in .conch/NAME
    own: frozenset[int] = frozenset()  # the tree's own process ids

    @property
    def everything(self) -> list[str]:
        """All that should not be there once nothing runs."""
        return [*self.processes, *self.listeners, *self.temporary, *([f"{self.shared} shared"] if self.shared else [])]


def look(spec: Deployment, root: Path, supervisor_pid: int | None, prefix: str = "") -> Left:
    """What is there now.

    Args:
        supervisor_pid: None: nothing of the deployment should run.
        prefix: needed where its server does not run.
    """
    family = family_of(supervisor_pid) if supervisor_pid else {}
    own = frozenset(process.pid for process in family.values())
    if SERVER in family:
        prefix = next(part.split(_FLAG)[1] for part in family[SERVER].cmdline() if _FLAG in part)
    return Left(
        prefix=prefix,
        processes=frozenset(_strangers(prefix, own)) if prefix else frozenset(),
        listeners=frozenset(_listeners(spec, own)),
        shared=len(list(_SHARED_MEMORY.glob(f"{prefix}*"))) if prefix else 0,
        temporary=frozenset(str(each) for each in Path(tempfile.gettempdir()).iterdir()),
        run_files=frozenset(each.name for each in run_dir(root, spec.name).iterdir() if not each.name.startswith(_LOG)),
        own=own,
    )


def left_by(before: Left, after: Left) -> list[str]:
    """What a kill left behind, seen once the deployment runs again, or once it should be gone."""
    prefix = before.prefix
    faults = [f"left: {each}" for each in (*after.processes, *after.listeners)]
    if not after.own:  # nothing runs, so nothing was looked for by prefix
        faults += [f"left: {each}" for each in _strangers(prefix, after.own)]
        faults += [f"left: {each}" for each in _SHARED_MEMORY.glob(f"{prefix}*")]
        faults += [f"left: {each}" for each in map(_name, before.own) if each]
    elif after.shared != before.shared:
        faults.append(f"left: {after.shared} pieces of shared memory, {before.shared} before")
    faults += [f"left: {each}" for each in after.temporary - before.temporary]
    faults += [f"left: {each} in the run folder" for each in after.run_files - before.run_files]
    return faults


def _strangers(prefix: str, own: frozenset[int]) -> list[str]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid not in own and any(prefix in part for part in process.cmdline()):
                found.append(_name(process.pid))
    return [each for each in found if each]


def _listeners(spec: Deployment, own: frozenset[int]) -> list[str]:
    ports = {spec.ports.http, spec.ports.grpc, spec.ports.metrics, spec.ports.gateway}
    return [
        f"a listener on {port} ({_name(each.pid or 0)})"
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.pid not in own
        for port in ports.intersection(tuple(each.laddr)[1:2])
    ]


def _name(pid: int) -> str:
    """A process that runs, for the eye; '' for one that does not."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return f"process {pid}: {' '.join(process.cmdline())[:80]}"
    return ""
