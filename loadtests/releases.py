"""Releases of the default deployment under load: one good, and one for each way to be bad; what its users saw of them.

Writes releases.json (``make bench-releases``): the verdict, the reason and the time of each, and the answers that
came meanwhile, and those that failed or were cut. Engines are built beforehand: the time is the release's own.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from contract import programs
from contract.address import free_ports
from contract.checkout import ROOT
from contract.errors import BuildError
from contract.spec import Deployment, load_spec, write_spec
from contract.stage import run_dir
from contract.state import read_state
from loadtests.command import ended, head, kept
from loadtests.lean import Order, Timeline, one
from loadtests.served import served

CONFIG = ROOT / "configs" / "smollm2-135m.yaml"
FOLDER = ROOT / ".conch" / "bench-releases"
OUT = FOLDER / "releases.json"
LAX = {"min_top1_agreement": 0.0, "max_perplexity_ratio": 10.0}
_PROMPT, _ANSWER = 32, 24  # tokens


@dataclass
class Crowd:
    """So many users, each with one answer after the other, through the gateway."""

    spec: Deployment
    streams: int
    seen: list[Timeline] = field(default_factory=list)
    _enough: bool = False

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Users for the length of a ``with`` block; what they began, they end."""
        thread = Thread(target=lambda: asyncio.run(self._all()))
        thread.start()
        try:
            yield
        finally:
            self._enough = True
            thread.join()

    async def _all(self) -> None:
        await asyncio.gather(*(self._user(number) for number in range(self.streams)))

    async def _user(self, user: int) -> None:
        order = Order("openai", "127.0.0.1", self.spec.ports.gateway, self.spec.name, [])
        number = 0
        while not self._enough:
            number += 1
            prompt = [1000 + (user * 7919 + number * 104729 + at * 31) % 40000 for at in range(_PROMPT)]
            self.seen.append(await one(order, {"prompt": prompt, "max_tokens": _ANSWER}))

    def told(self) -> dict[str, int]:
        """What they saw."""
        failed = [each for each in self.seen if each.error]
        cut = [each for each in self.seen if not each.error and not each.finish_reason]
        for each in failed[:3]:
            print("  failed:", each.error)
        return {"answers": len(self.seen), "failed": len(failed), "cut": len(cut)}


@dataclass(frozen=True)
class Case:
    """A version, and what befalls it.

    Args:
        changes: of the deployment's sections.
        words: for the release.
        befalls: is called while it is released, until it ends.
    """

    expected: str
    changes: dict[str, dict[str, Any]]
    words: tuple[str, ...] = ()
    befalls: Callable[[Deployment], None] = lambda spec: None


def crashes(spec: Deployment) -> None:
    """Its server is killed a minute after it got its first share of the traffic."""
    folder = run_dir(ROOT, spec.name)
    while not (folder / "rollout.json").exists():
        time.sleep(0.2)
    time.sleep(60)
    trial = read_state(run_dir(folder / "trial", spec.name))
    if trial:
        with suppress(ProcessLookupError):
            os.kill(trial.server_pid, signal.SIGKILL)


def spoiled(spec: Deployment) -> None:
    """Its engine's network is blank once it lies beside the current one."""
    link = run_dir(ROOT, spec.name) / "trial" / "engines" / spec.name / "current"
    while not link.exists():
        time.sleep(0.01)
    network = (link / "openvino_model.xml").resolve()  # the link goes with the trial
    whole = network.read_bytes()
    network.write_bytes(b" " * len(whole))
    try:
        while link.exists():
            time.sleep(0.2)
    finally:
        network.write_bytes(whole)


SHORT = ("--pairs", "40", "--minutes", "0.75")
LONG = ("--pairs", "100000", "--minutes", "3")
CASES = {
    "good": Case("promoted", {"limits": {"max_num_tokens": 384}}, words=SHORT),
    "slower": Case("rolled back", {"engine": {"precision": "fp32"}}, words=(*SHORT, "--agreement", "0.7")),
    "int4, as verify sees it": Case("rolled back", {"engine": {"precision": "int4"}}),
    "int4, unverified": Case(
        "rolled back", {"engine": {"precision": "int4"}, "verify": LAX}, words=("--agreement", "0.9")
    ),
    "crashes": Case("rolled back", {"limits": {"max_num_tokens": 320}}, words=LONG, befalls=crashes),
    "does not load": Case("rolled back", {"engine": {"precision": "int4"}, "verify": LAX}, befalls=spoiled),
}


def main(words: Sequence[str]) -> int:
    """Every case, one after the other, before one deployment that is never stopped."""
    own = argparse.ArgumentParser(description=__doc__)
    own.add_argument("--config", type=Path, default=CONFIG)
    own.add_argument("--streams", type=int, default=16)
    own.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    own.add_argument("--builder", type=Path, default=ROOT / ".venv-build/bin/python", help="the Python of make engine")
    own.add_argument("--out", type=Path, default=OUT)
    asked = own.parse_args(words)
    ports = dict(zip(("http", "grpc", "metrics", "gateway"), free_ports(4), strict=True))
    original = load_spec(asked.config)
    spec = original.model_copy(update={"ports": original.ports.model_copy(update=ports)})
    FOLDER.mkdir(parents=True, exist_ok=True)
    base = _written(spec, {}, FOLDER / "base.yaml")
    cases: dict[str, Any] = {}
    report = {**head(), "streams": asked.streams, "prompt": _PROMPT, "answer": _ANSWER, "cases": cases}
    with kept(asked.out, report, cases), served(base):
        for name in asked.only:
            cases[name] = _tried(spec, name, CASES[name], asked)
            print(f"{name}: {cases[name]}", flush=True)
    wrong = [
        name for name, each in cases.items() if each["verdict"] != CASES[name].expected or each["failed"] or each["cut"]
    ]
    return 1 if wrong else 0


def _tried(spec: Deployment, name: str, case: Case, asked: argparse.Namespace) -> dict[str, Any]:
    config = _written(spec, case.changes, FOLDER / f"{name.replace(' ', '-').replace(',', '')}.yaml")
    if spec.source:  # a build that fails is the release's to tell
        with suppress(BuildError):
            programs.built(asked.builder, config, "--apart")
    command = [sys.executable, *programs.RELEASE, "start", str(config), "--builder", str(asked.builder), *case.words]
    crowd = Crowd(spec, asked.streams)
    began = time.monotonic()
    with crowd.at_work():
        Thread(target=case.befalls, args=(spec,), daemon=True).start()
        subprocess.run(command, cwd=ROOT, check=False)
        took_s = time.monotonic() - began
        time.sleep(2)  # and after it
    history = run_dir(ROOT, spec.name) / "releases" / "history.jsonl"
    last = json.loads(history.read_text().splitlines()[-1])
    return {"verdict": last["verdict"], "reason": last["reason"], "seconds": round(took_s, 1), **crowd.told()}


def _written(spec: Deployment, changes: dict[str, dict[str, Any]], path: Path) -> Path:
    data = spec.model_dump(mode="json", exclude_unset=True)
    for section, values in changes.items():
        data[section] = {**data.get(section, {}), **values}
    write_spec(path, Deployment.model_validate(data))
    return path


if __name__ == "__main__":
    ended(main)
