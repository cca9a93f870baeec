"""``python -m deploy CONFIG`` (make deploy): renders a deployment for containers, or for a machine without."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from contract.checkout import ROOT
from contract.errors import ConchError, SpecError
from contract.spec import load_spec
from deploy.cluster import Target, head_site, render_cluster
from deploy.render import prepare, render, site, write
from deploy.service import ContainerEngine

# What to do first with what was rendered.
_NEXT = {
    "compose.yaml": "{engine} compose --file {path} up --detach --wait",
    "node-0.sh": "{path}, on the head",
    "job.sbatch": "sbatch {path}",
    "kubernetes.yaml": "kubectl apply --filename {path}",
}


def main(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The deployment's YAML.")],
    *,
    torch: Annotated[str, typer.Option(help="pip's requirement of the torch that builds engines on the CPU.")],
    engine: Annotated[ContainerEngine, typer.Option(help="Whose command run.sh calls.")] = "docker",
    target: Annotated[Target, typer.Option(help="What is to start the nodes of a cluster.")] = "compose",
    image: Annotated[str, typer.Option(help="Of the server, where the runtime has several.")] = "",
    show: Annotated[bool, typer.Option("--print", help="Print the files instead of writing them.")] = False,
) -> None:
    """Render CONFIG into deploy/rendered/NAME."""
    try:
        spec = load_spec(config)
        where = site(ROOT, ROOT / "deploy" / "rendered" / spec.name)
        if spec.cluster:
            files = render_cluster(
                spec, spec.cluster, where, str(config), target, engine=engine, torch=torch, image=image
            )
        elif target in ("slurm", "kubernetes"):
            raise SpecError(f"TARGET={target} starts the nodes of a cluster, and {config} has none", fix="Add cluster:")
        else:
            files = render(spec, where, str(config), engine=engine, torch=torch, image=image)
        if not show:
            write(files, where.folder)
            if target == "compose" or not spec.cluster:
                prepare(spec, head_site(where) if spec.cluster else where)
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
    path = where.folder.relative_to(ROOT) / next(name for name in files if Path(name).name in _NEXT)
    print("next:", _NEXT[path.name].format(engine=engine, path=path))


if __name__ == "__main__":
    typer.run(main)
