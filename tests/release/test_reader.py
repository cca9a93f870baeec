"""The answers that the gateway tells of are read as they come, half lines too."""

from pathlib import Path

import msgspec

from contract.rollout import Observed
from release.shares import Reader


def test_lines_are_read_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "observed.jsonl"
    reader = Reader(path)
    assert list(reader.fresh()) == []
    one, other = (Observed(trial=trial, failed=False, ttft_s=0.5) for trial in (True, False))
    line, half = msgspec.json.encode(one) + b"\n", msgspec.json.encode(other)
    path.write_bytes(line + half[:10])
    assert list(reader.fresh()) == [one]
    with path.open("ab") as file:
        file.write(half[10:] + b"\n" + line)
    assert list(reader.fresh()) == [other, one]
    assert list(reader.fresh()) == []
