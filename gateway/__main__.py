"""``python -m gateway CONFIG…``: one door before one or several deployments."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
import uvloop

from contract.errors import ConchError
from contract.spec import Deployment, load_spec
from gateway.app import make_app
from gateway.backend import connect
from gateway.service import Service


def main(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG…", help="The deployments' YAML files.")],
    root: Annotated[Path, typer.Option(help="The folder of engines/.")] = Path(),
) -> None:
    """Answer OpenAI's API for every CONFIG, on the first one's ports.gateway; Ctrl-C drains and exits."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        specs = [load_spec(config) for config in configs]
        uvloop.run(_serve(specs, root.resolve()))
    except ConchError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


async def _serve(specs: list[Deployment], root: Path) -> None:
    service = Service({spec.name: connect(spec, root) for spec in specs})
    config = uvicorn.Config(
        make_app(service),
        host=specs[0].gateway.host,
        port=specs[0].ports.gateway,
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    typer.run(main)
