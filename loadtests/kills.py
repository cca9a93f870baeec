"""``make kills``: kill -9 of each process of a deployment in turn, under 64 streams: who is told, and what is left?

The processes are those of the running tree. After each kill: every stream told or whole, both doors answer within 10 s,
every gauge 0, and no process, listening socket, shared memory or temporary file of the dead.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from contract.checkout import ROOT
from contract.spec import Deployment, load_spec
from loadtests.command import ended, head, kept
from loadtests.family import GUARD, SUPERVISOR, family_of, is_gateway, replaced
from loadtests.left import Left, left_by, look
from loadtests.served import served, state_of, up
from loadtests.soak.ask import Doors, End, Story, Way
from loadtests.soak.gauges import settled
from loadtests.soak.kills import refused
from loadtests.soak.mix import ask

STREAMS = 64  # half of them over gRPC, half through the gateway's chat
TOKENS = 500
BACK_S = 10.0  # the most that a recovery may take, on a machine that does nothing else
_NOT_BACK_S = 120.0
_HEALTHY_S = 16.0  # after which a failure is forgiven: the next one is the first again
_TOLD_S = 30.0  # for every stream to end
_LOOK_S = 0.1


@dataclass(frozen=True)
class Site:
    """A deployment that runs, and how a user starts it again."""

    spec: Deployment
    root: Path
    up: Callable[[], object]

    def pid(self) -> int:
        """Its supervisor's process id."""
        return int(state_of(self.spec, self.root)["supervisor_pid"])


@dataclass
class Blow:
    """What one kill did."""

    victim: str
    told: int = 0
    whole: int = 0
    back_s: float = 0.0  # from the kill to whole answers from both doors
    faults: list[str] = field(default_factory=list)


async def strike(site: Site, victim: str) -> Blow:
    """Kill one process under load, and look at everything after."""
    blow = Blow(victim)
    family, before = family_of(site.pid()), look(site.spec, site.root, site.pid())
    doors = Doors(site.spec)
    try:
        stories, crowd = await _crowd(site.spec, doors)
        killed = time.monotonic()
        family[victim].kill()
        if victim == SUPERVISOR:
            blow.faults += await _nothing_left(site, before)
            await asyncio.to_thread(site.up)
        late = ""
        while away := await _away(site, victim, family[victim].pid, doors):
            await asyncio.sleep(_LOOK_S)
            waited_s = time.monotonic() - killed
            late = late or (away if waited_s > BACK_S else "")
            if waited_s > _NOT_BACK_S:
                blow.faults.append("it does not come back")
                break
        if late:
            blow.faults.append(f"after {BACK_S:g} s: {late}")
        blow.back_s = round(time.monotonic() - killed, 2)
        await asyncio.wait(crowd, timeout=_TOLD_S)
        _judge(blow, stories)
        blow.faults += [f"{name} is {value:g}" for name, value in (await settled(site.spec)).items()]
        after = look(site.spec, site.root, site.pid())
        blow.faults += left_by(before, after)
    finally:
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        await doors.close()
    return blow


async def _away(site: Site, victim: str, pid: int, doors: Doors) -> str:
    """Why the deployment does not count as back; '' once it does."""
    if not replaced(site.pid(), victim, pid):
        return f"there is no {victim} yet"
    return await refused(site.spec, doors)


async def _crowd(spec: Deployment, doors: Doors) -> tuple[list[Story], list[asyncio.Task[Story]]]:
    """Streams that are all under way."""
    asks = [
        ask(Way.GRPC if number % 2 else Way.CHAT, f"stream {number} of the crowd. ", TOKENS, spec)
        for number in range(STREAMS)
    ]
    stories = [Story(each, time.monotonic()) for each in asks]
    tasks = [asyncio.create_task(doors.tell(story.ask, story)) for story in stories]
    for story, task in zip(stories, tasks, strict=True):
        while not story.pieces and not task.done():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
    return stories, tasks


async def _nothing_left(site: Site, before: Left) -> list[str]:
    """The faults of a deployment whose supervisor was killed, once there is none or its patience is over."""
    deadline = time.monotonic() + BACK_S
    while True:
        faults = left_by(before, look(site.spec, site.root, None))
        if not faults or time.monotonic() > deadline:
            return faults
        await asyncio.sleep(_LOOK_S)


def _judge(blow: Blow, stories: Iterable[Story]) -> None:
    """Count the streams; what a kill cannot touch must be whole, and what it cut must be told."""
    for story in stories:
        over_http = story.ask.way is not Way.GRPC
        touched = not blow.victim.endswith(GUARD) and (over_http or not is_gateway(blow.victim))
        by_transport = over_http and (
            blow.victim == SUPERVISOR or is_gateway(blow.victim)
        )  # who would send an event is dead
        if story.end is End.WHOLE and story.right:
            blow.whole += 1
        elif touched and (story.end is End.TOLD or (story.end is End.BROKEN and by_transport)):
            blow.told += 1
        else:
            end = story.end if story.ended else End.HUNG
            blow.faults.append(f"{story.ask.way} {end} {story.code} {story.said!r} after {story.pieces} pieces")


async def rounds(site: Site, times: int, healthy_s: float) -> AsyncIterator[Blow]:
    """Kill everyone so many times, each when the deployment has been well for so long."""
    for number in range(times):
        for victim in sorted(family_of(site.pid())):
            await asyncio.sleep(0 if victim.endswith(GUARD) else healthy_s)
            blow = await strike(site, victim)
            print(
                f"{number + 1}/{times} {victim}: {blow.told} told, {blow.whole} whole, back after {blow.back_s:g} s",
                *blow.faults, sep="\n    ", flush=True,
            )  # fmt: skip
            yield blow


def report(blows: Iterable[Blow]) -> dict[str, Any]:
    """The figures by victim."""
    of: dict[str, list[Blow]] = {}
    for blow in blows:
        of.setdefault(blow.victim, []).append(blow)
    return {
        victim: {
            "times": len(each),
            "told": sum(blow.told for blow in each),
            "whole": sum(blow.whole for blow in each),
            "back_s": {"median": median(blow.back_s for blow in each), "most": max(blow.back_s for blow in each)},
            "faults": [fault for blow in each for fault in blow.faults],
        }
        for victim, each in of.items()
    }


def main(arguments: Sequence[str]) -> int:
    """Kill a server of its own; 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="make kills", description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "synthetic.yaml")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--healthy-s", type=float, default=_HEALTHY_S, help="before each kill")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "kills.json")
    options = parser.parse_args(arguments)
    config = options.config.resolve()
    spec = load_spec(config)
    blows: list[Blow] = []
    told: dict[str, Any] = {**head(), "streams": STREAMS, "tokens": TOKENS}

    async def struck(site: Site) -> None:
        async for blow in rounds(site, options.times, options.healthy_s):
            blows.append(blow)
            told["kills"] = report(blows)

    with tempfile.TemporaryDirectory() as temporary, kept(options.out, told, blows):
        os.environ["TMPDIR"] = tempfile.tempdir = temporary  # of all that is started here
        with served(config):
            site = Site(spec, ROOT, lambda: up(config))
            prefix = look(spec, ROOT, site.pid()).prefix
            asyncio.run(struck(site))
        told["left_in_the_end"] = look(spec, ROOT, None, prefix).everything
    print(json.dumps(told, indent=1))
    return 1 if told["left_in_the_end"] or any(blow.faults for blow in blows) else 0


if __name__ == "__main__":
    ended(main)
