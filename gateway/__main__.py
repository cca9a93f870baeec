"""``python -m gateway CONFIG…``: one door before one or several deployments."""

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
import uvloop

from contract.address import refuse_keyless
from contract.errors import ConchError, ServeError
from contract.spec import Deployment, load_spec
from gateway.app import make_app
from gateway.backend import Admits, Backend, connect, own_admission
from gateway.books import Books, OwnBooks
from gateway.desk.keeper import Keeper
from gateway.desk.reach import asked_admission
from gateway.desk.worker import Place, Worker
from gateway.drain import DrainingServer
from gateway.http import LimitedHttp
from gateway.keys import ENVIRONMENT, Keys, load_keys
from gateway.log import log_to
from gateway.processes import process_count
from gateway.service import Service
from gateway.versions import Versions

log = logging.getLogger("gateway")


def main(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG…", help="The deployments' YAML files.")],
    root: Annotated[Path, typer.Option(help="The folder of engines/.")] = Path(),
    drain_s: Annotated[float, typer.Option(help="What is in flight may go on for so long after SIGTERM.")] = 30,
    worker: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Answer OpenAI's API for every CONFIG, where the first one says; Ctrl-C drains, a second one ends."""
    log_to(sys.stderr.fileno())
    try:
        specs = [load_spec(config) for config in configs]
        keys = load_keys(specs[0].gateway.keys)
        check(specs, keys)
        door = Door(specs, keys, root.resolve(), drain_s)
        if worker:
            uvloop.run(_work(door, Place.of(worker)))
        else:
            uvloop.run(_serve(door))
    except ConchError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def check(specs: list[Deployment], keys: Keys) -> None:
    """Refuse what must not be served.

    Raises:
        ConchError: two deployments of one name, or a door that is open to everybody.
    """
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise ServeError(f"{name} is given twice", fix="Each CONFIG needs a name of its own")
    if not keys.needed:
        fix = f"Make one (python -m gateway.keys new NAME) and set gateway.keys, or give {ENVIRONMENT}"
        refuse_keyless(specs[0].gateway.host, fix=fix)


@dataclass(frozen=True)
class Door:
    """What was asked for."""

    specs: list[Deployment]
    keys: Keys
    root: Path
    drain_s: float

    @property
    def processes(self) -> int:
        """How many answer."""
        return process_count(self.specs[0])

    def backends(
        self, admission: Callable[[Deployment], Admits] = own_admission, *, watches: bool = True
    ) -> dict[str, Backend]:
        """The deployments, connected."""
        return {spec.name: connect(spec, self.root, admission, watches=watches) for spec in self.specs}

    def service(self, backends: dict[str, Backend], books: Books) -> Service:
        """What requests share."""
        versions = Versions(backends, self.root, connect)
        return Service(backends, versions, self.keys, books, self.specs[0].gateway.cors_origins, self.processes)

    def config(self, service: Service) -> uvicorn.Config:
        """For uvicorn."""
        return uvicorn.Config(
            make_app(service),
            host=self.specs[0].gateway.host,
            port=self.specs[0].ports.gateway,
            http=LimitedHttp,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=self.specs[0].gateway.keep_alive_s,
            timeout_graceful_shutdown=2,
        )


async def _serve(door: Door) -> None:
    """Answer here, or have workers do it."""
    backends = door.backends()
    service = door.service(backends, OwnBooks(backends))
    config = door.config(service)
    _freeze()
    workers = f", with {door.processes} processes" if door.processes > 1 else ""
    log.info("serving %s on http://%s:%d/v1%s", ", ".join(backends), config.host, config.port, workers)
    async with _following(service):
        if workers:
            await Keeper(service, door.drain_s).serve(config.host, config.port)
        else:
            await DrainingServer(config, service, door.drain_s).serve()


async def _work(door: Door, place: Place) -> None:
    """Be a worker."""
    worker = Worker(door.drain_s)
    backends = door.backends(asked_admission(worker.desk), watches=False)
    service = door.service(backends, worker.desk)
    config = door.config(service)
    _freeze()
    async with _following(service):
        await worker.serve(config, service, place)


def _freeze() -> None:
    """What is there now stays: looking through it again and again took a tenth of the time."""
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def _following(service: Service) -> AsyncIterator[None]:
    """Serve whatever version is to be served, and close the connections in the end."""
    watch = asyncio.create_task(service.versions.watch())
    try:
        yield
    finally:
        watch.cancel()
        for backend in service.backends.values():
            await backend.client.close()


if __name__ == "__main__":
    typer.run(main)
