"""No batch request begins while another request awaits its first token: its prompt would lengthen that very step.

What an interactive request meets of a flood is, most of the time, the prompts of batch requests: of one that was let
in behind it, or of several that were let in together before it (docs/performance.md). Those that wait are let in one by
one after ``LONGEST_S`` each, that interactive requests without an end may not keep them out.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

LONGEST_S = 1.0


@dataclass
class FirstTokens:
    """Those that are awaited, of one deployment's requests.

    Args:
        again: is called when a batch request has waited for them long enough.
    """

    again: Callable[[], None]
    _awaited: set[int] = field(default_factory=set)
    _timer: asyncio.TimerHandle | None = None  # a batch request waits since it was set
    _long_enough: bool = False

    def await_one(self, number: int) -> None:
        """A request was let in."""
        self._awaited.add(number)

    def came(self, number: int) -> bool:
        """It has its first token, or ends without; whether a batch request that waited need not any longer."""
        self._awaited.discard(number)
        if self._awaited or not self._timer:
            return False
        self.let_one_in()
        return True

    def hold(self) -> bool:
        """Whether a batch request that could be let in waits for them."""
        if not self._awaited or self._long_enough:
            return False
        if not self._timer:
            self._timer = asyncio.get_running_loop().call_later(LONGEST_S, self._waited)
        return True

    def let_one_in(self) -> None:
        """A batch request was; the next one waits anew."""
        if self._timer:
            self._timer.cancel()
        self._timer, self._long_enough = None, False

    def _waited(self) -> None:
        self._long_enough = True
        self.again()
