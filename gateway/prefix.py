"""Which server should have the beginning of a prompt in its cache: known from what was sent to each, and guessed by it.

A prompt is cut into blocks, each known by a hash of all that ends with it: what begins alike shares its first blocks, a
conversation those of its last turn. It goes where most of it was; where that is less than a third, it is placed by a
hash of how it begins, which finds the same server in every process and moves only what a dead one had. Both are bounded
as by Mirrokni, Thorup and Zadimoghaddam (Consistent Hashing with Bounded Loads, 2016): none gets a request that has
more than c times the mean in flight, nor a new beginning that has more than c times the mean of those.
"""

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol, TypeVar

from clients.request import Inputs

_BLOCK = 512  # bytes, some 128 tokens
_KEPT = 2**13  # blocks of one server: 4 MiB of text, a million tokens
_C = 1.25
_MUCH = 1 / 3  # of a prompt: where this much of it is, it goes
_PROMPT = ("lora_name", "chat_template_kwargs", "tools", "messages", "text_input")  # as templates put them, in order


@dataclass(frozen=True)
class Beginning:
    """How a request begins."""

    blocks: tuple[bytes, ...]
    size: int  # bytes of the whole prompt
    session: bytes = b""  # whose it is; b'' where it does not say


def beginning(inputs: Inputs, session: str = "") -> Beginning:
    """Of a request's tensors.

    Args:
        session: what its client calls that which belongs together; no other client's has this name.
    """
    ids = inputs.get("input_ids")
    prompt = "\0".join(str(inputs.get(name, "")) for name in _PROMPT).encode() if ids is None else array("i", ids)
    read = memoryview(prompt).cast("B")
    so_far, blocks = blake2b(digest_size=8), []
    for end in range(_BLOCK, len(read) + 1, _BLOCK):
        so_far.update(read[end - _BLOCK : end])
        blocks.append(so_far.digest())
    return Beginning(tuple(blocks), len(read), _hash(session) if session else b"")


@dataclass
class Affinity:
    """What ties a request to a server."""

    session: str = ""  # as for :func:`beginning`
    server: str = ""  # the address of that which it went to
    known: float = 0.0  # the share of its prompt that this one should have


@dataclass
class Memory:
    """What was sent to one server of late: blocks and sessions."""

    kept: int = _KEPT
    _seen: dict[bytes, None] = field(default_factory=dict)  # the longest unused first

    def __len__(self) -> int:
        return len(self._seen)

    def blocks(self, begins: Beginning) -> int:
        """How many of a request's blocks it had."""
        return next((at for at, block in enumerate(begins.blocks) if block not in self._seen), len(begins.blocks))

    def share(self, begins: Beginning) -> float:
        """The same, as a share of the whole prompt."""
        return self.blocks(begins) * _BLOCK / begins.size if begins.size else 0.0

    def has_session(self, begins: Beginning) -> bool:
        """Whether it had the request's session."""
        return begins.session in self._seen

    def note(self, begins: Beginning) -> None:
        """It is sent this request. Of a prompt, the end is forgotten before the beginning."""
        for block in (*reversed(begins.blocks), begins.session):
            self._seen.pop(block, None)
            if block:
                self._seen[block] = None
        while len(self._seen) > self.kept:
            del self._seen[next(iter(self._seen))]

    def forget(self) -> None:
        """Its cache is gone."""
        self._seen.clear()


class Server(Protocol):
    """What is known of one."""

    address: str
    in_flight: int
    memory: Memory


S = TypeVar("S", bound=Server)


def fewest(servers: Sequence[S]) -> S:
    """The server with the fewest requests in flight."""
    return min(servers, key=lambda each: each.in_flight)


def choose(servers: Sequence[S], begins: Beginning) -> S:
    """The server that a request should go to, of these that live."""
    able = _bounded(servers, lambda each: each.in_flight, 1)
    known = max(able, key=lambda each: (each.memory.has_session(begins), each.memory.blocks(begins), -each.in_flight))
    if known.memory.has_session(begins) or known.memory.share(begins) >= _MUCH:
        return known
    name = begins.session or next(iter(begins.blocks), b"")
    if not name:  # too short to matter
        return fewest(able)
    room = _bounded(able, lambda each: len(each.memory), 1 + len(begins.blocks))
    return max(room, key=lambda each: _hash(each.address, name))


def _bounded(servers: Sequence[S], load: Callable[[S], int], more: int) -> Sequence[S]:
    """Those that have no more than c times the mean once so much more is there; one has, always."""
    most = math.ceil(_C * (sum(map(load, servers)) + more) / len(servers))
    return [each for each in servers if load(each) < most]


def _hash(name: str, salt: bytes = b"") -> bytes:
    return blake2b(name.encode(), digest_size=8, salt=salt).digest()
