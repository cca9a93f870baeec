"""One part of a soak: users without a pause, a director that kills in the first third of each block, and a watch."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from contract.spec import Deployment
from loadtests.family import memory_mib
from loadtests.gpu import gpu_memory_mib
from loadtests.soak.ask import Doors
from loadtests.soak.gauges import settled
from loadtests.soak.kills import Kills
from loadtests.soak.memory import LEAST_REQUESTS, Stretch
from loadtests.soak.mix import nth
from loadtests.soak.progress import Progress

_SAMPLE_S = 1.0
_SHOW_S = 10.0
_AWAY_S = 2.0  # a user who was told that the server is away comes back after so long


@dataclass
class Part:
    """What is done to a deployment that runs, until ``enough`` says so.

    Args:
        progress: where the figures go, and what was done before.
        save: called from time to time.
    """

    spec: Deployment
    kills: Kills
    progress: Progress
    enough: Callable[[], bool]
    save: Callable[[], None]
    show: Callable[[str], None] = print
    _victims: tuple[str, ...] = ()
    _next: int = 0
    _stretch: Stretch = field(default_factory=Stretch)

    async def run(self) -> None:
        """Until it is enough; what was done is in the progress, however it ends."""
        doors = Doors(self.spec)
        self.progress.parts += 1
        self._victims = self.kills.victims
        self._next = self.progress.tally.requests
        users = [asyncio.create_task(self._user(doors)) for _ in range(self.progress.settings.streams)]
        beside = [asyncio.create_task(each) for each in (self._watch(), self._direct(doors))]
        try:
            waited: set[asyncio.Task[None]] = {*users, beside[1]}
            while not all(user.done() for user in users):
                done, waited = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in (*users, *beside):
                task.cancel()
            await asyncio.gather(*users, *beside, return_exceptions=True)
            await doors.close()
            self._note_growth()
        self.progress.left = await settled(self.spec)

    async def _user(self, doors: Doors) -> None:
        settings, tally = self.progress.settings, self.progress.tally
        while not self.enough():
            number, self._next = self._next, self._next + 1
            story = await doors.tell(nth(number, settings.seed, self.spec))
            tally.take(story, excused=self.kills.excuses(story))
            if self.kills.away:
                await asyncio.sleep(_AWAY_S)

    async def _direct(self, doors: Doors) -> None:
        """Kill each victim once in the first third of each block."""
        settings, tally, victims = self.progress.settings, self.progress.tally, self._victims
        step = settings.block // 3 // len(victims)
        while settings.kills and not self.enough():
            done = tally.undisturbed
            at, turn = done % settings.block, len(self._struck(done // settings.block))
            if turn < len(victims) and at >= turn * step:
                self._note_growth()
                outage = await self.kills.strike(victims[turn], doors)
                self.progress.back_s.setdefault(outage.victim, []).append(outage.back_s)
            await asyncio.sleep(0.1)

    def _struck(self, block: int) -> list[str]:
        """Whom this block has seen killed: each once a block."""
        return [name for name in self._victims if len(self.progress.back_s.get(name, ())) > block]

    async def _watch(self) -> None:
        """Sample the memory and say how it goes."""
        before, shown = time.monotonic(), time.monotonic()
        while True:
            await asyncio.sleep(_SAMPLE_S)
            now = time.monotonic()
            self.progress.seconds += now - before
            before = now
            if not self.kills.away:
                gpu = await asyncio.to_thread(gpu_memory_mib)
                self.progress.memory_mib = memory_mib(self.kills.family()) | gpu
                self._stretch.samples.append((self.progress.tally.undisturbed, self.progress.memory_mib))
            if now - shown >= _SHOW_S:
                shown = now
                self.save()
                self.show(_line(self.progress))

    def _note_growth(self) -> None:
        """A stretch without kills ended; one that is too short for caches to fill tells nothing."""
        counts = [count for count, _ in self._stretch.samples]
        if counts and counts[-1] - counts[0] >= LEAST_REQUESTS:
            growth = self._stretch.growth()
            self.progress.growth += [growth] if growth else []
        self._stretch = Stretch()


def _line(progress: Progress) -> str:
    tally = progress.tally
    killed = sum(map(len, progress.back_s.values()))
    return (
        f"{progress.seconds:6.0f} s: {tally.undisturbed} requests, {tally.complete} complete, "
        f"{tally.cancelled} cancelled, {tally.refused} refused; {tally.told} told of {killed} kills; "
        f"{tally.lost} lost, {tally.hung} hung, {tally.wrong} wrong"
    )
