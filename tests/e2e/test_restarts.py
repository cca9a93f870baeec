"""30 restarts in a row, each with another hostile first request: the server answers the good one that follows."""

import itertools
from pathlib import Path

import pytest

from contract.errors import InvalidRequest
from tests.e2e.hostile import HOSTILE, PROMPT, ask, tensor
from tests.e2e.servers import synthetic

RESTARTS = 30
# Spread over all of them: no kind of hostility is left out.
CHOSEN = list(itertools.islice(HOSTILE, 0, None, max(1, len(HOSTILE) // RESTARTS)))[:RESTARTS]


@pytest.mark.long
@pytest.mark.parametrize("name", CHOSEN)
def test_restart(tmp_path: Path, name: str) -> None:
    hostile = HOSTILE[name]
    with synthetic(tmp_path) as server:
        error = ask(server, hostile.tensors)
        assert isinstance(error, InvalidRequest), error
        assert error.field == hostile.field
        assert ask(server, (PROMPT, tensor("max_tokens", 6))) == "tideti"


def test_thirty_are_chosen() -> None:
    assert len(CHOSEN) == RESTARTS
