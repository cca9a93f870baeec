"""An environment over another Python's: it sees that one's packages, and what is installed into it comes first.

``python3 -m build.laid_over FOLDER WORDS…`` makes it over the Python that runs this, whose pip then installs what the
words say. A venv with ``--system-site-packages`` would not do: it sees what the interpreter has that it links to, and
nothing of an environment whose python3 made it, as NVIDIA's images have one. Standard library only.
"""

import os
import site
import sys
import sysconfig
import venv
from pathlib import Path

_BELOW = "below.pth"  # beside the packages


def make(folder: Path) -> Path:
    """The environment's Python. One that is there keeps what was installed into it."""
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    below = [path for path in site.getsitepackages() if Path(path).is_dir()]
    lines = (f"import site; site.addsitedir({path!r})\n" for path in below)
    (packages / _BELOW).write_text("".join(lines), encoding="utf-8")
    return folder / "bin" / "python"


def main() -> None:
    """Make the environment that the first argument names; pip takes this program's place for the rest."""
    folder, *words = sys.argv[1:]
    python = make(Path(folder).absolute())
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-cache-dir", *words]
    os.execv(sys.executable, pip)  # noqa: S606


if __name__ == "__main__":
    main()
