"""What the supervisor of a deployment tells of itself, in one file of the run folder, for any process to read."""

import os
from enum import StrEnum
from pathlib import Path

import msgspec
import psutil

STATE = "state.json"
LOG = "server.log"  # of the supervisor and its server, beside it


class Phase(StrEnum):
    """What a supervised server is doing."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    DRAINING = "draining"


class State(msgspec.Struct, frozen=True):
    """What the supervisor of a deployment tells about itself."""

    phase: Phase
    supervisor_pid: int
    supervisor_created: float  # of the process, s since the epoch: tells a reused pid from the real one
    started_at: float  # s since the epoch
    server_pid: int = 0  # 0: none at this moment
    ready_at: float = 0.0  # s since the epoch; 0: not ready
    restarts: int = 0
    last_failure: str = ""
    filter: str = ""  # as gateway
    gateway: str = ""  # why it does not answer; '' when it does, or is none
    release: str = ""  # the id of the release that is served; '': what the config said at the start


def read_state(folder: Path) -> State | None:
    """The state of the deployment's supervisor, or None when none is alive."""
    try:
        state = msgspec.json.decode((folder / STATE).read_bytes(), type=State)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return state if is_alive(state.supervisor_pid, state.supervisor_created) else None


def is_alive(pid: int, created: float) -> bool:
    """True when this very process still runs (a zombie does not)."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def created_at(pid: int | None = None) -> float:
    """When a process (this one by default) was created, s since the epoch."""
    return psutil.Process(os.getpid() if pid is None else pid).create_time()
