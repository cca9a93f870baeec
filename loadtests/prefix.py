"""``make bench-prefix``: requests to the server that has seen how they begin, against the fewest in flight.

Two servers of one deployment, a core each, behind two gateways that choose differently. Of 8 conversations two at a
time, drawn at random, take a turn. The gateways alternate, each with conversations that nobody has seen, so that the
servers' caches favour neither. A cache has room for 46,000 tokens, five times what goes on at once, and a conversation
has three turns: what counts is whether a turn comes where the last one was. Then one server is killed under the
conversations of the first gateway.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import Any

from contract import programs
from contract.address import free_ports
from contract.checkout import ROOT
from contract.errors import ServeError
from contract.metrics_page import samples
from contract.spec import Deployment, load_spec, write_spec
from loadtests.chats import Chat, Manner, Turn
from loadtests.command import ended, head, kept
from loadtests.family import GUARD, family_of
from loadtests.load.get import get
from loadtests.served import served, state_of
from loadtests.timelines import quantiles

CHATS = 8  # at a time
SERVERS = 2
ROUTINGS = ("prefix", "fewest")
AT_ONCE = 2
STEADY_S = 8.0  # before the kill
AFTER_S = 30.0
_TALK = Manner(beginning_tokens=50, turns=100, answer_tokens=24)  # while one server is killed
_PAUSE_S = 0.2
_SOON_S = 1.0
_START_S = 30.0


async def side_by_side(gateways: dict[str, Deployment], rounds: int) -> dict[str, list[Turn]]:
    """So many rounds through each gateway in turn, behind first turns that are not counted."""
    heard: dict[str, list[Turn]] = {routing: [] for routing in gateways}
    for number in range(rounds + 1):
        for routing in sorted(gateways, reverse=bool(number % 2)):
            manner = Manner() if number else Manner(turns=1)
            count = CHATS if number else SERVERS
            chats = [Chat(gateways[routing], f"{routing} {number} {each}", manner) for each in range(count)]
            rng = random.Random(number)
            await asyncio.gather(*(_drawn(chats, rng) for _ in range(AT_ONCE)))
            turns = [turn for chat in chats for turn in chat.turns]
            if number:
                heard[routing] += turns
                print(f"{number}/{rounds} {routing}: ttft {_p50_ms(turns):g} ms", flush=True)
    return heard


async def _drawn(idle: list[Chat], rng: random.Random) -> None:
    """Turns of conversations, drawn from those that nobody else has, until none has one left."""
    while able := [chat for chat in idle if not (chat.over or chat.busy)]:
        await rng.choice(able).turn()


def told(turns: Sequence[Turn]) -> dict[str, Any]:
    """The figures of one gateway; a turn that failed came again."""
    whole = [turn for turn in turns if not turn.error]
    numbers = sorted({turn.number for turn in whole})
    return {
        "requests": len(whole),
        "failed": len(turns) - len(whole),
        "ttft_ms": quantiles([turn.ttft_s for turn in whole]),
        "ttft_mean_ms": round(1000 * mean(turn.ttft_s for turn in whole), 1),
        "ttft_p50_ms_by_turn": [_p50_ms(turn for turn in whole if turn.number == number) for number in numbers],
    }


async def killed(gateway: Deployment, root: Path) -> dict[str, Any]:
    """Kill the server of this root under so many conversations, and look at what was and came after."""
    began = time.monotonic()
    chats = [Chat(gateway, f"killed {each}", _TALK) for each in range(CHATS)]
    until = began + STEADY_S + AFTER_S
    tasks = [asyncio.create_task(_talking(chat, until)) for chat in chats]
    await asyncio.sleep(STEADY_S)
    at = time.monotonic()
    for name, process in family_of(state_of(gateway, root)["supervisor_pid"]).items():
        if not name.endswith(GUARD):  # which cleans up
            process.kill()
    await asyncio.gather(*tasks)
    turns = [turn for chat in chats for turn in chat.turns]
    streaming = [turn for turn in turns if turn.first and turn.first < at < turn.ended]
    return {
        "requests": len(turns),
        "in_flight_at_the_kill": sum(turn.sent < at < turn.ended for turn in turns),
        "streaming_at_the_kill": len(streaming),
        "cut": sum(bool(turn.error) for turn in streaming),
        "failed_within_1_s": sum(bool(turn.error) and at - _SOON_S < turn.sent < at + _SOON_S for turn in turns),
        "failed_after_1_s": sum(bool(turn.error) and turn.sent >= at + _SOON_S for turn in turns),
        "sent_after_1_s": sum(turn.sent >= at + _SOON_S for turn in turns),
        "errors": sorted({turn.error for turn in turns if turn.error}),
    }


async def _talking(chat: Chat, until: float) -> None:
    """Its turns, for so long."""
    while not chat.over and time.monotonic() < until:
        await chat.turn()
        await asyncio.sleep(_PAUSE_S)


@contextmanager
def gateway_of(spec: Deployment, config: Path) -> Iterator[None]:
    """A gateway for the length of a measurement.

    Raises:
        ServeError: it does not find the servers.
    """
    write_spec(config, spec)
    process = subprocess.Popen([sys.executable, *programs.GATEWAY, str(config)], cwd=ROOT)
    try:
        deadline = time.monotonic() + _START_S
        while _metric(spec, "conch_gateway_replica_up") < SERVERS:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServeError(f"the gateway of {config.name} does not find its servers")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def _metric(spec: Deployment, name: str) -> float:
    """A metric of a gateway, over all labels; -1 where it does not answer."""
    try:
        page = get(f"http://{spec.gateway.host}:{spec.ports.gateway}/metrics", 5).decode()
    except OSError:
        return -1
    return sum(sample.value for sample in samples(page) if sample.name == name)


def _p50_ms(turns: Iterable[Turn]) -> float:
    return round(1000 * median(turn.ttft_s for turn in turns if not turn.error), 1)


def _placed(spec: Deployment, **gateway: object) -> Deployment:
    """The deployment on ports of its own, with one core for its engine, and no more of a prompt in a step than 64."""
    ports = dict(zip(("http", "grpc", "metrics", "gateway"), free_ports(4), strict=True))
    return spec.model_copy(
        update={
            "ports": spec.ports.model_copy(update=ports),
            "engine": spec.engine.model_copy(update={"threads": 1}),
            "limits": spec.limits.model_copy(update={"max_num_tokens": 64}),
            "gateway": spec.gateway.model_copy(update={"processes": 1, **gateway}),
        }
    )


def main(arguments: Sequence[str]) -> int:
    """Measure, write the JSON; 0 where half the time was saved and the kill cost nobody anything after a second."""
    parser = argparse.ArgumentParser(prog="make bench-prefix", description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "smollm2-135m.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "prefix.json")
    options = parser.parse_args(arguments)
    spec = load_spec(options.config)
    results: dict[str, Any] = {}
    report: dict[str, Any] = {
        **head(),
        "chats": CHATS,
        "servers": SERVERS,
        "at_once": AT_ONCE,
        "manner": asdict(Manner()),
    }
    with kept(options.out, report, results), tempfile.TemporaryDirectory() as temporary, ExitStack() as running:
        servers = []
        for name in "ab":
            root = Path(temporary, name)
            root.mkdir()
            (root / "engines").symlink_to(ROOT / "engines")
            server = _placed(spec, enabled=False)
            write_spec(root / "server.yaml", server)
            running.enter_context(served(root / "server.yaml", root))
            servers.append(f"{server.ports.host}:{server.ports.grpc}")
        gateways = {routing: _placed(spec, replicas=tuple(servers), routing=routing) for routing in ROUTINGS}
        for routing, gateway in gateways.items():
            running.enter_context(gateway_of(gateway, Path(temporary, f"{routing}.yaml")))
        for routing, turns in asyncio.run(side_by_side(gateways, options.rounds)).items():
            prompt = _metric(gateways[routing], "conch_gateway_prompt_tokens_total")
            expected = _metric(gateways[routing], "conch_gateway_prompt_tokens_expected_cached_total")
            results[routing] = told(turns) | {"expected_cached": round(expected / prompt, 3)}
            print(json.dumps({routing: results[routing]}, indent=1), flush=True)
        results["kill"] = asyncio.run(killed(gateways["prefix"], Path(temporary, "b")))
        report["ttft_p50_ratio"] = round(results["prefix"]["ttft_ms"]["p50"] / results["fewest"]["ttft_ms"]["p50"], 3)
        report |= results
    print(json.dumps(report, indent=1))
    kill = results["kill"]
    return 0 if report["ttft_p50_ratio"] <= 0.5 and not kill["failed_after_1_s"] else 1


if __name__ == "__main__":
    ended(main)
