"""A deployment under fuzz, and what must hold of it after every few cases: it answers, it is idle, it is the same."""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from build.repository import write_repository
from contract.spec import Deployment, write_spec
from contract.stage import run_dir
from loadtests.family import SUPERVISOR, family_of, memory_mib
from loadtests.served import state_of
from loadtests.soak.ask import Doors
from loadtests.soak.gauges import settled
from loadtests.soak.kills import refused
from serving.supervisor import find, start, stop
from tests.e2e.servers import on_free_ports
from tests.fuzz.case import Case, Door
from tests.fuzz.send import Answer, send

_MOST_MIB = 300.0  # that all processes together may gain by one batch
_OURS = ("[internal]", "[engine_failed]", "internal_error", "engine_failed", "Traceback")  # faults of our own code
_SPEC = {
    "name": "fuzzed",
    "engine": {"runtime": "synthetic", "step_ms": 0.2},
    "limits": {"max_seq_len": 1600, "max_batch_size": 64},
    "gateway": {"parser": "hermes", "max_body_mib": 4},
}


class Hurt(AssertionError):
    """A batch did harm."""


@dataclass
class Target:
    """A deployment of the synthetic engine, started anew after each harm."""

    spec: Deployment
    root: Path
    pids: dict[str, int]
    mib: float = 0.0

    def hit(self, cases: Sequence[Case]) -> None:
        """Send cases side by side.

        Raises:
            Hurt: what they did, after which the deployment is a fresh one.
        """
        faults = asyncio.run(self._hit(cases))
        if faults:
            self.renew()
            raise Hurt("; ".join(faults))

    async def _hit(self, cases: Sequence[Case]) -> list[str]:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.spec.ports.grpc}", options=options) as channel:
            said = await asyncio.gather(*(send(case, self.spec, channel) for case in cases))
        faults = [fault for case, answer in zip(cases, said, strict=True) if (fault := _judged(case, answer))]
        doors = Doors(self.spec)
        try:
            if unanswered := await refused(self.spec, doors):
                faults.append(f"the canary is not answered: {unanswered}")
        finally:
            await doors.close()
        faults += [f"{name} stays {value:g}" for name, value in (await settled(self.spec)).items()]
        family = family_of(self.pids[SUPERVISOR])
        now = {name: process.pid for name, process in family.items()}
        if now != self.pids:
            faults.append(f"{state_of(self.spec, self.root).get('last_failure') or 'a process was started again'}")
        before, self.mib = self.mib, sum(memory_mib(family).values())
        if before and self.mib - before > _MOST_MIB:
            faults.append(f"{self.mib - before:.0f} MiB more memory")
        return faults

    def begin(self) -> None:
        """Start it."""
        config = run_dir(self.root, self.spec.name) / "config.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        write_spec(config, self.spec)
        running = start(self.spec, self.root, str(config), show=lambda line: None)
        time.sleep(1)  # what starts beside it has started
        self.pids = {name: process.pid for name, process in family_of(running.supervisor_pid).items()}
        self.mib = 0.0

    def renew(self) -> None:
        """End it and start it anew."""
        family = family_of(self.pids[SUPERVISOR])
        family[SUPERVISOR].kill()
        psutil.wait_procs(list(family.values()), timeout=10)
        self.begin()


@contextmanager
def target() -> Iterator[Target]:
    """A deployment for the length of a fuzz."""
    with tempfile.TemporaryDirectory() as root:
        made = Target(on_free_ports(Deployment.model_validate(_SPEC)), Path(root), {})
        write_repository(made.root, made.spec, None)
        made.begin()
        try:
            yield made
        finally:
            running = find(made.spec, made.root)
            if running:
                stop(running)


def _judged(case: Case, answer: Answer) -> str:
    """What is wrong with an answer; '' for nothing."""
    if answer.hung:
        return f"no answer: {case!r}"
    if case.door is Door.GATEWAY and answer.status >= 500 and answer.status != 503:
        return f"{answer.status} {answer.said[-200:]!r}: {case!r}"
    ours = next((word for word in _OURS if word in answer.said), "")
    # An answer of the echo says its prompt, whatever that is; so only what is an error counts.
    if ours and (case.method or answer.status != 200 or '"error"' in answer.said):
        return f"{answer.said[-300:]!r}: {case!r}"
    return ""
