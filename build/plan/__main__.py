"""``python -m build.plan`` (make plan): what a model needs of GPUs, from its config.json alone."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from build.plan.asked import Options, by_deployment, by_options
from build.plan.planner import NIC_GBPS, make_plan
from build.plan.report import as_json
from contract.errors import BuildError, ConchError
from contract.spec import load_spec


def main(
    deployment: Annotated[Path | None, typer.Argument(help="a deployment spec; or give --model")] = None,
    *,
    model: Annotated[str, typer.Option(help="a config.json, a checkpoint's folder, or a repository of the hub")] = "",
    gpus: Annotated[str, typer.Option(help="GPUxCOUNTxMACHINES, such as h200x8x2")] = "",
    precision: Annotated[str, typer.Option(help="of the weights, if not the checkpoint's own")] = "",
    cache: Annotated[str, typer.Option(help="precision of the KV cache, if not that of the activations")] = "",
    length: Annotated[int, typer.Option(min=0, help="tokens of a request, prompt and answer; 0: 8192")] = 0,
    prompt: Annotated[int, typer.Option(min=0, help="tokens of its prompt; 0: half of them")] = 0,
    batch: Annotated[int, typer.Option(min=0, help="requests that one copy serves at once, at most; 0: 256")] = 0,
    layout: Annotated[str, typer.Option(help="look at this one only: TPxPPxEP, such as 8x2x8")] = "",
    nic_gbps: Annotated[float, typer.Option(min=1, help="each GPU's network adapter, Gb/s")] = NIC_GBPS,
    to_json: Annotated[bool, typer.Option("--json", help="the same and more, for programs")] = False,
) -> None:
    """Show what fits where, without any weights."""
    from rich.console import Console
    from rich.markup import escape

    options = Options(precision, cache, length, prompt, batch, layout)
    try:
        if model:
            asked = by_options(model, gpus, options)
        elif deployment:
            asked = by_deployment(load_spec(deployment), gpus, options)
        else:
            raise BuildError("nothing to plan", fix="Give MODEL=owner/name, or CONFIG=configs/NAME.yaml")
        plan = make_plan(asked, nic_gbps)
    except ConchError as refusal:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]✗[/red] {escape(str(refusal))}")
        sys.exit(1)
    if to_json:
        print(json.dumps(as_json(plan), indent=2))
        return
    from build.plan.table import show

    show(plan, Console(highlight=False))


if __name__ == "__main__":
    typer.run(main)
