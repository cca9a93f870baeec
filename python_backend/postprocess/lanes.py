"""Who hands responses to Triton: the stage itself, or threads beside it where there are cores for them.

Handing one over waits for Triton's thread to take it, about as long as the response took to make. A stream's responses
stay in their order: it has one lane.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from contract.cores import cores

Send = Callable[[], None]

_TELL_S = 0.1


def count() -> int:
    """How many lanes: none on a small machine, where the engine wants the cores."""
    return 2 if cores() >= 8 else 0


class Lanes:
    """Threads that send; with none, sending is done at once.

    Args:
        told: hears now and then for how many seconds what was just sent had been under way.
    """

    def __init__(self, lanes: int, told: Callable[[float], None]) -> None:
        self._told, self._told_at = told, 0.0
        self._queues: list[SimpleQueue[tuple[Send, float] | None]] = [SimpleQueue() for _ in range(lanes)]
        self._threads = [
            threading.Thread(target=self._run, args=(queue,), name="sender", daemon=True) for queue in self._queues
        ]
        for thread in self._threads:
            thread.start()

    def put(self, key: int, send: Send, since: float) -> None:
        """Send in the lane of this stream. ``since``: on the monotonic clock, when what is sent set out."""
        if self._queues:
            self._queues[key % len(self._queues)].put((send, since))
        else:
            self._send(send, since)

    def close(self) -> None:
        """Send what is left, and stop."""
        for queue in self._queues:
            queue.put(None)
        for thread in self._threads:
            thread.join(timeout=5)

    def _run(self, queue: "SimpleQueue[tuple[Send, float] | None]") -> None:
        while (item := queue.get()) is not None:
            self._send(*item)

    def _send(self, send: Send, since: float) -> None:
        send()
        now = time.monotonic()
        if now - self._told_at >= _TELL_S:
            self._told_at = now
            self._told(now - since)
