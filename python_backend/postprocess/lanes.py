"""Who hands responses to Triton: the stage itself, or threads beside it where there are cores for them.

Handing one over waits for Triton's thread to take it, about as long as the response took to make. A stream's responses
stay in their order: it has one lane.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue

from contract.cores import cores

Send = Callable[[], None]


def count() -> int:
    """How many lanes: none on a small machine, where the engine wants the cores."""
    return 2 if cores() >= 8 else 0


class Lanes:
    """Threads that send; with none, sending is done at once."""

    def __init__(self, lanes: int) -> None:
        self._queues: list[SimpleQueue[Send | None]] = [SimpleQueue() for _ in range(lanes)]
        self._threads = [
            threading.Thread(target=_run, args=(queue,), name="sender", daemon=True) for queue in self._queues
        ]
        for thread in self._threads:
            thread.start()

    def put(self, key: int, send: Send) -> None:
        """Send in the lane of this stream."""
        if self._queues:
            self._queues[key % len(self._queues)].put(send)
        else:
            send()

    def close(self) -> None:
        """Send what is left, and stop."""
        for queue in self._queues:
            queue.put(None)
        for thread in self._threads:
            thread.join(timeout=5)


def _run(queue: "SimpleQueue[Send | None]") -> None:
    while (send := queue.get()) is not None:
        send()
