"""Kills at intervals, and when each door was away for them: an error then is told, at any other time lost."""

import asyncio
import time
from dataclasses import dataclass, field

from contract.spec import Deployment
from loadtests.family import GUARD, SUPERVISOR, Family, family_of, is_gateway, replaced
from loadtests.served import state_of
from loadtests.soak.ask import CONNECTIONS, Doors, End, Story, Way
from loadtests.soak.mix import ask

_BACK_S = 120.0  # a deployment that is not back by then does not come back
_LOOK_S = 0.1
_RECONNECT_S = 2.0  # connections look for a server that came back once a second: ours, and the gateway's


class NotBack(Exception):
    """It was killed, and did not come back."""


@dataclass
class Outage:
    """One kill and what it took."""

    victim: str
    began: float  # time.monotonic()
    ended: float = float("inf")
    back_s: float = 0.0  # until both doors answered again

    def touches(self, story: Story) -> bool:
        """Whether a request's door was away at some moment of it."""
        hit = not is_gateway(self.victim) or story.ask.way is not Way.GRPC
        return hit and story.began <= self.ended and story.ended >= self.began


@dataclass
class Kills:
    """Kills processes of a deployment that is under load."""

    spec: Deployment
    supervisor_pid: int
    outages: list[Outage] = field(default_factory=list)
    away: bool = False

    @property
    def victims(self) -> tuple[str, ...]:
        """Whom it kills, in turn: all but the supervisor, whom nobody here starts again, and the guards."""
        return tuple(sorted(name for name in self.family() if not name.endswith(GUARD)))

    def excuses(self, story: Story) -> bool:
        """Whether a kill explains an error."""
        return any(outage.touches(story) for outage in reversed(self.outages[-8:]))

    async def strike(self, victim: str, doors: Doors) -> Outage:
        """Kill one, and return when both doors answer again.

        Raises:
            NotBack: they do not.
        """
        process = self.family()[victim]
        outage = Outage(victim, time.monotonic())
        self.outages.append(outage)
        self.away = True
        process.kill()
        while not replaced(self.supervisor_pid, victim, process.pid) or await refused(self.spec, doors):
            await asyncio.sleep(_LOOK_S)
            if time.monotonic() - outage.began > _BACK_S:
                raise NotBack(f"{_BACK_S:g} s after {victim} was killed: {state_of(self.spec)}")
        outage.back_s = round(time.monotonic() - outage.began, 2)
        outage.ended = time.monotonic() + _RECONNECT_S
        self.away = False
        return outage

    def family(self) -> Family:
        """Its processes now."""
        return {name: each for name, each in family_of(self.supervisor_pid).items() if name != SUPERVISOR}


async def refused(spec: Deployment, doors: Doors) -> str:
    """Which door gives no whole answer, and why; '' when both do, over each connection: they come back one by one."""
    asks = [ask(way, "are you there? ", 4, spec) for way in (Way.GRPC, Way.CHAT) for _ in range(CONNECTIONS)]
    stories = await asyncio.gather(*map(doors.tell, asks))
    wrong = [each for each in stories if each.end is not End.WHOLE or not each.right]
    return f"{wrong[0].ask.way} {wrong[0].end}: {wrong[0].said or wrong[0].text!r}" if wrong else ""
