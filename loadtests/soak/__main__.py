"""``make soak``: 64 streams over the synthetic engine, through both doors, while its processes are killed.

Ten minutes, or with ``--requests 1000000`` so many requests in as many parts as it takes: Ctrl-C ends a part, the same
command goes on. Nothing may be lost, hang or lie, no gauge stay up, no process's memory grow.
"""

import argparse
import asyncio
import json
import math
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from contract.checkout import ROOT
from contract.spec import load_spec
from loadtests.command import ended, head, write
from loadtests.served import served, state_of
from loadtests.soak.kills import Kills, NotBack
from loadtests.soak.part import Part
from loadtests.soak.progress import Progress, Settings, resumed


def main(arguments: Sequence[str]) -> int:
    """Soak a server of its own; 0 when it came through, 2 when there is more to do."""
    options = _parser().parse_args(arguments)
    spec = load_spec(options.config)
    kept = ROOT / ".conch" / f"soak-{spec.name}.json"
    settings = Settings(spec.name, options.streams, options.seed, options.block, not options.no_kills)
    progress = resumed(kept, settings) if options.requests else Progress(settings)
    until = math.inf if options.requests and not options.seconds else time.monotonic() + (options.seconds or 600)
    wanted = options.requests or math.inf

    def enough() -> bool:
        return progress.tally.undisturbed >= wanted or time.monotonic() >= until

    def save() -> None:
        if options.requests:
            progress.save(kept)

    if progress.tally.requests:
        print(f"going on after {progress.tally.requests} requests in {progress.parts} parts ({kept})", flush=True)
    fault, cut = "", {}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends a part as Ctrl-C does
    with served(options.config.resolve()):
        kills = Kills(spec, int(state_of(spec)["supervisor_pid"]))
        part = Part(spec, kills, progress, enough, save, show=lambda line: print(line, flush=True))
        try:
            asyncio.run(part.run())
        except NotBack as error:
            fault = str(error)
        except KeyboardInterrupt:
            print("interrupted: what was found is kept", flush=True)
            cut = {"cut": True}
        save()
    if fault:
        progress.tally.faults.append(fault)
    report = {**head(), **progress.report(), **cut}
    print(json.dumps(report, indent=1))
    if options.requests and progress.tally.undisturbed < wanted and not fault:
        print(f"{wanted - progress.tally.undisturbed} requests to go: the same command goes on")
        return 2 if progress.clean else 1
    write(options.out, report)
    with suppress(FileNotFoundError):
        kept.unlink()
    return 0 if progress.clean and not fault else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "synthetic.yaml")
    parser.add_argument(
        "--requests", type=int, default=0, help="so many that no kill cuts, in as many parts as it takes"
    )
    parser.add_argument("--seconds", type=float, default=0.0, help="of this part (default: 600 without --requests)")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--block", type=int, default=50_000, help="requests with one kill of each process in them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "soak.json")
    return parser


if __name__ == "__main__":
    ended(main)
