"""A page of another origin in Debian's chromium: it streams a chat and reads our headers, if the gateway names it."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest

from serving.supervisor import Running
from tests.gateway.conftest import CHAT, origin
from tests.real.conftest import PAGE

pytestmark = pytest.mark.long

SCRIPT = """<script>
async function ask() {
  const answer = await fetch("%s", {
    method: "POST",
    headers: {"content-type": "application/json", "authorization": "Bearer none", "x-stainless-lang": "js"},
    body: JSON.stringify({model: "scripted", stream: true, messages: [{role: "user", content: "[[Poseidon]]"}]}),
  });
  const read = await answer.text();
  return {status: answer.status, id: answer.headers.get("x-request-id"), whole: read.trimEnd().endsWith("[DONE]")};
}
ask().catch((error) => ({error: error.name})).then(
  (heard) => fetch("/heard", {method: "POST", body: JSON.stringify(heard)}));
</script>"""


def test_a_page_that_may(scripted: Running, tmp_path: Path) -> None:
    heard = visit(PAGE, origin(scripted) + CHAT, tmp_path)
    assert (heard["status"], heard["whole"]) == (200, True)
    assert heard["id"]


def test_a_page_that_may_not(scripted: Running, tmp_path: Path) -> None:
    assert visit("http://stranger.example", origin(scripted) + CHAT, tmp_path) == {"error": "TypeError"}


def visit(page: str, url: str, folder: Path) -> dict[str, object]:
    """What a page of that origin hears from the URL."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium: apt-get install chromium")
    with site(SCRIPT % url) as (port, heard):
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += [f"--user-data-dir={folder}", f"--host-resolver-rules=MAP *.example 127.0.0.1:{port}"]
        command += ["--remote-debugging-port=0", page]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as browser:
            try:
                return heard.get(timeout=120)
            finally:
                browser.terminate()


@contextmanager
def site(html: str) -> Iterator[tuple[int, Queue[dict[str, object]]]]:
    """A site of one page, and what that page tells it."""
    heard: Queue[dict[str, object]] = Queue()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def do_POST(self) -> None:
            heard.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Site) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, heard
        server.shutdown()
