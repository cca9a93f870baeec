"""What the image has too old: the same folder of packages for every build, which comes before the image's own."""

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from build.steps import key_of
from contract.engines.trtllm.images import LACKS
from contract.errors import BuildError


def laid_over(cache: Path) -> Path:
    """Where the packages are, or will be."""
    return cache / f"over-{key_of(LACKS)}"


def lay_over(cache: Path) -> None:
    """Fetch them unless they are there: without what they ask for, which the image has, and for any Python.

    Raises:
        BuildError: with pip's reason.
    """
    folder = laid_over(cache)
    if folder.exists():
        return
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = Path(mkdtemp(dir=cache))
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--target"]
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, str(unfinished), *LACKS],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if run.returncode:
            reasons = [line.removeprefix("ERROR: ") for line in run.stderr.splitlines() if line.startswith("ERROR")]
            raise BuildError(
                f"pip could not install {' '.join(LACKS)}, which TensorRT-LLM wants newer than its image has it: "
                f"{reasons[-1] if reasons else run.stderr.strip()[-300:]}",
                fix="Check the network, or put the wheel into a folder that PIP_FIND_LINKS names",
            )
        with suppress(OSError):  # another build was first
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
