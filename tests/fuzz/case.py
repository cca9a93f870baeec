"""One case: bytes on a connection, or messages of a gRPC call; small enough to be kept as JSON in a folder of tests."""

import base64
import json
import zlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")


class Door(StrEnum):
    """The ports of a deployment, by their names in its spec."""

    GATEWAY = "gateway"
    HTTP = "http"
    GRPC = "grpc"
    METRICS = "metrics"


@dataclass(frozen=True)
class Case:
    """What one client sends.

    Args:
        parts: without a method, the bytes of a connection; with one, the serialized messages of a call.
        method: of Triton's gRPC service.
        metadata: of that call.
        note: what it did, once it is kept.
    """

    door: Door
    parts: tuple[bytes, ...]
    method: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    note: str = ""

    def to_json(self) -> str:
        """As it is kept; the bytes are packed, for bombs are long and dull."""
        packed = [base64.b64encode(zlib.compress(part, 9)).decode() for part in self.parts]
        shown = [part[:200].decode("latin-1") for part in self.parts]
        kept = {"note": self.note, "door": self.door, "method": self.method, "metadata": self.metadata}
        return json.dumps(kept | {"packed": packed, "begins": shown}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> "Case":
        """The inverse of :meth:`to_json`."""
        kept = json.loads(text)
        parts = tuple(zlib.decompress(base64.b64decode(each)) for each in kept["packed"])
        metadata = tuple((name, value) for name, value in kept["metadata"])
        return Case(Door(kept["door"]), parts, kept["method"], metadata, kept["note"])

    def __repr__(self) -> str:
        parts = [part[:300] for part in self.parts[:3]]
        return f"Case({self.door} {self.method} {dict(self.metadata)} {parts} of {sum(map(len, self.parts))} bytes)"


def corpus() -> dict[str, Case]:
    """Every case that is kept, by its file's name."""
    return {path.stem: Case.from_json(path.read_text()) for path in sorted(CORPUS.glob("*.json"))}


def keep(case: Case) -> Path:
    """Keep a case; the same one has the same name."""
    CORPUS.mkdir(exist_ok=True)
    text = case.to_json()
    path = CORPUS / f"{case.door}-{zlib.crc32(repr((case.parts, case.method, case.metadata)).encode()):08x}.json"
    path.write_text(text)
    return path
