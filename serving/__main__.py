"""``python -m serving {check,serve,up,down,status,logs} CONFIG``: what the Makefile's buttons press."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from contract.errors import ConchError, ServeError
from contract.spec import Deployment, load_spec
from contract.stage import run_dir
from contract.state import LOG, Phase, read_state
from serving import journal, supervisor
from serving.checks import CHECKS, warnings
from serving.endpoints import endpoints, read_metrics
from serving.screen import Screen, refuse

NOT_RUNNING = 3
NOT_READY = 4

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="The deployment's YAML.")]
Root = Annotated[Path, typer.Option(help="The folder of engines/, model_repository/ and .conch/.")]
HERE = Path()


@app.command()
def check(config: Config, root: Root = HERE) -> None:
    """Say whether CONFIG can be served on this machine; exit code 1 when not."""
    screen = Screen()
    with _clean_refusal():
        spec = load_spec(config)
    screen.say(f"OK  config: {spec.name}", "green")
    refused = False
    for name, verify in CHECKS.items():
        try:
            screen.say(f"OK  {name}: {verify(spec, root.resolve(), str(config))}", "green")
        except ConchError as error:
            refused = True
            refuse(error)
    for told in warnings(spec):
        screen.warn(told)
    raise typer.Exit(1 if refused else 0)


@app.command()
def serve(
    config: Config,
    root: Root = HERE,
    with_parent: Annotated[bool, typer.Option("--with-parent", help="Drain once standard input ends.")] = False,
) -> None:
    """Serve CONFIG in the foreground; Ctrl-C drains, a second one kills. Exits with the server's code."""
    from serving.lifecycle import supervise  # gRPC and all: a third of a second that no other button needs

    with _clean_refusal():
        code = supervise(load_spec(config), root.resolve(), str(config), Screen(), with_parent=with_parent)
    raise typer.Exit(code)


@app.command()
def up(config: Config, root: Root = HERE) -> None:
    """Serve CONFIG in the background; returns when it is ready."""
    with _clean_refusal():
        supervisor.start(load_spec(config), root.resolve(), str(config), show=_pass_on)


@app.command()
def down(config: Config, root: Root = HERE) -> None:
    """Drain and stop the server of CONFIG."""
    screen = Screen()
    with _clean_refusal():
        spec = load_spec(config)
        found = supervisor.find(spec, root.resolve())
        if found is None:
            screen.say(f"{spec.name} is not running")
            return
        with screen.busy(f"draining {spec.name} (pid {found.supervisor_pid}) …"):
            supervisor.stop(found)
        screen.say(f"{spec.name} stopped", "green")


@app.command()
def status(config: Config, root: Root = HERE) -> None:
    """Show what the server of CONFIG is doing. Exit code 0: ready, 3: not running, 4: not ready."""
    screen = Screen()
    with _clean_refusal():
        spec = load_spec(config)
    state = read_state(run_dir(root.resolve(), spec.name))
    if state is None:
        screen.say(f"{spec.name} is not running (make up CONFIG={config} starts it)")
        raise typer.Exit(NOT_RUNNING)
    rows = {
        "state": str(state.phase),
        "pid": f"{state.supervisor_pid} (supervisor), {state.server_pid or 'none'} (server)",
        "up for": _duration(time.time() - state.started_at),
        "restarts": str(state.restarts),
        "last failure": state.last_failure or "none",
    }
    troubles = {name: why for name, why in (("filter", state.filter), ("gateway", state.gateway)) if why}
    rows |= {name: f"is being started again: {why}" for name, why in troubles.items()}
    if state.phase is Phase.READY:
        rows["ready for"] = _duration(time.time() - state.ready_at)
        rows |= endpoints(spec) | _gauges(spec)
    screen.say(spec.name, "bold")
    screen.table(rows)
    raise typer.Exit(0 if state.phase is Phase.READY and not troubles else NOT_READY)


@app.command()
def logs(config: Config, root: Root = HERE) -> None:
    """Print the last 100 lines of the server's log, and follow it while the server runs."""
    with _clean_refusal():
        spec = load_spec(config)
        folder = run_dir(root.resolve(), spec.name)
        path = folder / LOG
        if not path.exists():
            raise ServeError(f"{spec.name} has no log yet ({path})", fix=f"make up CONFIG={config} starts it")
    try:
        following = journal.follow(path)
        for line in journal.tail(path, 100):
            print(line)
        for new in following:
            if new is not None:
                print(new, flush=True)
            elif read_state(folder) is None:
                break
    except (KeyboardInterrupt, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _clean_refusal() -> Iterator[None]:
    """Our errors as one clean line and exit code 1; never a traceback."""
    try:
        yield
    except ConchError as error:
        refuse(error)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _pass_on(line: str) -> None:
    print(line, flush=True)


def _gauges(spec: Deployment) -> dict[str, str]:
    """What the server says of its load."""
    wanted = {
        "conch_requests_active": "active",
        "conch_requests_waiting": "waiting",
        "conch_kv_cache_usage_ratio": "KV cache",
    }
    values = {wanted[sample.name]: sample.value for sample in read_metrics(spec) if sample.name in wanted}
    return {name: f"{value:.0%}" if name == "KV cache" else f"{value:g}" for name, value in values.items()}


def _duration(seconds: float) -> str:
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s" if minutes else f"{left} s"


if __name__ == "__main__":
    app()
