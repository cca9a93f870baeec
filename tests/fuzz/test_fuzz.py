"""What hurt once hurts no more, and new cases at every door, the same in every run; ``make fuzz`` goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.case import Case, Door, corpus, keep
from tests.fuzz.run import DOORS, fuzz
from tests.fuzz.target import Hurt, Target, target

COUNT = 100  # cases a door


@pytest.fixture(scope="module")
def running() -> Iterator[Target]:
    with target() as made:
        yield made


@pytest.mark.parametrize("name", corpus())
def test_what_hurt_once_hurts_no_more(running: Target, name: str) -> None:
    running.hit([corpus()[name]])


@pytest.mark.parametrize("door", DOORS)
def test_new_cases(running: Target, door: str) -> None:
    assert fuzz(running, door, COUNT, None) > COUNT / 2


def test_harm_is_seen_and_kept_small(running: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that cannot bear one byte: of many cases the one that has it is kept, and little else."""
    monkeypatch.setattr(Target, "hit", delicate)
    kept: list[Case] = []

    def keeps(case: Case) -> Path:
        kept.append(case)
        return tmp_path

    with pytest.raises(Hurt, match="a Z came"):
        fuzz(running, "raw", 400, None, keeps)
    (case,) = kept
    assert b"Z" in case.parts[0]
    assert len(case.parts[0]) < 100
    assert "a Z came" in case.note


def delicate(self: Target, cases: list[Case]) -> None:
    if any(b"Z" in part for case in cases for part in case.parts):
        raise Hurt("a Z came")


def test_a_case_is_kept_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.case.CORPUS", tmp_path)
    case = Case(Door.GRPC, (b"\xff" * 100_000, b""), "ModelInfer", (("a", "b"),), "it hurt")
    path = keep(case)
    assert path.stat().st_size < 2_000
    assert Case.from_json(path.read_text()) == case
    assert corpus() == {path.stem: case}
