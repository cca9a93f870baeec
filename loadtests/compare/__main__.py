"""``make compare CONFIGS="a.yaml b.yaml"``: engines on one machine, each alone and in our ensemble, in one table.

Every figure is on disk when it is known. Ctrl-C ends the run and keeps them; the same command goes on from there.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
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

_OPTIONS = {each.metadata["name"] or each.name: each for each in fields(Effort) if each.metadata}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parsed = argparse.ArgumentParser(prog="python -m loadtests.compare", description=__doc__, allow_abbrev=False)
    parsed.add_argument("configs", nargs="+", type=Path, help="deployments, one for each engine")
    parsed.add_argument("--quick", action="store_true", help="a look in minutes: less of everything")
    for name, each in _OPTIONS.items():
        about, usual = each.metadata["about"], _listed(each.default)
        how: dict[str, Any] = {"type": type(usual[0]), "help": f"{about}; default {_words(usual)}"}
        if isinstance(each.default, tuple):
            how |= {"nargs": "+", "choices": each.metadata["among"] or None}
        elif each.default is False:
            how = {"action": "store_true", "default": None, "help": about}
        parsed.add_argument(f"--{name}", dest=each.name, **how)
    parsed.add_argument("--out", type=Path, default=Path(".conch/compare"), help="folder of compare.html, compare.json")
    return parsed


def effort_of(options: argparse.Namespace) -> Effort:
    """What is asked for.

    Raises:
        ServeError: naming the option that is wrong.
    """
    chosen: dict[str, Any] = {}
    for name, each in _OPTIONS.items():
        value = getattr(options, each.name)
        if value is None:
            continue
        numbers = [each for each in _listed(value) if not isinstance(each, str)]
        if min(numbers, default=1) <= 0 and not (name == "capacity-seconds" and value == 0):
            raise ServeError(f"--{name} must be above 0, got {_words(numbers)}")
        chosen[each.name] = tuple(sorted({*value})) if isinstance(value, list) else value
    effort = replace(QUICK if options.quick else Effort(), **chosen)
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

    def changed(*, finished: bool = False) -> list[str]:
        return write(comparison, excluded, folder, command, finished=finished)

    comparison = Comparison(entrants, effort, folder, Record(folder), changed)
    try:
        comparison.run()
    finally:
        finished = sys.exc_info()[0] is None
        for sentence in changed(finished=finished):
            print(sentence)
        print(f"report: {folder / 'compare.html'}", flush=True)
    return 1 if comparison.failed else 0


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _words(values: Sequence[Any]) -> str:
    return " ".join(value if isinstance(value, str) else f"{value:g}" for value in values)


if __name__ == "__main__":
    ended(main)
