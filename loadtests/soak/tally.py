"""What became of the requests: every one is counted once, and what no kill explains is a fault."""

from dataclasses import dataclass, field

from loadtests.soak.ask import End, Story

_SHOWN = 20  # faults that are kept word for word


@dataclass
class Tally:
    """How many requests ended how."""

    complete: int = 0  # whole, and every text right
    cancelled: int = 0
    refused: int = 0  # malformed, with a status or an error that says it is the client's
    told: int = 0  # cut by a kill, and told so
    lost: int = 0  # silently short, or an error that no kill explains
    hung: int = 0
    wrong: int = 0  # another text than the echo
    characters: int = 0
    pieces: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """All that have ended."""
        return self.complete + self.cancelled + self.refused + self.told + self.lost + self.hung + self.wrong

    @property
    def undisturbed(self) -> int:
        """Those that no kill cut: what counts towards the number that is wanted."""
        return self.requests - self.told

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing hung, no wrong text."""
        return not (self.lost or self.hung or self.wrong)

    def take(self, story: Story, *, excused: bool) -> None:
        """Count one.

        Args:
            excused: its door was away at some moment of it, for a kill.
        """
        self.characters += len(story.text)
        self.pieces += story.pieces
        name = _verdict(story, excused=excused)
        setattr(self, name, getattr(self, name) + 1)
        if name in ("lost", "hung", "wrong") and len(self.faults) < _SHOWN:
            self.faults.append(f"{name}: {story.ask.way} {story.end} {story.code} {story.said!r} {story.text[-80:]!r}")


def _verdict(story: Story, *, excused: bool) -> str:
    match story.end:
        case End.HUNG:
            return "hung"
        case End.CANCELLED:
            return "cancelled"
        case End.WHOLE if story.ask.sound:
            return "complete" if story.right else "wrong"
        case End.TOLD if not story.ask.sound and 400 <= story.code < 500 and story.code != 429:
            return "refused"
        case End.TOLD | End.BROKEN if excused:
            return "told"
    return "lost"
