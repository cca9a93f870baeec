"""A stand-in for the Hugging Face hub, which cannot be reached here: one folder, answered as the hub's API does."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(repo: str, files: Path) -> Iterator[str]:
    """Serve a folder as revision ``main`` of a repository; yields the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            api, resolve = f"/api/models/{repo}/revision/", f"/{repo}/resolve/"
            if not path.startswith((api, resolve)):
                return self._refuse("RepoNotFound")
            revision, _, name = path.removeprefix(api).removeprefix(resolve).partition("/")
            if revision not in ("main", COMMIT):
                return self._refuse("RevisionNotFound")
            if path.startswith(api):
                siblings = [{"rfilename": file.name} for file in sorted(files.iterdir())]
                return self._answer(json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode())
            return self._answer((files / name).read_bytes())

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def _refuse(self, code: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
