"""One deployment's server as its user wants it: one at a time, restarted with back-off, given up in the end."""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from contract.errors import ServeError
from contract.launcher import launched
from contract.spec import Deployment
from contract.stage import run_dir
from contract.state import LOG, Phase, State, created_at
from serving import checks, process
from serving.beside import FilterProcess, GatewayProcess, prefix_beside
from serving.journal import RotatingLog
from serving.life import Ending, live
from serving.reload import Launcher, go_back, take
from serving.rundir import locked
from serving.screen import Screen
from serving.supervision import Policy, Supervision, policy_of
from serving.triton import launch, shm_prefix


def supervise(
    spec: Deployment,
    root: Path,
    config: str,
    screen: Screen,
    *,
    policy: Policy | None = None,
    launcher: Launcher = launch,
    with_parent: bool = False,
) -> int:
    """Serve a deployment until asked to stop; must run in the main thread.

    Args:
        root: the folder of engines/, model_repository/ and .conch/.
        config: how the user names the config, for messages.
        with_parent: to stop is asked by the end of standard input too.

    Returns:
        The server's exit code, as a shell counts it (128 + signal).

    Raises:
        ServeError: refused before the start, or given up.
    """
    folder = run_dir(root, spec.name)
    policy = policy or policy_of(spec)
    with locked(folder):
        prefix = shm_prefix(spec, root)
        # The lock is ours, so whatever still runs lost its supervisor.
        process.sweep(prefix)
        for kind in (GatewayProcess, FilterProcess):
            process.sweep(prefix_beside(kind.name, spec, root))
        checks.preflight(spec, root, config)
        command = launcher(spec, root, int(policy.exit_timeout_s))
        state = State(Phase.STARTING, os.getpid(), created_at(), started_at=time.time())
        with RotatingLog(folder / LOG) as log:
            beside = (spec, root, Path(config).resolve(), screen, log)
            door, guard = (
                GatewayProcess(*beside, policy.drain_timeout_s),
                FilterProcess(*beside, 0.0, doors=command.doors),
            )
            loop = Supervision(spec, root, config, folder, policy, command, prefix, screen, log, state, door, guard)
            loop.publish(phase=Phase.STARTING)
            for told in checks.warnings(spec):
                screen.warn(told)
            return asyncio.run(_serve(loop, launcher, with_parent=with_parent))


async def _serve(own: Supervision, launcher: Launcher, *, with_parent: bool) -> int:
    """Live after life behind one door, until the user asks to stop or nothing helps."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, own.ask_to_stop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, own.reload.set)
    if with_parent:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _parent_left, own)
    own.door.changed = lambda trouble: own.publish(gateway=trouble)
    own.filter.changed = lambda trouble: own.publish(filter=trouble)
    own.filter.open()
    own.door.open()
    try:
        return await _lives(own, launcher)
    finally:
        await own.door.close(drain=False)
        await own.filter.close()


def _parent_left(own: Supervision) -> None:
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    own.ask_to_stop()


async def _lives(own: Supervision, launcher: Launcher) -> int:
    failures = failed_starts = 0
    before = None  # what to go back to, should the version that was turned to not start
    while True:
        life = await live(own)
        if life.ending is Ending.STOPPED:
            own.tell(f"{own.spec.name} stopped")
            return life.code
        if life.ending is Ending.RELOADS:
            before = take(own, launcher)
            continue
        if before and life.ending is not Ending.FAILED:
            go_back(own, before, life.reason, launcher)
            before = None
            continue
        before = None
        failed_starts = failed_starts + 1 if life.ending is Ending.FAILED_START else 0
        failures = max(0, failures - int(life.ready_for_s / own.policy.forgiven_s))
        if life.ending is Ending.HOPELESS or (failed_starts == own.policy.starts and not own.was_ready):
            own.log.note(f"given up: {life.reason}")
            times = f" {failed_starts} times in a row" if failed_starts > 1 else ""
            raise ServeError(
                f"{own.spec.name} failed to start{times}: {life.reason}", fix=f"The whole log is {own.folder / LOG}"
            )
        if launched():  # the ranks answer the one process that the launcher began with, and no second
            own.log.note(f"not restarted: {life.reason}")
            raise ServeError(
                f"{own.spec.name} ended: {life.reason}, and the ranks of trtllm-llmapi-launch wait for it alone",
                fix="End the job on every machine, and start it anew",
            )
        delay_s = own.policy.backoff_s[min(failures, len(own.policy.backoff_s) - 1)]
        failures += 1
        restarts = own.state.restarts + 1
        own.tell(f"{life.reason}; restart {restarts} in {delay_s:g} s", "yellow")
        own.publish(phase=Phase.RESTARTING, server_pid=0, ready_at=0.0, restarts=restarts, last_failure=life.reason)
        with suppress(TimeoutError):
            await asyncio.wait_for(own.stop.wait(), delay_s)
            own.tell(f"{own.spec.name} stopped")
            return 0
