"""One server process from start to end: started, proved ready, watched, drained or killed.

Whatever ends first decides: the process exits, a stage dies, the canary proves a hang, or the user
asks to stop. Nothing of the server is left running, and no shared memory of it.
"""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from contract.errors import ServeError
from contract.spec import Deployment
from contract.stage import canary_id
from contract.state import Phase
from contract.tensors import stage_names
from serving import canary, checks, process
from serving.endpoints import endpoints, read_metrics
from serving.journal import last_words, load_failure, matters, plain
from serving.process import Server
from serving.rundir import refuse_new_requests
from serving.supervision import Supervision
from serving.triton import GRPC_DOOR

T = TypeVar("T")


class Ending(Enum):
    """How one server process came to its end."""

    STOPPED = "stopped"  # the user asked
    FAILED_START = "failed start"  # it was never ready
    HOPELESS = "hopeless"  # it was never ready, and would not be the next time
    FAILED = "failed"  # it was ready
    RELOADS = "reloads"  # another version is to be served


@dataclass(frozen=True)
class Life:
    """One server process, told from its end."""

    ending: Ending
    reason: str = ""
    code: int = 0
    ready_for_s: float = 0.0


async def live(own: Supervision) -> Life:
    """Start the server and see it through to its end; nothing of it is left running."""
    own.recent.clear()
    own.unloaded.clear()
    began = time.monotonic()
    try:
        names = ("metrics",) if own.launch.doors else checks.PORTS  # the filter holds the others
        checks.check_the_ports(own.spec, own.root, own.config, names)
    except ServeError as refusal:
        return Life(Ending.FAILED_START, str(refusal))
    own.launch.clear_doors()
    server = await process.start(own.launch, own.prefix)
    own.publish(phase=Phase.RESTARTING if own.state.restarts else Phase.STARTING, server_pid=server.pid)
    pump = asyncio.create_task(_pump(server, own))
    guarded = asyncio.create_task(process.keep_guarded(server, own.policy.stub_interval_s))
    try:
        with own.screen.busy(f"starting {own.spec.name} …"):
            life = await _first(_exit_at_start(server, pump, own), _proof(server, own), _stopped_early(server, own))
        return life or await _live_on(server, own, time.monotonic() - began)
    finally:
        process.kill(server)
        await process.exit_code(server)
        guarded.cancel()
        own.launch.clear_doors()
        await asyncio.wait({pump}, timeout=1)
        pump.cancel()


async def _live_on(server: Server, own: Supervision, took_s: float) -> Life:
    """From ready to the end."""
    process.close_memory(server)
    own.tell(f"{own.spec.name} is ready after {took_s:.1f} s", "green")
    if not own.state.restarts:
        _announce(own)
    own.was_ready = True
    own.publish(phase=Phase.READY, ready_at=time.time())
    reason = await _first(
        process.exit_reason(server),
        process.dead_stub(server, own.policy.stub_interval_s),
        canary.watch(own.spec, own.address, canary_id(own.folder), own.policy.pace, lambda: _computed_s(server, own)),
        _asked(own.stop),
        _asked(own.reload),
    )
    if reason:
        return Life(Ending.FAILED, reason, ready_for_s=time.time() - own.state.ready_at)
    code = await _drain(server, own)
    if own.stop.is_set():
        await own.door.close()  # it may have been asked while another version was to be served
        return Life(Ending.STOPPED, code=code)
    return Life(Ending.RELOADS)


def _computed_s(server: Server, own: Supervision) -> float:
    """Of the engine, where it computes on the cores; on a GPU one that hangs may well keep a core busy."""
    spec = own.spec
    return process.engines_s(server, stage_names(spec.name)[1]) if spec.engine.kind.on_cores else 0.0


async def _drain(server: Server, own: Supervision) -> int:
    """Refuse what is new, let what is in flight finish, and end the server; kill what does not end.

    Triton's own draining cuts streams: an ensemble that waits for its next step waits in vain once the
    server is stopping, because its steps refuse it too. So it gets the signal when nothing is in flight.

    Returns:
        Its exit code, as a shell counts it.
    """
    policy = own.policy
    try:
        refuse_new_requests(own.folder)
    except OSError as error:
        own.tell(f"new requests are not refused meanwhile: {own.folder}: {error.strerror}", "yellow")
    own.publish(phase=Phase.DRAINING)
    own.tell(f"draining {own.spec.name}: up to {policy.drain_timeout_s:g} s for requests in flight")
    hindrance = await _first(
        _settled(own),
        process.dead_stub(server, policy.stub_interval_s),
        _pressed_again(own),
        asyncio.sleep(policy.drain_timeout_s, f"requests are still in flight after {policy.drain_timeout_s:g} s"),
    )
    if not hindrance:
        server.process.terminate()
        hindrance = await _first(
            _gone(server),
            _pressed_again(own),
            asyncio.sleep(policy.exit_timeout_s, f"the server has not exited after {policy.exit_timeout_s:g} s"),
        )
    if hindrance:
        own.tell(f"{hindrance}: killing the server", "yellow")
        process.kill(server)
    return _as_shell(await process.exit_code(server))


