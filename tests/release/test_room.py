"""Room for a second server: asked of the machine, refused with the way out."""

import os
from pathlib import Path

import pytest

from contract.errors import ServeError
from contract.spec import load_spec
from release.room import check_fits, check_room
from tests.e2e.servers import CODE


def test_where_there_is_none_the_way_out_is_told() -> None:
    with pytest.raises(ServeError, match=r"GPU 0: the server that runs has 80\.0 GiB, and 1\.0 GiB are free.*SWAP=1"):
        check_fits("GPU 0", 80 * 2**30, 2**30)


def test_this_machine_has_room_for_another_of_this_process() -> None:
    spec = load_spec(CODE / Path("configs/synthetic.yaml"))
    assert "GiB of memory beside the" in check_room(spec, os.getpid())
