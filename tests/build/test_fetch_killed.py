"""``make fetch`` killed at any byte, its files spoiled meanwhile by a failing disk: the next run ends exact."""

import signal
import time
from pathlib import Path
from random import Random

import pytest

from build.hub.download import PARTIAL
from contract.sections import HubKind
from tests.build.fetching import REPO, Command, check_exact, write_repository
from tests.build.hub import Faults, hub

KILLS = 4  # of each round


def spoil(random: Random, cache: Path) -> str:
    """What a failing disk or an interrupted copy does to one of the files."""
    files = sorted(
        file for file in cache.rglob("*") if file.is_file() and not file.is_symlink() and file.stat().st_size
    )
    files = [file for file in files if "home" not in file.parts and file.parent.name != "refs"]
    if not files:
        return "nothing yet"
    file = random.choice(files)
    content = bytearray(file.read_bytes())
    how = random.choice(("flipped", "cut", "lengthened", "gone"))
    match how:
        case "flipped":
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        case "cut":
            del content[random.randrange(len(content)) :]
        case "lengthened":
            content += random.randbytes(random.randrange(1, 100_000))
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(content)
    return f"{how}: {file.name}"


def kill_and_spoil(kind: HubKind, repository: Path, cache: Path, seed: int) -> dict[str, int]:
    """A fetch that is killed a few times and then let be; what happened meanwhile."""
    random = Random(seed)
    seen = {"killed midway": 0, "spoiled": 0, "resumed": 0}
    # Slow enough for a kill to find it at work: all of it takes 0.4 s on end.
    faults = Faults(chance=0.02, bytes_per_s=2e6, seed=seed)
    with hub(REPO, repository, faults) as endpoint:
        command = Command(kind, endpoint, cache)
        for _ in range(KILLS):
            until = faults.sent + random.randrange(1, 500_000)
            with command.start() as process:
                while faults.sent < until and process.poll() is None:
                    time.sleep(0.001)
                process.kill()
            assert process.returncode in (0, -signal.SIGKILL)
            seen["killed midway"] += process.returncode == -signal.SIGKILL and bool(list(cache.rglob(f"*{PARTIAL}")))
            if random.random() < 0.5:
                seen["spoiled"] += spoil(random, cache) != "nothing yet"
        run = command.run()
    assert run.returncode == 0, run.stderr
    check_exact(Path(run.stdout.strip()), repository)
    seen["resumed"] = len(faults.ranges)
    return seen


@pytest.mark.parametrize("kind", ["huggingface", "modelscope"])
def test_killed_and_spoiled(kind: HubKind, tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository")
    seen = kill_and_spoil(kind, repository, tmp_path / "cache", seed=1)
    assert seen["killed midway"] and seen["resumed"], seen


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100 // KILLS))
def test_a_hundred_kills(tmp_path: Path, seed: int) -> None:
    repository = write_repository(tmp_path / "repository")
    kinds: tuple[HubKind, HubKind] = ("huggingface", "modelscope")
    print(kinds[seed % 2], kill_and_spoil(kinds[seed % 2], repository, tmp_path / "cache", seed))