async def _settled(own: Supervision) -> str:
    """'' once the server has drained, and before it the gateway where that is to end too."""
    if own.stop.is_set():
        await own.door.close()
    return await _quiet(own.spec, own.policy.quiet_s)


async def _quiet(spec: Deployment, seconds: float) -> str:
    """'' once the engine has had nothing in flight for so long, which must exceed its metrics' period."""
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < seconds:
        await asyncio.sleep(seconds / 8)
        samples = await asyncio.to_thread(read_metrics, spec)
        loads = [sample.value for sample in samples if sample.name in _LOAD]
        if not loads or any(loads):
            idle_since = time.monotonic()
    return ""


async def _asked(wish: asyncio.Event) -> str:
    """'' once the user asks for it."""
    await wish.wait()
    return ""


async def _pressed_again(own: Supervision) -> str:
    """The user's second request to stop."""
    await own.kill.wait()
    return "asked twice"


async def _gone(server: Server) -> str:
    """'' once the server has exited."""
    await process.exit_code(server)
    return ""


async def _exit_at_start(server: Server, pump: asyncio.Task[None], own: Supervision) -> Life:
    """The end of a server that exits before it is ready, or is going to once the slowest of its models has loaded."""
    reason = await _first(process.exit_reason(server), _said(own.unloaded))
    await asyncio.wait({pump}, timeout=0 if own.unloaded.is_set() else 1)  # its last lines
    cause = load_failure(own.recent)
    if cause and not own.state.restarts:
        return Life(Ending.HOPELESS, cause)
    return Life(Ending.FAILED_START, cause or "\n  ".join([reason, *last_words(own.recent)]))


async def _said(what: asyncio.Event) -> str:
    await what.wait()
    return "a model did not load"


async def _proof(server: Server, own: Supervision) -> Life | None:
    """None once the canary is answered, and the first time the gateway too; else the end of the server."""
    patience_s = own.policy.start_timeout_s
    deadline = time.monotonic() + patience_s
    refused = "its port does not answer"
    while time.monotonic() < deadline:
        if not _listens(server, own):
            await asyncio.sleep(0.1)
            continue
        try:
            await canary.ask(own.spec, own.address, canary_id(own.folder), max(0.1, deadline - time.monotonic()))
            unopened = "" if own.was_ready else await own.filter.up() or await own.door.up()
            return Life(Ending.HOPELESS, unopened) if unopened else None
        except canary.CanaryFailed as error:
            refused = str(error)
            await asyncio.sleep(0.5)
    reason = f"not ready after {patience_s:g} s ({refused})"
    return Life(Ending.FAILED_START if own.state.restarts else Ending.HOPELESS, reason)


def _listens(server: Server, own: Supervision) -> bool:
    """Whether it has opened its doors, metrics last."""
    doors, ports = own.launch.doors, own.spec.ports
    opened = (doors / GRPC_DOOR).exists() if doors else process.listens(server, ports.grpc)
    return opened and process.listens(server, ports.metrics)


async def _stopped_early(server: Server, own: Supervision) -> Life:
    """The end of a server that is not wanted any more before it is ready."""
    await own.stop.wait()
    own.publish(phase=Phase.DRAINING)
    server.process.terminate()
    try:
        code = await asyncio.wait_for(process.exit_code(server), own.policy.early_stop_s)
    except TimeoutError:
        process.kill(server)
        code = await process.exit_code(server)
    return Life(Ending.STOPPED, code=_as_shell(code))


async def _pump(server: Server, own: Supervision) -> None:
    """The server's output to the log, and what matters of it to the screen."""
    partial = b""
    while chunk := await server.output.read(65536):
        *lines, partial = (partial + chunk).split(b"\n")
        if len(partial) > 65536:
            lines, partial = [*lines, partial], b""
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip()
            own.log.line(text)
            own.recent.append(text)
            # What goes wrong at a start is told at its end, in one line.
            if own.state.phase not in (Phase.READY, Phase.DRAINING):
                if load_failure([text]):
                    own.unloaded.set()
            elif matters(text):
                own.screen.server(plain(text))


def _as_shell(code: int) -> int:
    return code if code >= 0 else 128 - code


async def _first(*contenders: Coroutine[Any, Any, T]) -> T:
    """The result of the first to end; the others are cancelled."""
    tasks = [asyncio.ensure_future(contender) for contender in contenders]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _announce(own: Supervision) -> None:
    own.screen.table(
        {
            **endpoints(own.spec),
            "chat": f"make chat CONFIG={own.config}",
            "stop": f"Ctrl-C, or make down CONFIG={own.config}",
        }
    )


_LOAD = ("conch_requests_active", "conch_requests_waiting")
