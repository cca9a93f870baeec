"""Stands for a container engine, which cannot be here: it takes what the real docker program asks for, and keeps it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

Created = dict[str, dict[str, Any]]  # a container's name -> the body of its creation


@contextmanager
def recording_engine(socket: Path) -> Iterator[Created]:
    """An engine on a socket, and the containers that it was asked to create."""
    created: Created = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer({})

        def do_GET(self) -> None:
            self._answer({"ApiVersion": "1.47", "Version": "27", "Os": "linux", "Arch": "amd64"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "/containers/create" in self.path:
                created[self.path.partition("name=")[2]] = json.loads(body)
                return self._answer({"Id": "0" * 64, "Warnings": []}, 201)
            return self._answer({}, 204)

        def _answer(self, data: dict[str, Any], status: int = 200) -> None:
            text = b"" if self.command == "HEAD" or status == 204 else json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Api-Version", "1.47")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if text:  # docker may be gone once it has a HEAD's headers
                self.wfile.write(text)

        def address_string(self) -> str:  # a socket's peer has none
            return ""

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingUnixStreamServer(str(socket), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield created
        server.shutdown()
