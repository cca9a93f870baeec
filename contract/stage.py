"""What a stage is told when Triton starts it: one JSON parameter of its config.pbtxt."""

import json
import secrets
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from contract.spec import Deployment

LOCK = "lock"  # held by a deployment's supervisor for as long as it lives
DRAINING = "draining"
CANARY = "canary"
ADMIN = "admin"
ABORTS = "aborts.sock"  # takes datagrams that say which request the engine is to stop
ABORT = struct.Struct("<Q")  # one of them
_COUNT_BITS = 40
ABORT_KEY = "conch_key"  # the parameter, or header, that gives a request the key by which it will be stopped


def new_abort_key() -> int:
    """A key that nobody guesses; Triton carries it as a signed number of 64 bits."""
    return secrets.randbits(62) | 1 << 62


def key_of(whose: int, number: int) -> int:
    """The key of a stream that the engine's stage counts, less than any abort key: it tells whose the stream is."""
    return whose << _COUNT_BITS | number


def whose(key: int) -> int:
    """What the streams of one client share; every abort key is somebody else's."""
    return key >> _COUNT_BITS


def whose_of(request_id: str) -> int:
    """Of 22 bits, the number of the client that a request's id names before its last point; 0 where it names none."""
    client = request_id.rpartition(".")[0]
    return zlib.crc32(client.encode()) & 0x3FFFFF if client else 0


@dataclass(frozen=True)
class StageConfig:
    """What every stage of a deployment knows."""

    spec: Deployment
    engine: Path | None  # the engine folder; none for a runtime without weights
    run_dir: Path  # where the stages' sockets are
    python_prefix: str  # the environment that the stages are meant to run in

    @property
    def backchannel(self) -> Path:
        """The socket on which postprocess tells the engine to stop a request."""
        return self.run_dir / ABORTS

    @property
    def draining(self) -> Path:
        """While this file exists, preprocess refuses new requests: Triton's own drain would cut running streams."""
        return self.run_dir / DRAINING

    @property
    def canary_id(self) -> str:
        """The request id under which this run's supervisor asks: past the limits, and outside the metrics."""
        return canary_id(self.run_dir)

    def to_json(self) -> str:
        """The parameter's value."""
        return json.dumps(
            {
                "spec": self.spec.model_dump(mode="json"),
                "engine": str(self.engine) if self.engine else None,
                "run_dir": str(self.run_dir),
                "python_prefix": self.python_prefix,
            }
        )

    @staticmethod
    def from_json(text: str) -> "StageConfig":
        """The inverse of :meth:`to_json`."""
        data = json.loads(text)
        return StageConfig(
            spec=Deployment.model_validate(data["spec"]),
            engine=Path(data["engine"]) if data["engine"] else None,
            run_dir=Path(data["run_dir"]),
            python_prefix=data["python_prefix"],
        )


def run_dir(root: Path, deployment: str) -> Path:
    """Where a running deployment keeps its lock, log and sockets."""
    return root / ".conch" / deployment


def canary_id(folder: Path) -> str:
    """A secret of the run, readable by its user alone; '' where no supervisor runs, or it is another user's."""
    return _secret(folder / CANARY)


def admin_key(folder: Path) -> str:
    """The run's secret that opens the parts of Triton's interface which no client needs; '' as :func:`canary_id`."""
    return _secret(folder / ADMIN)


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
