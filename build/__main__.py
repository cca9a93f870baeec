"""``python -m build CONFIG`` (make engine): builds the engine of a deployment and writes its model repository."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from build.interrupt import exit_on_interrupt
from contract.checkout import ROOT

Config = Annotated[Path, typer.Argument(help="a deployment spec, such as configs/smollm2-135m.yaml")]
Root = Annotated[Path, typer.Option(help="the folder of engines/ and model_repository/")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the container's command and do nothing")]
Apart = Annotated[bool, typer.Option("--apart", help="leave the current engine current, and print this one's folder")]


def main(config: Config, root: Root = ROOT, dry_run: DryRun = False, apart: Apart = False) -> None:
    """Build the engine of a deployment and write its model repository."""
    exit_on_interrupt()
    # The imports take a second, and Ctrl-C may come then.
    from build.chain import build, show_command
    from build.repository import write_unless_served
    from build.steps import console, near, told
    from build.trtllm.container import in_place
    from contract.spec import load_spec

    root = root.resolve()
    with told(root):
        spec = load_spec(config)
        if dry_run:
            print(shlex.join(show_command(spec, root)))
            return
        engine = build(config.resolve(), spec, root, use=not apart) if spec.source else None
        if apart:
            print(engine or "")
            return
        repository = write_unless_served(root, spec, engine)
    if repository is None:
        console.print(f"{spec.name} is being served, by the engine that it had: make down and make up take the new one")
        return
    console.print(f"[green]✓[/green] model repository: {near(repository)}")
    # An engine that is built in an image is served in it, which make deploy has started.
    served_here = not spec.engine.image or in_place()
    console.print(f"next: make {'serve' if served_here else 'deploy'} CONFIG={config}")


if __name__ == "__main__":
    typer.run(main)
