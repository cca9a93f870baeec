"""A cast that is killed at any moment goes on to the same bytes; and what it takes of memory."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from build.cast import cast
from build.cast_command import publish
from build.steps import resumable_step
from contract.errors import BuildError
from contract.manifest import digest
from tests.build.conftest import CODE
from tests.build.fp8_checkpoint import random_weight, write

KILLED = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import torch, build.cast_worker
from build.cast import cast

def begin():
    child = os.fork()
    if not child:
        cast(source, folder)
        os._exit(0)
    return child

source, folder = Path(sys.argv[1]), Path(sys.argv[2])
begun = time.monotonic()
os.waitpid(begin(), 0)
seconds, moments, killed = time.monotonic() - begun, random.Random(0), 0
while killed < 15:
    shutil.rmtree(folder)
    folder.mkdir()
    for kill in range(3):
        child = begin()
        time.sleep(moments.uniform(0, seconds / 2))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert os.waitpid(begin(), 0)[1] == 0
    os.system(f"cd {folder} && sha256sum $(ls -A)")
"""


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    shards = {}
    for number in range(8):
        codes, scales = random_weight(1024, 1024, number)
        shards[f"model-{number}.safetensors"] = {f"{number}.w": codes, f"{number}.w_scale_inv": scales}
    source = write(tmp_path / "fp8", shards)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    cast(source, tmp_path / "whole")
    whole = [f"{digest(file)}  {file.name}" for file in (tmp_path / "whole").iterdir()]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, source, tmp_path / "killed"],
        cwd=CODE,
        check=True,
        capture_output=True,
        text=True,
    )
    said = run.stdout.splitlines()
    assert len(said) >= 5 * len(whole)
    assert sorted(said) == sorted(whole * (len(said) // len(whole)))


def test_a_step_that_goes_on(tmp_path: Path) -> None:
    (tmp_path / ".cast-old.partial").mkdir()

    def half(folder: Path) -> None:
        (folder / "half").touch()
        raise BuildError("interrupted")

    with pytest.raises(BuildError, match="interrupted"):
        resumable_step(tmp_path, "cast", "new", half)
    assert [path.name for path in tmp_path.iterdir()] == [".cast-new.partial"]
    done = resumable_step(tmp_path, "cast", "new", go_on)
    assert [path.name for path in done.iterdir()] == ["whole"]
    assert resumable_step(tmp_path, "cast", "new", lambda _: pytest.fail("done again")) == done
    with pytest.raises(BuildError, match="refused"):
        resumable_step(tmp_path, "cast", "other", refuse)
    assert list(tmp_path.iterdir()) == [done]


def go_on(folder: Path) -> None:
    (folder / "half").rename(folder / "whole")


def refuse(_: Path) -> None:
    raise BuildError("refused")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 64 MiB."""
    shards = {}
    for number in range(2):
        codes, scales = random_weight(8192, 8192, number)
        shards[f"model-{number}.safetensors"] = {f"{number}.w": codes, f"{number}.w_scale_inv": scales}
    return write(tmp_path_factory.mktemp("big") / "fp8", shards)


PEAK = """
import sys
from pathlib import Path
import torch, build.cast_worker
from build.cast import cast
def memory(key):
    return int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0]) << 10
before = memory("VmRSS")
cast(Path(sys.argv[1]), Path(sys.argv[2]))
print(memory("VmHWM") - before)
"""


def test_memory_is_bounded(tmp_path: Path, big: Path) -> None:
    (tmp_path / "bf16").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", PEAK, big, tmp_path / "bf16"], cwd=CODE, check=True, capture_output=True, text=True
    )
    assert int(run.stdout) < 2 * (big / "model-0.safetensors").stat().st_size


def test_interrupted_by_hand_it_goes_on(tmp_path: Path, big: Path) -> None:
    target = tmp_path / "bf16"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "build.cast_command", big, target],
        cwd=CODE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    ) as run:
        os.close(theirs)
        while not list(tmp_path.glob(".bf16.partial/.model-1.safetensors.unfinished")):
            assert run.poll() is None
            time.sleep(0.001)
        with pytest.raises(BuildError, match=r"another cast is at work in .*\.bf16\.partial"):
            publish(big, target)
        run.send_signal(signal.SIGINT)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    said = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", shown.decode())
    assert run.returncode == 130
    assert re.search(r"cast .*/268\.\d MB (\?|[\d.]+ [MG]B/s) (-:--:--|\d:\d\d:\d\d)", said)
    assert said.splitlines()[-1] == "interrupted: run it again and it goes on where it stopped"
    assert not target.exists()

    publish(big, target)
    assert not list(tmp_path.glob(".bf16*"))
    assert len(list(target.glob("*.safetensors"))) == 2


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nobody holds the other end
        return b""
