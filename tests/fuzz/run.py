"""The fuzz itself: cases are drawn one by one and sent side by side; of what hurts, one small case is kept."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz import gateway, triton
from tests.fuzz.case import Case, keep
from tests.fuzz.shrink import shrunk
from tests.fuzz.target import Hurt, Target

_TOGETHER = 24
DOORS: dict[str, Callable[[], st.SearchStrategy[Case]]] = {
    "gateway": gateway.requests,
    "http": triton.http,
    "grpc": triton.grpc,
    "raw": triton.raw,
}


def fuzz(target: Target, door: str, count: int, number: int | None, keeps: Callable[[Case], Path] = keep) -> int:
    """Send so many cases; returns how many were sent.

    Args:
        number: of the random choices; None: the same ones each time.

    Raises:
        Hurt: a case hurt; it is kept, as small as it could be made.
    """
    cases = drawn(door, count, number)
    for at in range(0, len(cases), _TOGETHER):
        batch = cases[at : at + _TOGETHER]
        harm = harm_of(target, batch)
        if harm:
            alone = next(([case] for case in batch if harm_of(target, [case])), batch)
            if len(alone) == 1:
                alone = [shrunk(alone[0], lambda case: bool(harm_of(target, [case])))]
                harm = harm_of(target, alone) or harm
            paths = ", ".join(str(keeps(replace(case, note=harm[:500]))) for case in alone)
            raise Hurt(f"{harm}\nkept as {paths}")
    return len(cases)


def drawn(door: str, count: int, number: int | None) -> list[Case]:
    """So many cases for a door."""
    cases: list[Case] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=number is None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(DOORS[door]())
    def draw(case: Case) -> None:
        cases.append(case)

    (draw if number is None else seed(number)(draw))()
    return cases


def harm_of(target: Target, cases: Sequence[Case]) -> str:
    """What cases do; '' for nothing."""
    try:
        target.hit(cases)
    except Hurt as harm:
        return str(harm)
    return ""
