"""What is in flight of one deployment: in all, of each API key, of batch keys together, and who was let in last."""

from dataclasses import dataclass, field, replace

from gateway.load import Load
from gateway.standing import Standing


@dataclass(frozen=True, eq=False)
class Ticket:
    """What was admitted; to be given back once."""

    key: str
    load: Load
    batch: bool = False
    charged: int = 0  # tokens, to its key's quota
    standing: Standing | None = None  # of that, since
    began: float = 0.0  # on the admission's clock
    number: int = 0  # by which who admitted it knows it


@dataclass
class Held:
    """The requests in flight.

    Args:
        limit: what may be; per_key: what may be of one API key; batch: what may be of all batch keys.
    """

    limit: Load
    per_key: Load = field(default_factory=Load)
    batch: Load = field(default_factory=Load)
    all: Load = field(default_factory=Load)
    of_batch: Load = field(default_factory=Load)
    _of_key: dict[str, Load] = field(default_factory=dict)
    _let_in: dict[str, int] = field(default_factory=dict)  # key -> the number of its last request
    _count: int = 0

    def fits(self, ticket: Ticket) -> bool:
        """Whether there is room for it: in all, of its key and of its class."""
        return (self.all + ticket.load).fits(self.limit) and self.has_room(ticket)

    def has_room(self, ticket: Ticket) -> bool:
        """Whether its key has room, and its class."""
        if ticket.batch and not (self.of_batch + ticket.load).fits(self.batch):
            return False
        return (self._of_key.get(ticket.key, Load()) + ticket.load).fits(self.per_key)

    def take(self, ticket: Ticket, now: float) -> Ticket:
        """Hold it, from now on and with a number of its own."""
        self._count += 1
        self.all += ticket.load
        if ticket.batch:
            self.of_batch += ticket.load
        self._of_key[ticket.key] = self._of_key.get(ticket.key, Load()) + ticket.load
        self._let_in[ticket.key] = self._count
        return replace(ticket, began=now, number=self._count)

    def give_back(self, ticket: Ticket) -> None:
        """Hold it no longer."""
        self.all -= ticket.load
        if ticket.batch:
            self.of_batch -= ticket.load
        left = self._of_key[ticket.key] - ticket.load
        if left.requests:
            self._of_key[ticket.key] = left
        else:
            del self._of_key[ticket.key]

    def turn_of(self, ticket: Ticket) -> tuple[bool, int, int]:
        """Interactive keys first, then the fewest in flight, then who was let in longest ago."""
        return ticket.batch, self._of_key.get(ticket.key, Load()).requests, self._let_in.get(ticket.key, 0)
