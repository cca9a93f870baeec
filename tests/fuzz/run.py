"""The fuzz itself: batch after batch at one door; a batch that hurts is shrunk to the one small case that does."""

from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from tests.fuzz import gateway, triton
from tests.fuzz.case import Case, keep
from tests.fuzz.known import is_open
from tests.fuzz.target import Hurt, Target

BATCH = 24
DOORS: dict[str, Callable[[], st.SearchStrategy[Case]]] = {
    "gateway": gateway.requests,
    "http": triton.http,
    "grpc": triton.grpc,
    "raw": triton.raw,
}


def fuzz(target: Target, door: str, batches: int, number: int | None, folder_of: Callable[[Case], Path] = keep) -> int:
    """Send so many batches; returns how many cases that was.

    Args:
        number: of the random choices; None: the same ones each time.

    Raises:
        Hurt: a case hurt; it is kept, as small as it could be made.
    """
    sent, smallest = 0, list[tuple[list[Case], str]]()

    @settings(
        max_examples=batches,
        deadline=None,
        database=None,
        derandomize=number is None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(DOORS[door]().filter(lambda case: not is_open(case)), min_size=1, max_size=BATCH))
    def send(cases: list[Case]) -> None:
        nonlocal sent
        sent += len(cases)
        try:
            target.hit(cases)
        except Hurt as harm:
            smallest.append((cases, str(harm)))
            raise

    try:
        (send if number is None else seed(number)(send))()
    except (Hurt, HypothesisException) as error:
        if not smallest:
            raise
        cases, harm = min(
            smallest, key=lambda each: (len(each[0]), sum(len(part) for case in each[0] for part in case.parts))
        )
        paths = [folder_of(Case(each.door, each.parts, each.method, each.metadata, harm[:500])) for each in cases[:3]]
        raise Hurt(f"{harm}\nkept as {', '.join(map(str, paths))}") from (None if isinstance(error, Hurt) else error)
    return sent
