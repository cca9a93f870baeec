"""Who is still there: every rank beats in the store of the head, and whose beat stops is named when a step hangs.

A backend alone cannot tell: a rank that is cut off and one that is slow look alike to it, some wait for ever (a CUDA
stream), others name an address. The store has a connection of its own, so that a hang without a silent rank says that
the ranks' own sockets are at fault.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, Protocol

_BEAT_S = 0.5
_SILENT_S = 3.0  # six beats: longer than a busy rank keeps Python's lock
_LOCAL_TURN_S = 3.0  # a node speaks once: its first rank at once, the others where that one is dead


class Store(Protocol):
    """What is used of torch.distributed's store."""

    def set(self, key: str, value: str, /) -> None:
        """Keep a value."""

    def multi_get(self, keys: list[str], /) -> list[bytes]:
        """The values of several keys, waiting for them."""


@dataclass(frozen=True)
class Peer:
    """One rank, as a person finds it."""

    rank: int
    node: int
    host: str  # name and address

    def __str__(self) -> str:
        return f"rank {self.rank} (node {self.node}, {self.host})"


@dataclass(frozen=True)
class Signs:
    """What a rank knows of the others at one moment, in seconds."""

    step: str  # what it is doing; '' between steps
    step_s: float  # for how long
    contact_s: float  # since the head's store last answered
    silent_s: Mapping[int, float]  # since each rank's beat last moved
    broken: str = ""  # what the backend raised, and
    broken_s: float = 0.0  # how long ago


def verdict(signs: Signs, peers: Mapping[int, Peer], head: str, limit_s: float) -> str:
    """Why this rank must give up; '' while it need not."""
    late = bool(signs.step) and signs.step_s > limit_s
    silent = [peers[rank] for rank, silence in sorted(signs.silent_s.items()) if silence > _SILENT_S]
    longest = max([signs.contact_s, *signs.silent_s.values()])
    if not (signs.broken or late or longest > limit_s):
        return ""
    what = f"{signs.step or 'waiting for the other ranks'} did not finish"
    if signs.contact_s > _SILENT_S:
        return (
            f"{what}: the head at {head} has not answered for {signs.contact_s:.0f} s. Either it is gone, or this node "
            "is cut off from it: look at the head first, then at this node's network"
        )
    if silent:
        names = ", ".join(map(str, silent))
        verb = "has" if len(silent) == 1 else "have"
        return (
            f"{what}: {names} {verb} been silent for {max(signs.silent_s.values()):.0f} s. The process was ended, or "
            "its node or network is gone: look there, then start again on all nodes"
        )
    # A rank that has just gone is silent only after a while.
    if signs.broken and signs.broken_s > _SILENT_S + 2 * _BEAT_S:
        return f"{signs.step} failed though every rank is there: {signs.broken}"
    if late and signs.step_s > limit_s + _SILENT_S + 2 * _BEAT_S:
        return (
            f"{what} in {limit_s:.0f} s though every rank still answers at the head. Their sockets to each other are "
            "held up: open all ports between the nodes, and see which interface *_SOCKET_IFNAME names (make doctor)"
        )
    return ""


def first_beat(store: Store, rank: int) -> None:
    """To be done before the ranks meet: from then on each finds a beat of each, even of one that is gone at once."""
    store.set(_key(rank), "0")


def _key(rank: int) -> str:
    return f"beat/{rank}"


class Pulse:
    """This rank's beat, and its ear for the others'.

    Args:
        store: a connection to the head that nobody else uses.
        head: its address, for messages.
        limit_s: how long a step may take and a rank be silent.
    """

    def __init__(self, store: Store, me: Peer, peers: Mapping[int, Peer], head: str, limit_s: float) -> None:
        self._store, self._me, self._peers, self._head, self._limit_s = store, me, peers, head, limit_s
        self._first = min(peer.rank for peer in peers.values() if peer.node == me.node)
        now = time.monotonic()
        self._contact = now
        self._moved = {rank: now for rank in peers if rank != me.rank}
        self._step, self._began = "", now
        self._broken, self._broke = "", now
        self._over = threading.Event()

    def start(self) -> None:
        """Beat and listen until :meth:`stop`."""
        threading.Thread(target=self._beat, daemon=True).start()
        threading.Thread(target=self._listen, daemon=True).start()

    def stop(self) -> None:
        """From here on ranks may leave."""
        self._over.set()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Something all ranks do together: within the limit, or the process ends with the reason."""
        self._began, self._step = time.monotonic(), name
        try:
            yield
        except RuntimeError as error:  # torch's backends raise it and its children, and no others
            self._broke, self._broken = time.monotonic(), str(error).partition("\n")[0]
            self._wait_for_the_verdict()
        self._step = ""

    def _wait_for_the_verdict(self) -> NoReturn:
        while True:
            time.sleep(1)

    def _beat(self) -> None:
        """May block for ever on a connection that is cut: what it last learned is judged elsewhere."""
        others = sorted(self._moved)
        last: dict[int, bytes] = {}
        count = 0
        while not self._over.wait(_BEAT_S):
            count += 1
            try:
                self._store.set(_key(self._me.rank), str(count))
                beats = self._store.multi_get([_key(rank) for rank in [self._me.rank, *others]])[1:]
            except RuntimeError:
                continue  # the silence is what counts
            self._contact = time.monotonic()
            for rank, beat in zip(others, beats, strict=True):
                if last.get(rank) != beat:
                    last[rank], self._moved[rank] = beat, self._contact

    def _listen(self) -> None:
        while not self._over.wait(_BEAT_S / 2):
            now = time.monotonic()
            signs = Signs(
                step=self._step,
                step_s=now - self._began,
                contact_s=now - self._contact,
                # While the head does not answer, nothing is known of the others.
                silent_s={rank: self._contact - moved for rank, moved in self._moved.items()},
                broken=self._broken,
                broken_s=now - self._broke,
            )
            reason = verdict(signs, self._peers, self._head, self._limit_s)
            if reason and not self._over.is_set():
                self._leave(reason)

    def _leave(self, reason: str) -> NoReturn:
        """No clean-up: the main thread may hang in the backend for ever."""
        if self._me.rank != self._first:
            time.sleep(_LOCAL_TURN_S)
        print(f"error: {self._me}: {reason}", file=sys.stderr, flush=True)
        os._exit(1)
