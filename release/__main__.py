"""``python -m release {start,rollback,list} CONFIG``: make release, make rollback, make releases."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from contract.errors import ConchError, ServeError
from contract.rollout import is_releasing, releasing_lock
from contract.spec import load_spec
from contract.stage import run_dir
from release.history import BEFORE, history, last_promoted
from release.live import Live, live_deployment
from release.run import Order, release
from release.shares import Plan

HERE = Path()
_END_S = 120.0
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="The version's YAML.")]
Root = Annotated[Path, typer.Option(help="The folder of engines/, model_repository/ and .conch/.")]
console = Console(soft_wrap=True, highlight=False, emoji=False, markup=False)


@app.command()
def start(
    config: Config,
    *,
    root: Root = HERE,
    builder: Annotated[Path, typer.Option(help="The Python of make engine.")] = Path(".venv-build/bin/python"),
    shares: Annotated[str, typer.Option(help="Percent of the traffic, one after the other.")] = "5,25,50",
    pairs: Annotated[int, typer.Option(min=1, help="Answers of each version to compare at each share.")] = 60,
    minutes: Annotated[float, typer.Option(min=0, help="How long to wait for them at each share.")] = 10,
    alarm: Annotated[float, typer.Option(min=1e-6, max=0.5, help="The chance of a false alarm.")] = 0.05,
    agreement: Annotated[
        float, typer.Option(max=1, help="Of next tokens with the current version's; -1: as verify.min_top1_agreement.")
    ] = -1,
    swap: Annotated[bool, typer.Option("--swap", help="Drain the server first: two do not fit.")] = False,
) -> None:
    """Release CONFIG beside the server that runs; exit code 1 where it was rolled back."""
    with _clean_refusal():
        spec = load_spec(config)
        live = live_deployment(root.resolve(), spec, config)
        plan = Plan(_shares(shares), pairs, minutes * 60, alarm)
        least = None if agreement < 0 else agreement
        report = release(live, Order(config, spec, plan, builder.absolute(), agreement=least, swap=swap), console.print)
    raise typer.Exit(0 if report.verdict == "promoted" else 1)


@app.command()
def rollback(
    config: Config,
    root: Root = HERE,
    swap: Annotated[bool, typer.Option("--swap", help="Drain the server first: two do not fit.")] = False,
) -> None:
    """End the release that is on, or else serve again what was served before the last one."""
    with _clean_refusal():
        spec = load_spec(config)
        folder = run_dir(root.resolve(), spec.name)
        if _ended(folder) and history(folder)[-1]["verdict"] != "promoted":
            console.print(f"the release of {spec.name} was ended: the version before has all of the traffic")
            return
        last = last_promoted(folder)
        if last is None:
            raise ServeError(f"no release of {spec.name} was ever promoted", fix="There is nothing to go back to")
        path = folder / "releases" / last["release"] / BEFORE
        before = load_spec(path)
        live = live_deployment(root.resolve(), before, config)
        engine = Path(last["engine_before"]) if last["engine_before"] else None
        report = release(live, Order(path, before, Plan(()), engine=engine, proven=True, swap=swap), console.print)
    raise typer.Exit(0 if report.verdict == "promoted" else 1)


@app.command("list")
def listed(config: Config, root: Root = HERE) -> None:
    """Every release of CONFIG's deployment, the newest last."""
    with _clean_refusal():
        spec = load_spec(config)
        live = Live(root.resolve(), spec.name)
    lines = history(live.run_dir)
    for line in lines:
        engines = f", {line['before']} → {line['version']}" if line["version"] else ""
        why = f": {line['reason']}" if line["reason"] else ""
        console.print(f"{line['release']}  {line['verdict']} after {line['took_s']:.0f} s{engines}{why}")
    if not lines:
        console.print(f"{spec.name} has had no release")


def _shares(text: str) -> tuple[float, ...]:
    """Percents as parts of one.

    Raises:
        ServeError: one is no share, or not larger than the one before.
    """
    try:
        found = tuple(float(each) / 100 for each in text.split(",") if each.strip())
    except ValueError:
        found = (0.0,)
    if list(found) != sorted(set(found)) or not all(0 < each < 1 for each in found):
        raise ServeError(f"--shares {text}: must be rising percents between 0 and 100", fix="Such as 5,25,50")
    return found


def _ended(folder: Path) -> bool:
    """Ask the one who releases to end it; whether there was one."""
    path = releasing_lock(folder)
    if not path.exists() or not is_releasing(folder):
        return False
    pid = int(path.read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _END_S
    while is_releasing(folder):
        if time.monotonic() > deadline:
            raise ServeError(f"the release (pid {pid}) has not ended after {_END_S:g} s", fix="Its report says why")
        time.sleep(0.05)
    return True


@contextmanager
def _clean_refusal() -> Iterator[None]:
    """Our errors as one clean line and exit code 1; never a traceback."""
    try:
        yield
    except ConchError as error:
        Console(stderr=True, soft_wrap=True, highlight=False, emoji=False).print(f"error: {error}", style="red")
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
