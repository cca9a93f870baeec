"""``python -m deploy CONFIG`` (make deploy): renders a deployment for containers, or for a machine without."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from contract.errors import ConchError
from contract.spec import load_spec
from deploy.render import render, site, write
from deploy.service import ContainerEngine

ROOT = Path(__file__).resolve().parent.parent


def main(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The deployment's YAML.")],
    torch: Annotated[str, typer.Option(help="pip's requirement of the torch that builds engines on the CPU.")],
    engine: Annotated[ContainerEngine, typer.Option(help="Whose command run.sh calls.")] = "docker",
    image: Annotated[str, typer.Option(help="Of the server, where the runtime has several.")] = "",
    show: Annotated[bool, typer.Option("--print", help="Print the files instead of writing them.")] = False,
) -> None:
    """Render CONFIG into deploy/rendered/NAME."""
    try:
        spec = load_spec(config)
        where = site(ROOT, ROOT / "deploy" / "rendered" / spec.name)
        files = render(spec, where, str(config), engine=engine, torch=torch, image=image)
        if not show:
            write(files, spec, where)
    except ConchError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}. Correct this and run it again")
    if show:
        for name, text in files.items():
            print(f"# {name}\n{text}")
        return
    for name in files:
        print((where.folder / name).relative_to(ROOT))
    print(f"next: {engine} compose --file {(where.folder / 'compose.yaml').relative_to(ROOT)} up --detach --wait")


if __name__ == "__main__":
    typer.run(main)
