"""What one supervision knows, from its first server process to its last, and how patient it is."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from contract.address import grpc_address
from contract.spec import Deployment
from contract.state import State
from serving import canary
from serving.beside import FilterProcess, GatewayProcess
from serving.journal import RotatingLog
from serving.rundir import write_state
from serving.screen import Screen
from serving.triton import GRPC_DOOR, Launch

RECENT_LINES = 400


@dataclass(frozen=True)
class Policy:
    """How patient the supervisor is; all in seconds but the number of starts."""

    pace: canary.Pace = field(default_factory=canary.Pace)
    start_timeout_s: float = 120.0
    drain_timeout_s: float = 30.0  # what is still in flight then is lost
    quiet_s: float = 1.2  # without a request in flight before the server is told to exit; its metrics come each second
    exit_timeout_s: float = 10.0  # for the exit itself, which a busy machine takes its time for
    early_stop_s: float = 3.0  # for a server that is asked to stop before it is ready
    stub_interval_s: float = 0.25  # between two looks at the stages' processes
    backoff_s: tuple[float, ...] = (0.25, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # the last one for ever after
    forgiven_s: float = 15.0  # of health, for each failure before
    starts: int = 5  # failed starts in a row before giving up


def policy_of(spec: Deployment) -> Policy:
    """How patient to be with a deployment's runtime."""
    engine = spec.engine
    return Policy(start_timeout_s=engine.kind.start_s + getattr(engine.options, "load_timeout_s", 0))


@dataclass
class Supervision:
    """What one supervision knows. Only :func:`serving.lifecycle.supervise` makes one."""

    spec: Deployment
    root: Path
    config: str
    folder: Path
    policy: Policy
    launch: Launch
    prefix: str
    screen: Screen
    log: RotatingLog
    state: State
    door: GatewayProcess
    filter: FilterProcess
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    kill: asyncio.Event = field(default_factory=asyncio.Event)
    reload: asyncio.Event = field(default_factory=asyncio.Event)
    was_ready: bool = False  # from then on nothing but the user ends it
    unloaded: asyncio.Event = field(default_factory=asyncio.Event)  # Triton has said that a model did not load
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT_LINES))

    @property
    def address(self) -> str:
        """Where the server itself answers over gRPC: no trouble of the filter's is taken for its own."""
        if self.launch.doors:
            return f"unix:/proc/self/fd/{self.launch.pass_fds[0]}/{GRPC_DOOR}"
        return grpc_address(self.spec)

    def tell(self, text: str, style: str = "") -> None:
        """Say a line to the user and to the log."""
        self.log.note(text)
        self.screen.say(text, style)

    def publish(self, **changes: Any) -> None:
        """Change the state that others read."""
        self.state = msgspec.structs.replace(self.state, **changes)
        try:
            write_state(self.folder, self.state)
        except OSError as error:
            self.tell(f"{self.folder} cannot be written ({error.strerror}): make status is not up to date", "yellow")

    def ask_to_stop(self) -> None:
        """First call: drain. Second: kill."""
        (self.kill if self.stop.is_set() else self.stop).set()
