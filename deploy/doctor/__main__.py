"""``python -m deploy.doctor CONFIG`` (make doctor): what of this node would keep a deployment from running well."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from contract.checkout import ROOT
from contract.errors import ConchError
from contract.manifest import engines_root
from contract.spec import load_spec
from deploy.doctor.case import Case
from deploy.doctor.compare import compare, read
from deploy.doctor.node import Report, examine
from deploy.doctor.result import failed, show
from deploy.fabric import environment


def main(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="The deployment's YAML.")] = None,
    head: Annotated[str, typer.Option(help="Address of the first node, where there is no cluster block.")] = "",
    to: Annotated[Path | None, typer.Option("--json", help="Write the report here, for --compare.")] = None,
    reports: Annotated[list[Path] | None, typer.Option("--compare", help="A node's report; give one of each.")] = None,
) -> None:
    """Look at this node, or compare the reports of several. Exits with 1 where something must be put right first."""
    console = Console()
    try:
        if reports:
            results = compare([read(path) for path in reports])
            show(f"{len(reports)} nodes beside each other", results, console)
            sys.exit(failed(results))
        if config is None:
            raise ConchError("no deployment", fix="Give its YAML, or reports with --compare")
        spec = load_spec(config)
        first = head or (spec.cluster.head.address if spec.cluster else "")
        report = examine(Case(spec, first, engines_root(ROOT, spec.name)))
        if to:
            to.write_text(json.dumps(report.dump(), indent=1) + "\n", encoding="utf-8")
    except ConchError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}. Correct this and run it again")
    show(f"{report.node}, for {report.deployment}", report.results, console)
    _recommend(report, console)
    sys.exit(failed(report.results))


def _recommend(report: Report, console: Console) -> None:
    if not report.fabric:
        return
    written = yaml.safe_dump(
        report.fabric.model_dump(mode="json", exclude_defaults=True), default_flow_style=True
    ).strip()
    console.print(f"\nFor engines of several GPUs or nodes, fabric: {written}", highlight=False, markup=False)
    for setting in environment(report.fabric):
        console.print(f"  export {setting.name}={setting.value}", highlight=False, markup=False)
        console.print(f"    # {setting.why}", style="dim", highlight=False, markup=False)


if __name__ == "__main__":
    typer.run(main)
