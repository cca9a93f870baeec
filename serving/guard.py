"""Run a command whose whole process group dies with the process that started it.

``guard.py SHM_PREFIX COMMAND...`` with a pipe for standard input: the kernel closes the pipe when the
supervisor ends, however it ends. A stub of Triton's outlives its server, so the server's own death is
not enough. Run by path with ``python -I -S`` (it imports nothing of ours): it costs some 20 ms.
``guard.py SHM_PREFIX --group ID`` is another guard of a group whose own one died.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

_DEATH_S = 0.1  # from SIGKILL to the end


def watch(shm_prefix: str, group: int) -> None:
    """Wait for the end of standard input, then end a process group and remove what it shared."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.read(0, 1)
    import shutil  # which costs as long as all the rest

    if os.getpgrp() == group:
        os.setpgid(0, 0)  # to outlive it: what still ran could share anew
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    time.sleep(_DEATH_S)
    for left in Path("/dev/shm").glob(f"{shm_prefix}*"):  # noqa: S108
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


if __name__ == "__main__":
    prefix, command = sys.argv[1], sys.argv[2:]
    if command[0] == "--group":
        watch(prefix, int(command[1]))
        sys.exit()
    nowhere = os.open(os.devnull, os.O_RDWR)
    if os.fork() == 0:
        os.dup2(nowhere, 1)  # the end of the server's output must not wait for the guard
        os.dup2(nowhere, 2)
        watch(prefix, os.getpgrp())
        os._exit(0)
    os.dup2(nowhere, 0)
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        sys.exit(f"error: {command[0]}: {error.strerror}")
