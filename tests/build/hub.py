"""A stand-in for both hubs, which cannot be reached here: one folder, answered as each hub's API does, faults and all.

What huggingface_hub 1.21 and modelscope_hub 0.5.1 ask for was read in their sources, and the fields of the answers
where those libraries and others read them. Large files are redirected to another host, as both hubs do.
"""

import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BRANCHES = {"huggingface": "main", "modelscope": "master"}
_BLOCK = 1 << 13


@dataclass
class Faults:
    """What the stand-in does wrong, and what it saw. A fault that names files lasts so many answers for each."""

    dropped: dict[str, int] = field(default_factory=dict)  # the connection ends at a random byte of the second half
    corrupt: dict[str, int] = field(default_factory=dict)  # one byte is another
    lengths: dict[str, int] = field(default_factory=dict)  # Content-Length is too large by one
    unsized: dict[str, int] = field(default_factory=dict)  # no Content-Length
    longer: dict[str, int] = field(default_factory=dict)  # a byte more than there is; give unsized too
    wrong_parts: dict[str, str] = field(default_factory=dict)  # Content-Range of every answer that is a part
    silent: dict[str, int] = field(default_factory=dict)  # half of it comes, and nothing more for a second
    statuses: list[int] = field(default_factory=list)  # what the next requests for a file get instead
    listing_statuses: list[int] = field(default_factory=list)  # and those for the listing
    retry_after: str = "0"
    ignores_range: bool = False
    edit: Callable[[dict[str, Any]], object] = lambda _: None  # changes a listed file
    commit: str = COMMIT
    token: str = ""  # without it: 401, or 403 where the hub says so
    gated: bool = False
    chance: float = 0  # of each of these at every answer
    bytes_per_s: float = 0
    seed: int = 0

    ranges: list[str] = field(default_factory=list)  # of requests that asked for a part: "name bytes=…"
    asked: list[str] = field(default_factory=list)  # files
    tokens_at_cdn: list[str] = field(default_factory=list)
    sent: int = 0  # bytes of files

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = Lock()

    def strikes(self, fault: dict[str, int], name: str) -> bool:
        """Whether the fault strikes this answer."""
        with self._lock:
            if fault.get(name, 0):
                fault[name] -= 1
                return True
            return self._random.random() < self.chance

    def status(self, queue: list[int]) -> int:
        """What this request gets instead of its answer; 0: its answer."""
        with self._lock:
            if queue:
                return queue.pop(0)
            return self._random.choice((429, 503)) if self._random.random() < self.chance else 0

    def below(self, count: int) -> int:
        """A random number."""
        with self._lock:
            return self._random.randrange(count)

    def count(self, size: int) -> None:
        """Remember bytes that were sent."""
        with self._lock:
            self.sent += size


