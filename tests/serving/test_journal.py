"""The log stays bounded, and its few telling lines are found."""

import os
import threading
from pathlib import Path

import pytest

from contract.errors import ServeError
from serving import journal
from tests.serving.stream import until

LOAD_FAILURE = (
    "E1124 04:17:55.067068 10063 model_lifecycle.cc:642] \"failed to load 'a_engine' version 1: "
    'Internal: ServeError: no engine at /x. Run make engine\\n\\nAt:\\n  /r/model.py(6): initialize\\n"'
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_starts_anew_and_keeps_a_few_older_ones(tmp_path: Path) -> None:
    for number in range(6):
        with journal.RotatingLog(tmp_path / "server.log", kept=2) as log:
            log.line(f"start {number}")
    assert names(tmp_path) == ["server.log", "server.log.1", "server.log.2"]
    assert (tmp_path / "server.log").read_text() == "start 5\n"
    assert (tmp_path / "server.log.2").read_text() == "start 3\n"


def test_never_grows_beyond_its_size(tmp_path: Path) -> None:
    with journal.RotatingLog(tmp_path / "server.log", max_bytes=1000, kept=2) as log:
        for number in range(1000):
            log.line(f"line {number}")
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert len(names(tmp_path)) == 3
    assert journal.tail(tmp_path / "server.log", 1) == ["line 999"]


def test_a_line_longer_than_the_log_is_kept_whole(tmp_path: Path) -> None:
    with journal.RotatingLog(tmp_path / "server.log", max_bytes=10) as log:
        log.line("x" * 50)
        log.line("y")
    assert (tmp_path / "server.log").read_text() == "y\n"
    assert (tmp_path / "server.log.1").read_text() == "x" * 50 + "\n"


def test_a_full_disk_costs_lines_and_says_how_many(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    with Path("/dev/full").open("ab", buffering=0) as full, journal.RotatingLog(path) as log:
        good, log._file = log._file, full
        for number in range(3):
            log.line(f"lost {number}")
        for _ in until(5, "the lines to be lost"):
            if log._lost == 3:
                break
        log._file = good
        log.line("kept")
    said = path.read_text()
    assert "3 lines were lost here" in said
    assert said.endswith("kept\n")
    assert "lost 0" not in said


def test_a_disk_that_stands_still_holds_nobody(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    log = journal.RotatingLog(tmp_path / "server.log")
    log._file = os.fdopen(writer, "ab", buffering=0)
    for _ in range(40):  # a pipe holds 64 KiB, and nobody reads this one
        log.line("x" * 10_000)
    assert log._waiting.qsize() > 20
    os.close(reader)


def test_a_log_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in the way").touch()
    with pytest.raises(ServeError, match=r"cannot be written: .*Free or mount"):
        journal.RotatingLog(tmp_path / "in the way" / "server.log")


@pytest.mark.parametrize("count", [0, 1, 100, 20_000])
def test_tail(tmp_path: Path, count: int) -> None:
    path = tmp_path / "server.log"
    path.write_text("".join(f"line {number} é\n" for number in range(count)))
    assert journal.tail(path, 100) == [f"line {number} é" for number in range(max(0, count - 100), count)]
    assert journal.tail(tmp_path / "nothing", 100) == []


def test_follow_goes_on_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    with journal.RotatingLog(path, max_bytes=200) as log:
        log.line("before")
        for _ in until(5, "the first line"):
            if path.stat().st_size:
                break
        following = journal.follow(path, interval_s=0.001)
        assert next(following) is None
        writer = threading.Thread(target=_write, args=(log, 20))
        seen: list[str] = []
        writer.start()
        while len(seen) < 20:
            line = next(following)
            if line is not None:
                seen.append(line)
        writer.join()
    assert seen == [f"line {number}" for number in range(20)]


def _write(log: journal.RotatingLog, count: int) -> None:
    for number in range(count):
        log.line(f"line {number}")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('I1124 04:17:55.067068 10063 server.cc:604] "fine"', False),
        ('W1124 04:17:55.067068 10063 server.cc:604] "look here"', True),
        ('W1124 04:39:00.653352 10063 pinned_memory_manager.cc:170] "failed to allocate pinned system memory"', False),
        (LOAD_FAILURE, True),
        ("ValueError: nope", True),
        ("Signal (11) received.", True),
        ("+-------+", False),
        ("", False),
    ],
)
def test_only_what_matters_reaches_the_terminal(line: str, shown: bool) -> None:
    assert journal.matters(line) is shown


def test_a_stage_that_does_not_load_speaks_for_itself() -> None:
    assert journal.load_failure(["I1124 …", LOAD_FAILURE]) == "a_engine did not load: no engine at /x. Run make engine"
    assert journal.load_failure(["nothing of the kind"]) == ""


def test_last_words() -> None:
    lines = ['I1124 04:17:55.067068 1 a.cc:1] "all is well"', 'E1124 04:17:55.067068 1 a.cc:1] "not any more"', ""]
    assert journal.last_words(lines) == ["not any more"]
    assert journal.last_words(["a", "b", ""], most=1) == ["b"]


def test_of_an_escaped_traceback_only_what_was_raised() -> None:
    said = 'E1124 04:17:55.067068 1 a.cc:1] "Traceback (most recent call last):\\n  File x\\nValueError: nope\\n"'
    assert journal.plain(said) == "ValueError: nope"
    assert journal.plain("") == ""
