"""One release from its config to its verdict: build, room, start, proof, shares, promotion. Each step can say no."""

import asyncio
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from clients.grpc import AsyncClient
from contract.address import grpc_address
from contract.errors import ConchError, ServeError
from contract.rollout import Rollout, release_folder, releasing_lock, tell_rollout
from contract.spec import Deployment, write_spec
from contract.state import read_state
from release import proof
from release.candidate import Candidate, beside, built
from release.course import Course
from release.history import BEFORE, SERVED, WANTED, Report
from release.live import Live
from release.promotion import take_the_place
from release.room import check_room
from release.shares import Plan, tried

_LOOK_S = 1.0  # the gateway has looked by then


class AskedBack(ServeError):
    """Somebody wants the version before."""


@dataclass(frozen=True)
class Order:
    """What is to be released, and how.

    Args:
        builder: the Python that make engine runs in.
        engine: one that is there already; None: it is built.
        proven: it was served before, so it is neither proved nor tried.
        agreement: the share of next tokens that must be the current version's; None: verify.min_top1_agreement.
        swap: in the current one's place at once, where two do not fit.
    """

    config: Path
    spec: Deployment
    plan: Plan
    builder: Path = Path(sys.executable)
    engine: Path | None = None
    proven: bool = False
    agreement: float | None = None
    swap: bool = False

    @property
    def least_agreement(self) -> float:
        """What it must reach."""
        return self.spec.verify.min_top1_agreement if self.agreement is None else self.agreement


def release(live: Live, order: Order, say: Callable[[str], None]) -> Report:
    """Release a version; the report says what became of it.

    Raises:
        ServeError: another release is on.
    """
    with _alone(live):
        restarts = live.state.restarts
        course = _begun(live, order, say)
        report = course.report
        try:
            _go(course, order)
            report.verdict = "promoted"
            say(f"release {report.release} is what {live.name} serves now")
        except ConchError as refusal:
            report.verdict, report.reason = "rolled back", f"{refusal}{_meanwhile(live, restarts)}"
            say(f"rolled back: {report.reason}")
        finally:
            tell_rollout(live.run_dir, None)
            report.write(live.run_dir)
        return report


def _meanwhile(live: Live, restarts: int) -> str:
    """What befell the current version since it had been restarted so often, where that may be the reason."""
    state = read_state(live.run_dir)
    if state is None:
        return f" (and {live.name} is not served any more: make up starts it, with the version it had)"
    if state.restarts > restarts:
        return f" (the current version's server was restarted meanwhile: {state.last_failure})"
    return ""


def _begun(live: Live, order: Order, say: Callable[[str], None]) -> Course:
    course = Course(live, Report(_fresh_name(live), live.name, str(order.config)), say)
    course.folder.mkdir(parents=True)
    serves = live.serves()
    course.report.engine_before = str(serves.engine or "")
    course.report.before = serves.engine.name if serves.engine else ""
    write_spec(course.folder / BEFORE, serves.spec)
    write_spec(course.folder / WANTED, order.spec)
    return course


def _fresh_name(live: Live) -> str:
    """By the clock; two in one second are told apart by waiting."""
    while release_folder(live.run_dir, name := time.strftime("%Y%m%d-%H%M%S")).exists():
        time.sleep(0.1)
    return name


def _go(course: Course, order: Order) -> None:
    engine = order.engine
    if engine is None and order.spec.source:
        course.say(f"building {order.config} …")
        engine = built(order.config, course.live.root, order.builder)
    course.report.engine, course.report.version = str(engine or ""), engine.name if engine else ""
    (_swapped if order.swap else _beside)(course, order, engine)


def _beside(course: Course, order: Order, engine: Path | None) -> None:
    """Try it beside the current one, and let it take its place."""
    live, report, served = course.live, course.report, course.folder / SERVED
    report.found["room"] = check_room(order.spec, live.state.server_pid)
    began = time.monotonic()
    with beside(order.spec, engine, live.root, course.folder / "trial.log") as candidate:
        candidate.wait()
        course.say(f"it is served beside the current version, ready after {time.monotonic() - began:.0f} s")
        if not order.proven:
            asyncio.run(_proved(course, order, candidate))
        tried(course, candidate, order.plan)
        course.say("it takes the current version's place …")
        take_the_place(live, report.release, order.spec, engine, served)
        tell_rollout(live.run_dir, Rollout(report.release, 0.0, candidate.config, candidate.root, current=served))
        time.sleep(_LOOK_S)  # what the version on trial still streams, its own draining waits for


async def _proved(course: Course, order: Order, candidate: Candidate) -> None:
    async with _client(course.live.serves().spec) as current, _client(candidate.spec) as trial:
        await proof.smoke(trial)
        await _agrees(course, order, trial, await proof.known_texts(current))
        ours, theirs = await proof.speeds(current, trial)
        course.report.found["speeds"] = {"current": vars(ours), "trial": vars(theirs)}
        course.say(
            f"one answer at a time: first token {theirs.ttft_s * 1e3:.0f} ms (current {ours.ttft_s * 1e3:.0f}), "
            f"each further {theirs.tpot_s * 1e3:.1f} ms (current {ours.tpot_s * 1e3:.1f})"
        )
        proof.check_speed(ours, theirs)


async def _agrees(course: Course, order: Order, trial: AsyncClient, texts: list[proof.Text]) -> None:
    share, tokens = await proof.agreement(trial, texts, weights=order.spec.engine.kind.weights)
    course.report.found["agreement"] = {"share": share, "tokens": tokens, "least": order.least_agreement}
    course.say(f"it says what the current version says in {share:.1%} of {tokens} places")
    proof.check_agreement(share, tokens, order.least_agreement)


def _swapped(course: Course, order: Order, engine: Path | None) -> None:
    """Without a second server: what comes while the version loads is told to come back."""
    live, served, before = course.live, course.folder / SERVED, course.live.serves()
    texts = [] if order.proven else asyncio.run(_texts(before.spec))
    course.say("draining the current version …")
    take_the_place(live, course.report.release, order.spec, engine, served)
    try:
        if texts:
            asyncio.run(_proved_alone(course, order, texts))
    except ConchError:
        back = course.folder / "back.yaml"
        take_the_place(live, f"{course.report.release}-back", before.spec, before.engine, back)
        raise
    rollout = Rollout(course.report.release, 0.0, served, live.root)
    for told in (rollout, msgspec.structs.replace(rollout, current=served)):
        tell_rollout(live.run_dir, told)
        time.sleep(_LOOK_S)


async def _texts(spec: Deployment) -> list[proof.Text]:
    async with _client(spec) as current:
        return await proof.known_texts(current)


async def _proved_alone(course: Course, order: Order, texts: list[proof.Text]) -> None:
    async with _client(order.spec) as trial:
        await proof.smoke(trial)
        await _agrees(course, order, trial, texts)


def _client(spec: Deployment) -> AsyncClient:
    return AsyncClient(grpc_address(spec), spec.name, direct=True)


@contextmanager
def _alone(live: Live) -> Iterator[None]:
    """Hold the deployment's releases; SIGTERM and SIGINT ask for the version before.

    Raises:
        ServeError: another process does.
    """
    with releasing_lock(live.run_dir).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServeError(
                f"another release of {live.name} is on", fix="make rollback ends it, or wait for its verdict"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        before = {number: signal.signal(number, _asked_back) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _asked_back(number: int, frame: object) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)  # what it ends is ended in order
    raise AskedBack("it was asked for, with make rollback or Ctrl-C")