@contextmanager
def hub(repo: str, files: Path, faults: Faults | None = None) -> Iterator[str]:
    """Serve a folder as the default branch of a repository; yields the endpoint of both hubs."""
    fault = faults or Faults()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            path = unquote(url.path)
            if path.startswith("/cdn/"):
                if token := self.headers.get("Authorization"):
                    fault.tokens_at_cdn.append(token)
                return self._file(path.removeprefix("/cdn/"))
            if path.startswith("/api/v1/models/"):
                return self._modelscope(path.removeprefix("/api/v1/models/"), query)
            return self._huggingface(path)

        def _huggingface(self, path: str) -> None:
            api, resolve = f"/api/models/{repo}/revision/", f"/{repo}/resolve/"
            if not path.startswith((api, resolve)):
                return self._refuse(401, "RepoNotFound")
            revision, _, name = path.removeprefix(api).removeprefix(resolve).partition("/")
            if revision not in ("main", COMMIT):
                return self._refuse(404, "RevisionNotFound")
            if path.startswith(api):
                if status := fault.status(fault.listing_statuses):
                    return self._refuse(status)
                siblings = [_sibling(*each) for each in _listed(files)]
                for sibling in siblings:
                    fault.edit(sibling)
                return self._json({"id": repo, "sha": fault.commit, "siblings": siblings})
            if fault.gated:
                return self._refuse(403, "GatedRepo")
            if fault.token and self.headers.get("Authorization") != f"Bearer {fault.token}":
                return self._refuse(403)
            self._file_or_redirect(name)

        def _modelscope(self, path: str, query: dict[str, str]) -> None:
            if not path.startswith(f"{repo}/"):
                return self._refuse(404)
            if fault.token and self.headers.get("Authorization") != f"Bearer {fault.token}":
                return self._refuse(403)
            path = path.removeprefix(f"{repo}/")
            if path == "revisions":
                branch = {"Revision": "master", "CreatedAt": 1745831523}
                return self._json({"Code": 200, "Data": {"RevisionMap": {"Branches": [branch], "Tags": []}}})
            if query["Revision"] not in ("master", COMMIT):
                return self._refuse(404)
            if path == "repo/files":
                if status := fault.status(fault.listing_statuses):
                    return self._refuse(status)
                entries = [_entry(*each) | {"Revision": fault.commit} for each in _listed(files)]
                for entry in entries:
                    fault.edit(entry)
                return self._json({"Code": 200, "Data": {"Files": entries, "LatestCommitter": {"Id": ""}}})
            if fault.gated:
                return self._refuse(403)
            self._file_or_redirect(query["FilePath"], ranges=False)

        def _file_or_redirect(self, name: str, ranges: bool = True) -> None:
            if not _large(name):
                return self._file(name, ranges)
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/cdn/{name}")  # type: ignore[attr-defined]
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _file(self, name: str, ranges: bool = True) -> None:
            fault.asked.append(name)
            if status := fault.status(fault.statuses):
                return self._refuse(status)
            body = bytearray((files / name).read_bytes())
            if fault.strikes(fault.corrupt, name):
                body[fault.below(len(body))] ^= 0xFF
            size, start = len(body), 0
            if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
                fault.ranges.append(f"{name} {asked[0]}")
                start = int(asked[1]) if ranges and not fault.ignores_range else 0
            self.send_response(206 if start else 200)
            lie = int(fault.strikes(fault.lengths, name))
            if not fault.strikes(fault.unsized, name):
                self.send_header("Content-Length", str(size - start + lie))
            if start:
                part = fault.wrong_parts.get(name, f"bytes {start}-{size - 1}/{size}")
                self.send_header("Content-Range", part)
            self.end_headers()
            # One that was asked for comes late, so that something is there to go on from.
            kept = (size - start) // 2 if fault.dropped.get(name, 0) else 0
            dropped = fault.strikes(fault.dropped, name)
            end = start + kept + fault.below(size - start - kept) if dropped else size
            silent = fault.silent.get(name, 0) > 0 and fault.strikes(fault.silent, name)
            if fault.longer.get(name, 0) and fault.strikes(fault.longer, name):
                body += b"!"
                end += 1
            for at in range(start, end, _BLOCK):
                if silent and at > size // 2:
                    time.sleep(1)
                    return
                block = body[at : min(end, at + _BLOCK)]
                self.wfile.write(block)
                fault.count(len(block))
                if fault.bytes_per_s:
                    time.sleep(len(block) / fault.bytes_per_s)

        def _json(self, answer: object) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _refuse(self, status: int, code: str = "") -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            if status == 429:
                self.send_header("Retry-After", fault.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that was killed is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _listed(files: Path) -> list[tuple[str, bytes]]:
    return [(str(file.relative_to(files)), file.read_bytes()) for file in sorted(files.rglob("*")) if file.is_file()]


def _large(name: str) -> bool:
    """What both hubs keep in Git LFS."""
    return name.endswith((".safetensors", ".bin", ".gguf", ".pth", "tokenizer.json"))


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    header = f"blob {len(content)}\0".encode()
    sibling: dict[str, Any] = {"rfilename": name, "size": len(content)}
    sibling["blobId"] = hashlib.sha1(header + content).hexdigest()
    if _large(name):
        sha256 = hashlib.sha256(content).hexdigest()
        sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return sibling


def _entry(name: str, content: bytes) -> dict[str, Any]:
    return {
        "Name": Path(name).name,
        "Path": name,
        "Type": "blob",
        "Size": len(content),
        "Sha256": hashlib.sha256(content).hexdigest(),
        "IsLFS": _large(name),
        "CommittedDate": 1745831523,
    }
