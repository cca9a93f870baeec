"""``make compare CONFIGS="a.yaml b.yaml"``: engines on one machine, each alone and in our ensemble, in one table.

Every figure is on disk when it is known. Ctrl-C ends the run and keeps them; the same command goes on from there.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contract.errors import ServeError
from loadtests.command import ended
from loadtests.compare.effort import QUICK, Effort
from loadtests.compare.entrants import gathered
from loadtests.compare.record import Record
from loadtests.compare.report import write
from loadtests.compare.run import Comparison
from loadtests.load.slo import objectives

# option → field of Effort
_NUMBERS = {
    "rounds": "rounds",
    "seconds": "seconds",
    "input": "input_tokens",
    "output": "output_tokens",
    "step-seconds": "step_s",
    "capacity-seconds": "capacity_s",
    "clients": "clients",
}
_LISTS = {"streams": "streams", "prompts": "prompts", "recall": "recall"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parsed = argparse.ArgumentParser(prog="python -m loadtests.compare", description=__doc__, allow_abbrev=False)
    usual = Effort()
    parsed.add_argument("configs", nargs="+", type=Path, help="deployments, one for each engine")
    parsed.add_argument("--quick", action="store_true", help="a look in minutes: less of everything")
    parsed.add_argument("--rounds", type=int, help=f"of all servers, each started anew; default {usual.rounds}")
    parsed.add_argument("--seconds", type=float, help=f"that a timed cell lasts at least; default {usual.seconds:g}")
    parsed.add_argument("--input", type=int, help=f"prompt tokens; default {usual.input_tokens}")
    parsed.add_argument("--output", type=int, help=f"answer tokens; default {usual.output_tokens}")
    parsed.add_argument("--streams", type=int, nargs="+", help=f"at once; default {_words(usual.streams)}")
    parsed.add_argument("--prompts", type=int, nargs="+", help=f"lengths for TTFT; default {_words(usual.prompts)}")
    parsed.add_argument("--recall", type=int, nargs="+", help=f"lengths of contexts; default {_words(usual.recall)}")
    parsed.add_argument("--slo", help=f"what the capacity holds; default {usual.slo}")
    parsed.add_argument("--step-seconds", type=float, help=f"of load at one rate; default {usual.step_s:g}")
    parsed.add_argument("--capacity-seconds", type=float, help=f"for one search; 0: none; default {usual.capacity_s:g}")
    parsed.add_argument(
        "--beside", action="store_true", help="each engine alone and ours at once, in turns; memory for two"
    )
    parsed.add_argument("--clients", type=int, help="processes that send; more than 1 where there are many cores")
    parsed.add_argument("--out", type=Path, default=Path(".conch/compare"), help="folder of compare.html, compare.json")
    return parsed


def effort_of(options: argparse.Namespace) -> Effort:
    """What is asked for.

    Raises:
        ServeError: naming the option that is wrong.
    """
    chosen: dict[str, Any] = {}
    for option, field in {**_NUMBERS, **_LISTS, "slo": "slo"}.items():
        value = getattr(options, option.replace("-", "_"))
        if value is None:
            continue
        numbers = value if isinstance(value, list) else [value]
        if option != "slo" and min(numbers) <= 0 and not (option == "capacity-seconds" and value == 0):
            raise ServeError(f"--{option} must be above 0, got {_words(numbers)}")
        chosen[field] = tuple(sorted({*value})) if isinstance(value, list) else value
    effort = replace(QUICK if options.quick else Effort(), beside=options.beside, **chosen)
    objectives(effort.slo)  # refuses what cannot be read
    if 1 not in effort.streams:
        effort = replace(effort, streams=(1, *effort.streams))  # one stream is always among them
    return effort


def main(arguments: Sequence[str]) -> int:
    """Compare; 0 when every engine gave every figure that it has.

    Raises:
        ConchError: it cannot be run as asked.
    """
    options = parser().parse_args(arguments)
    effort = effort_of(options)
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    entrants, excluded = gathered(options.configs, folder)
    for each in excluded:
        print(f"{each.config} is not compared: {each.reason}", flush=True)
    command = shlex.join(["python", "-m", "loadtests.compare", *arguments])

    def changed(*, finished: bool = False) -> None:
        write(comparison, excluded, folder, command, finished=finished)

    comparison = Comparison(entrants, effort, folder, Record(folder), changed)
    try:
        comparison.run()
    finally:
        finished = sys.exc_info()[0] is None
        changed(finished=finished)
        print(f"report: {folder / 'compare.html'}", flush=True)
    return 1 if comparison.failed else 0


def _words(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


if __name__ == "__main__":
    ended(main)
