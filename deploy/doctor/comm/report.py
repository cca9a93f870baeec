"""What the ranks' results come to: one line a test, judged by the slowest rank and by every rank's data."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from deploy.doctor.comm.measured import Measured, Offset
from deploy.doctor.comm.options import Options
from deploy.doctor.comm.pulse import Peer
from deploy.doctor.result import Result, failed, show

_CLOCK_WARN_S = 0.1  # beyond it logs and traces of two nodes cannot be put in order
_CLOCK_FAIL_S = 5.0  # beyond it certificates, tokens and leases begin to fail


@dataclass(frozen=True)
class Said:
    """What one rank tells rank 0."""

    measured: list[Measured]
    clock: Offset | None

    def dump(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Said":
        """From text."""
        data = json.loads(text)
        clock = Offset(**data["clock"]) if data["clock"] else None
        return cls([Measured(**each) for each in data["measured"]], clock)


@dataclass(frozen=True)
class Outcome:
    """A whole run, as rank 0 knows it."""

    options: Options
    peers: Mapping[int, Peer]
    said: Mapping[int, Said]
    software: Mapping[str, str]
    skipped: str = ""  # why nothing ran


def report(outcome: Outcome) -> bool:
    """Show the outcome, write it where it is wanted, and say whether something failed."""
    results = judge(outcome)
    show(_title(outcome), results, Console())
    if outcome.options.json:
        _write(outcome, results, outcome.options.json)
    return failed(results)


def judge(outcome: Outcome) -> list[Result]:
    """One result a test, and one for the clocks."""
    if outcome.skipped:
        return [Result(outcome.options.backend, "skipped", outcome.skipped)]
    tests = zip(*(outcome.said[rank].measured for rank in sorted(outcome.said)), strict=True)
    return [*(_test(list(each), outcome) for each in tests), *_clock(outcome)]


def _test(ranks: list[Measured], outcome: Outcome) -> Result:
    first = ranks[0]
    if first.skipped:
        return Result(first.name, "skipped", first.skipped)
    for rank, measured in enumerate(ranks):
        if measured.wrong:
            return Result(
                first.name,
                "fail",
                f"{outcome.peers[rank]}: {measured.wrong}",
                "do not serve with this: look at that node's memory, GPU and network card (dmesg, ECC counts)",
            )
    if not first.seconds:
        return Result(first.name, "ok", "exact")
    slowest = max(range(len(ranks)), key=lambda rank: ranks[rank].seconds)
    floor, gbps = outcome.options.floor_gbps, ranks[slowest].gbps
    each = f"exact; {outcome.options.mib} MiB in {ranks[slowest].seconds * 1e3:.3g} ms"
    if not gbps:
        return Result(first.name, "ok", f"{each}; one rank has no bus")
    seen = f"{each}, {gbps:.3g} Gbit/s, slowest at {outcome.peers[slowest]}"
    if gbps < floor:
        return Result(
            first.name, "fail", f"{seen}: below {floor:g}", "compare the nodes' doctor reports: link, GID, HCA"
        )
    return Result(first.name, "ok", seen)


def _clock(outcome: Outcome) -> list[Result]:
    found = {rank: said.clock for rank, said in sorted(outcome.said.items()) if said.clock}
    if not found:
        return [Result("clocks", "skipped", "one node has one clock")]
    far, clock = max(found.items(), key=lambda item: abs(item[1].seconds))
    seen = f"{outcome.peers[far]} is {clock.seconds * 1e3:+.1f} ms (± {clock.within * 1e3:.1f}) from the head"
    beyond = abs(clock.seconds) - clock.within
    if beyond <= _CLOCK_WARN_S:
        return [Result("clocks", "ok", seen)]
    todo = "run chrony or systemd-timesyncd on every node, from one source"
    return [Result("clocks", "fail" if beyond > _CLOCK_FAIL_S else "warn", seen, todo)]


def _title(outcome: Outcome) -> str:
    software = ", ".join(f"{name} {value}" for name, value in outcome.software.items())
    if outcome.skipped:
        return f"{outcome.options.backend}: {software}"
    nodes = len({peer.node for peer in outcome.peers.values()})
    return f"{outcome.options.backend}, {len(outcome.peers)} ranks on {nodes} nodes: {software}"


def _write(outcome: Outcome, results: list[Result], path: Path) -> None:
    data = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"host": platform.node(), "cores": os.cpu_count(), "kernel": platform.release()},
        "software": dict(outcome.software),
        "options": vars(outcome.options) | {"json": str(path)},
        "ranks": [asdict(peer) for peer in outcome.peers.values()],
        "failed": failed(results),
        "results": [{key: value for key, value in vars(result).items() if key != "same"} for result in results],
        "measured": {rank: asdict(said) for rank, said in outcome.said.items()},
    }
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
