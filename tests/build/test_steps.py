"""A step is done whole or not at all; a full disk is said as such; a terminal sees a long step live."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as ops
from safetensors.torch import save_file

from build.steps import console, exclusive, quiet, step, swap_link
from contract.errors import BuildError
from tests import tiny
from tests import tokenizers_zoo as zoo
from tests.build.conftest import CODE, read_terminal


def test_a_finished_step_is_not_done_again(tmp_path: Path) -> None:
    done = step(tmp_path, "convert", "k1", lambda folder: (folder / "file").touch())
    assert done == tmp_path / "convert-k1" and (done / "file").exists()
    assert step(tmp_path, "convert", "k1", lambda _: pytest.fail("done again")) == done
    assert step(tmp_path, "convert", "k2", lambda _: None) != done


@pytest.mark.parametrize("error", [BuildError("refused"), ValueError("a fault of ours"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_step_that_fails(tmp_path: Path, error: BaseException) -> None:
    def make(folder: Path) -> None:
        (folder / "half").touch()
        raise error

    with pytest.raises(type(error)):
        step(tmp_path, "convert", "k1", make)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_build_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".engine-other.unfinished"
    left.mkdir()
    (left / "half").touch()
    with exclusive(tmp_path):
        assert not left.exists()
        with pytest.raises(BuildError, match="another build is at work"), exclusive(tmp_path):
            pass
    with exclusive(tmp_path):
        pass


def test_a_step_that_cannot_fit_is_refused_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"engine needs about \d+ MiB in .*, \d+ MiB are free\. Free some space"):
        step(tmp_path, "engine", "k1", lambda _: pytest.fail("begun"), needs_bytes=1 << 60)


def _plain(folder: Path) -> None:
    (folder / "file").write_bytes(bytes(1 << 20))


def _safetensors(folder: Path) -> None:
    save_file({"weight": torch.zeros(1 << 18)}, folder / "model.safetensors")


def _tokenizer(folder: Path) -> None:
    big = zoo.with_added_words()
    big.add_tokens([f"word{number:07d}" for number in range(20_000)])
    tiny.tokenizer_of(big).save_pretrained(folder)


def _openvino(folder: Path) -> None:
    given = ops.parameter([1, 1024], np.float32)
    weight = ops.constant(np.random.default_rng(0).random((1024, 512), dtype=np.float32))
    model = ov.Model([ops.matmul(given, weight, False, False)], [given])
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _wrapped(folder: Path) -> None:
    try:
        _safetensors(folder)
    except Exception as error:
        raise BuildError(f"the exporter refused: {error}") from None


@pytest.mark.parametrize("make", [_plain, _safetensors, _tokenizer, _openvino, _wrapped])
def test_a_disk_that_fills_up(small_disk: Path, make: Callable[[Path], None]) -> None:
    with pytest.raises(BuildError, match=r"engine could not write in .*: the disk is full.* Free some space"):
        step(small_disk, "engine", "k1", make)
    assert list(small_disk.iterdir()) == []


def test_a_link_is_swapped_over_whatever_was_there(tmp_path: Path) -> None:
    (tmp_path / f".current.{os.getpid()}").symlink_to("left over")
    for target in ("v1", "v2"):
        swap_link(tmp_path / "current", target)
        assert str((tmp_path / "current").readlink()) == target
    assert len(list(tmp_path.iterdir())) == 1


def test_quiet_is_over_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        print("chatter")
        print("chatter", file=sys.stderr)
    console.print("news")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "news\n")


SLOW_STEP = """
import sys, time
from pathlib import Path
from build.steps import quiet, step
def make(folder):
    with quiet():
        print("chatter")
        time.sleep(1.3)
step(Path(sys.argv[1]), "convert", "key", make)
"""


def test_a_terminal_sees_the_seconds_pass(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    subprocess.run(
        [sys.executable, "-c", SLOW_STEP, str(tmp_path)], cwd=CODE, stderr=theirs, env=environment, check=True
    )
    os.close(theirs)
    said = b""
    while chunk := read_terminal(ours):
        said += chunk
    os.close(ours)
    assert b"convert 0:00:01" in said.replace(b"\x1b[33m", b"").replace(b"\x1b[0m", b"")
    assert "✓" in said.decode()
    assert b"chatter" not in said


def test_a_log_gets_a_plain_line(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SLOW_STEP, str(tmp_path)], cwd=CODE, capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == ("", "✓ convert: 1 s\n")
