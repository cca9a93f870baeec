"""One engine's further node: runs its command while the head is there, and starts it anew whenever the head was.

``python -m serving.follow HOST:PORT COMMAND…``: the head of a multi-node engine listens on that port for as long as its
rank 0 lives (torch's store, Ray's GCS). A rank that outlived the head would wait for ever in a collective, and would
never find the next one. Nothing but the standard library: an engine's container has no more.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

_EVERY_S = 1.0
_MISSES = 3  # in a row: a head takes longer than that to come back
_STOP_S = 20.0  # from SIGTERM to SIGKILL
_AGAIN_S = 2.0


def answers(head: tuple[str, int]) -> bool:
    """Whether the head listens."""
    try:
        socket.create_connection(head, timeout=5).close()
    except OSError:
        return False
    return True


def follow(head: tuple[str, int], command: list[str]) -> None:
    """Until a signal ends this process."""
    name = f"{head[0]}:{head[1]}"
    while True:
        _say(f"waiting for the head, {name}")
        while not answers(head):
            time.sleep(_EVERY_S)
        _say(f"the head answers: starting {command[0]}")
        # Its own session: an engine's node is many processes, which end together.
        process = subprocess.Popen(command, start_new_session=True)
        try:
            _say(_watch(head, process))
        finally:
            end(process)
        time.sleep(_AGAIN_S)


def _watch(head: tuple[str, int], process: "subprocess.Popen[bytes]") -> str:
    """Why the command is to be started anew, as soon as it is."""
    misses = 0
    while process.poll() is None:
        misses = 0 if answers(head) else misses + 1
        if misses == _MISSES:
            return "the head is gone: ending this node"
        time.sleep(_EVERY_S)
    return f"this node ended with {process.returncode}"


def end(process: "subprocess.Popen[bytes]") -> None:
    """End the command and all that it started."""
    for number, patience_s in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _STOP_S)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _say(what: str) -> None:
    print(f"follow: {what}", flush=True)


def main() -> None:
    """Follow the head that the first argument names."""
    host, _, port = sys.argv[1].rpartition(":") if len(sys.argv) > 2 else ("", "", "")
    if not port.isdigit():
        sys.exit("usage: python -m serving.follow HOST:PORT COMMAND…")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave)
    follow((host.strip("[]"), int(port)), sys.argv[2:])


if __name__ == "__main__":
    main()
