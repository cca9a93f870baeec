"""API keys: one file of names and hashes, read again when it changes; the keys themselves are never kept.

``python -m gateway.keys new NAME`` adds a key to the file and prints it, once.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from contract.errors import ServeError

ENVIRONMENT = "CONCH_API_KEYS"  # keys, or names and keys as NAME:KEY, separated by commas
DEFAULT_FILE = Path("keys")

_LINE = re.compile(r"(?P<name>[\w.@-]{1,64}):(?P<hash>[0-9a-f]{64})")
_LOOK_AGAIN_S = 1.0
_BEING_WRITTEN_S = 0.2  # since its last change: who rewrites it in place may not be done

log = logging.getLogger("gateway")


@dataclass
class Keys:
    """The keys that open this gateway; none at all: it is open.

    Args:
        path: the file, which may change while the gateway runs; None for none.
        fixed: name → SHA-256 of the keys from the environment.
    """

    path: Path | None
    fixed: dict[str, str] = field(default_factory=dict)
    _read: dict[str, str] = field(default_factory=dict)
    _stamp: tuple[int, int, int] | None = None
    _looked: float = 0.0
    _trouble: str = ""  # why the file cannot be read; its keys open nothing meanwhile

    @property
    def needed(self) -> bool:
        """Whether a request needs a key. A file without keys, or one that vanished, opens nothing."""
        return self.path is not None or bool(self.fixed)

    @property
    def names(self) -> set[str]:
        """Whose keys they are, as last read."""
        return {*self.fixed, *self._read}

    def name_of(self, key: str) -> str | None:
        """Whose key this is. Takes as long whatever the key."""
        self._refresh()
        given = _hash(key)
        found = None
        for name, known in (*self.fixed.items(), *self._read.items()):
            if hmac.compare_digest(given, known):
                found = name
        return found

    def _refresh(self) -> None:
        now = time.monotonic()
        if self.path is None or now - self._looked < _LOOK_AGAIN_S:
            return
        self._looked = now
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp == self._stamp and not self._trouble:
                return
            if 0 <= time.time() - status.st_mtime < _BEING_WRITTEN_S:
                self._looked = 0.0
                return
            self._read, self._stamp = read_keys(self.path), stamp
            self._say("")
        except (OSError, ServeError) as error:
            self._read = {}
            self._say(str(error))

    def _say(self, trouble: str) -> None:
        """Log what is new: a file that cannot be read, or one that can again."""
        if trouble and trouble != self._trouble:
            log.error("no key of the file opens this gateway: %s", trouble)
        elif self._trouble and not trouble:
            log.info("%s is read again: %d keys", self.path, len(self._read))
        self._trouble = trouble


def load_keys(path: Path | None) -> Keys:
    """The keys of a file and of the environment.

    Raises:
        ServeError: the file is not there, or not one of keys.
    """
    fixed = {}
    for number, entry in enumerate(filter(None, os.environ.get(ENVIRONMENT, "").split(","))):
        name, separator, key = entry.rpartition(":")
        fixed[name if separator else f"env-{number}"] = _hash(key)
    keys = Keys(path, fixed)
    if path is not None:
        keys._read = read_keys(path)
    return keys


def read_keys(path: Path) -> dict[str, str]:
    """Name → SHA-256 of a file's keys.

    Raises:
        ServeError: naming the line that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"{path} cannot be read: {error}", fix="python -m gateway.keys new NAME makes it") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        entry = _LINE.fullmatch(line.strip())
        if entry is None:
            raise ServeError(f"{path}:{number}: must be NAME:SHA256", fix="python -m gateway.keys new NAME writes it")
        found[entry["name"]] = entry["hash"]
    return found


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """API keys of the gateway."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; the log and the limits go by it.")],
    file: Annotated[Path, typer.Option(help="The file that gateway.keys names.")] = DEFAULT_FILE,
) -> None:
    """Add a key to the file, and print it: it is not kept anywhere else."""
    if not re.fullmatch(r"[\w.@-]{1,64}", name):
        sys.exit("error: a name has letters, digits and . @ _ - only")
    known = read_keys(file) if file.exists() else {}
    if name in known:
        sys.exit(f"error: {file} has a key of this name already; remove its line first")
    key = f"sk-{secrets.token_urlsafe(32)}"
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as lines:
        lines.write(f"{name}:{_hash(key)}\n")
    print(key)


if __name__ == "__main__":
    app()
