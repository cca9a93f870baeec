"""``python -m build.fetch_command`` (make fetch): a checkpoint on this disk, before any engine is built of it."""

from pathlib import Path
from typing import Annotated

import typer

from build.interrupt import exit_on_interrupt
from contract.checkout import ROOT

Config = Annotated[Path | None, typer.Argument(help="a deployment spec, whose source is fetched")]
Model = Annotated[str, typer.Option(help="a repository of a hub, such as Qwen/Qwen3-0.6B; no spec is needed")]
Source = Annotated[str, typer.Option(help="its hub: huggingface or modelscope")]
Revision = Annotated[str | None, typer.Option(help="a branch, tag or commit; without it the hub's default branch")]
Root = Annotated[Path, typer.Option(help="the folder of engines/")]


def main(
    config: Config = None,
    model: Model = "",
    source: Source = "huggingface",
    revision: Revision = None,
    root: Root = ROOT,
) -> None:
    """Fetch the source of a deployment, or any repository of a hub."""
    exit_on_interrupt()
    # The imports take a second, and Ctrl-C may come then.
    from pydantic import ValidationError
    from rich.filesize import decimal

    from build.chain import fetch_source
    from build.hub.snapshot import collect
    from build.steps import console, near, told
    from contract.errors import SpecError
    from contract.sections import HubSource
    from contract.spec import load_spec

    with told(root):
        if model:
            try:
                wanted = HubSource.model_validate({"kind": source, "repo": model, "revision": revision})
            except ValidationError as error:
                options = {"kind": "--source", "repo": "--model", "revision": "--revision"}
                raise SpecError(
                    "\n".join(f"{options[str(fault['loc'][0])]}: {fault['msg']}" for fault in error.errors())
                ) from None
        elif revision:
            raise SpecError("a revision goes with a model", fix="A config has its own: source.revision")
        elif config:
            spec = load_spec(config)
            if spec.source is None:
                raise SpecError(f"{config} has no source: runtime {spec.engine.runtime} needs no weights")
            if not isinstance(spec.source, HubSource):
                console.print(f"[green]✓[/green] {near(fetch_source(spec, root.resolve()))}")
                return
            wanted = spec.source
        else:
            raise SpecError("neither a config nor a model is given", fix="Give a config, or --model OWNER/NAME")
        fetched = collect(wanted)
    console.print(f"[green]✓[/green] {len(fetched.files)} files, {decimal(fetched.size)}, every hash as listed")
    print(fetched.folder)


if __name__ == "__main__":
    typer.run(main)
