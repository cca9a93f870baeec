"""``python -m gateway CONFIG…``: one door before one or several deployments."""

import gc
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
import uvloop

from contract.address import is_loopback
from contract.errors import ConchError, ServeError
from contract.spec import Deployment, load_spec
from gateway.app import make_app
from gateway.backend import connect
from gateway.drain import DrainingServer
from gateway.http import LimitedHttp
from gateway.keys import ENVIRONMENT, Keys, load_keys
from gateway.service import Service


def main(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG…", help="The deployments' YAML files.")],
    root: Annotated[Path, typer.Option(help="The folder of engines/.")] = Path(),
    drain_s: Annotated[float, typer.Option(help="What is in flight may go on for so long after SIGTERM.")] = 30,
) -> None:
    """Answer OpenAI's API for every CONFIG, where the first one says; Ctrl-C drains, a second one ends."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        specs = [load_spec(config) for config in configs]
        keys = load_keys(specs[0].gateway.keys)
        check(specs, keys)
        uvloop.run(_serve(specs, keys, root.resolve(), drain_s))
    except ConchError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def check(specs: list[Deployment], keys: Keys) -> None:
    """Refuse what must not be served.

    Raises:
        ServeError: two deployments of one name, or a door that is open to everybody.
    """
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise ServeError(f"{name} is given twice", fix="Each CONFIG needs a name of its own")
    host = specs[0].gateway.host
    if not is_loopback(host) and not keys.needed:
        raise ServeError(
            f"gateway.host is {host}: other machines could use this gateway without a key",
            fix=f"Make one (python -m gateway.keys new NAME) and set gateway.keys, or give {ENVIRONMENT}",
        )


async def _serve(specs: list[Deployment], keys: Keys, root: Path, drain_s: float) -> None:
    service = Service({spec.name: connect(spec, root) for spec in specs}, keys, specs[0].gateway.cors_origins)
    config = uvicorn.Config(
        make_app(service),
        host=specs[0].gateway.host,
        port=specs[0].ports.gateway,
        http=LimitedHttp,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        timeout_keep_alive=specs[0].gateway.keep_alive_s,
        timeout_graceful_shutdown=2,
    )
    gc.collect()
    gc.freeze()  # what is there now stays: looking through it again and again took a tenth of the time
    logging.getLogger("gateway").info(
        "serving %s on http://%s:%d/v1", ", ".join(service.backends), config.host, config.port
    )
    try:
        await DrainingServer(config, service, drain_s).serve()
    finally:
        for backend in service.backends.values():
            await backend.client.close()


if __name__ == "__main__":
    typer.run(main)
