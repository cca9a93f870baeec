"""A version on trial: while its release says so, a deployment has a second backend, which gets a share of its requests.

What a request belongs to decides who is asked, so that it stays with one version as the share grows; and
where one version fails, the other one answers: nobody is to notice a release.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from contract.errors import ConchError
from contract.rollout import Rollout, told_rollout
from contract.spec import Deployment, load_spec
from gateway.backend import Backend
from gateway.in_turn import InTurn
from gateway.journey import Journey
from gateway.replicas import Client

log = logging.getLogger("gateway")

_LOOK_S = 0.25
Connect = Callable[[Deployment, Path], Backend]  # a spec, and the folder of its engines/


@dataclass(frozen=True)
class _Trial:
    """A release that is on."""

    rollout: Rollout
    alone: Backend  # the current version, as it is without the other
    other: Backend  # the version on trial


class Versions:
    """The versions of every deployment.

    Args:
        backends: the current ones, which change as releases come and go.
        root: the folder of the current engines/.
    """

    def __init__(self, backends: dict[str, Backend], root: Path, connect: Connect) -> None:
        self._backends = backends
        self._root = root
        self._connect = connect
        self._trials: dict[str, _Trial] = {}
        self._refused: dict[str, Rollout] = {}  # what cannot be followed, and was said to be so
        self._leaving: list[tuple[Client, tuple[InTurn, ...]]] = []  # to be closed once these are idle

    def pick(self, backend: Backend, sticky: Callable[[], bytes], journey: Journey) -> Backend:
        """The version that is to answer a request."""
        trial = self._trials.get(backend.name)
        if trial is None:
            return backend
        journey.release = trial.rollout.release
        journey.trial = picked(trial.rollout, sticky())
        return trial.other if journey.trial else backend

    async def watch(self) -> None:
        """Follow what releases tell, until cancelled."""
        while True:
            for name, backend in list(self._backends.items()):
                self._follow(name, told_rollout(backend.run_dir))
            self._leaving = [each for each in self._leaving if not await _closed(*each)]
            await asyncio.sleep(_LOOK_S)

    def _follow(self, name: str, told: Rollout | None) -> None:
        trial = self._trials.get(name)
        if told == (trial.rollout if trial else None) or (told and told == self._refused.get(name)):
            return
        try:
            if trial and told and trial.rollout.release == told.release:
                self._go_on(name, trial, told)
            else:
                if trial:
                    self._end(name, trial)
                if told:
                    self._begin(name, told)
        except ConchError as error:
            assert told
            self._refused[name] = told
            log.error("release %s of %s: %s", told.release, name, error)

    def _begin(self, name: str, told: Rollout) -> None:
        alone = self._backends[name]
        spec = load_spec(told.trial)
        other = replace(self._connect(spec, told.trial_root), admission=alone.admission, run_dir=alone.run_dir)
        self._put(name, _Trial(told, alone, other))
        log.info("release %s of %s is on trial", told.release, name)

    def _go_on(self, name: str, trial: _Trial, told: Rollout) -> None:
        """Another share; or the version on trial has taken the current one's place."""
        if told.current and told.current != trial.rollout.current:
            self._retire(name, trial.alone.client)
            alone = replace(self._connect(load_spec(told.current), self._root), admission=trial.alone.admission)
            alone.admission.follow(alone.spec)
            other = replace(trial.other, client=_first_of(trial.other))
            self._put(name, _Trial(told, alone, other))
            log.info("release %s is what %s serves now", told.release, name)
            return
        self._trials[name] = replace(trial, rollout=told)
        log.info("release %s of %s gets %g %% of the requests", told.release, name, told.share * 100)

    def _put(self, name: str, trial: _Trial) -> None:
        """Let each version help the other."""
        ours, theirs = trial.alone.client, trial.other.client
        alike = trial.alone.tokenizer == trial.other.tokenizer
        self._backends[name] = replace(trial.alone, client=InTurn(ours, theirs, alike))
        self._trials[name] = replace(trial, other=replace(trial.other, client=InTurn(theirs, ours, alike)))

    def _end(self, name: str, trial: _Trial) -> None:
        self._retire(name, _first_of(trial.other))
        self._backends[name] = trial.alone
        del self._trials[name]
        log.info("release %s of %s is over", trial.rollout.release, name)

    def _retire(self, name: str, client: Client) -> None:
        """Close a client once those that began with it have ended."""
        users = [self._backends[name].client, self._trials[name].other.client]
        self._leaving.append((client, tuple(each for each in users if isinstance(each, InTurn))))


def picked(rollout: Rollout, sticky: bytes) -> bool:
    """Whether the version on trial is to be asked; what it is asked at one share, it is at every larger one."""
    place = blake2b(sticky, digest_size=8, salt=rollout.release.encode()[:16]).digest()
    return int.from_bytes(place) < rollout.share * 2**64


def _first_of(backend: Backend) -> Client:
    """A version's own server."""
    return backend.client.first if isinstance(backend.client, InTurn) else backend.client


async def _closed(client: Client, users: tuple[InTurn, ...]) -> bool:
    """Close a client if nobody uses it any more; whether it is."""
    if any(user.in_flight for user in users):
        return False
    await client.close()
    return True
