"""``python -m gateway CONFIG…``: one door before one or several deployments."""

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvicorn
import uvloop

from contract.address import refuse_keyless
from contract.errors import ConchError, ServeError
from contract.quota import DEFAULT
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
from gateway.ledger import Ledger
from gateway.log import log_to
from gateway.processes import process_count
from gateway.service import Service
from gateway.versions import Versions

if TYPE_CHECKING:
    from gateway.tracing.tracer import Tracer

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


def strays(specs: list[Deployment], keys: Keys) -> list[str]:
    """The quotas of keys that there are not, yet: a slip of the pen would leave a key without its quota."""
    return [
        f"gateway.quotas of {spec.name} has {name}, and no key has this name"
        for spec in specs
        for name in sorted({*spec.gateway.quotas} - {*keys.names, DEFAULT})
    ]


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

    def service(self, backends: dict[str, Backend], books: Books, tracer: "Tracer | None") -> Service:
        """What requests share."""
        versions, origins = Versions(backends, self.root, connect), self.specs[0].gateway.cors_origins
        return Service(backends, versions, self.keys, books, origins, self.processes, tracer)

    def tracer(self) -> "Tracer | None":
        """What traces the requests that this process answers; OpenTelemetry is loaded only where that is on.

        Raises:
            ServeError: its file cannot be written.
        """
        tracing = self.specs[0].tracing
        if not tracing.on:
            return None
        from gateway.tracing.tracer import Tracer

        return Tracer(tracing)

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
    tracer = door.tracer() if door.processes == 1 else None  # else the workers' own
    path = door.specs[0].gateway.ledger
    ledger = Ledger(path) if path else None
    service = door.service(backends, OwnBooks(backends, ledger), tracer)
    config = door.config(service)
    _freeze()
    workers = f", with {door.processes} processes" if door.processes > 1 else ""
    for stray in strays(door.specs, door.keys):
        log.warning(stray)
    log.info("serving %s on http://%s:%d/v1%s", ", ".join(backends), config.host, config.port, workers)
    with closing(ledger) if ledger else nullcontext():
        async with _following(service):
            if workers:
                await Keeper(service, door.drain_s).serve(config.host, config.port)
            else:
                await DrainingServer(config, service, door.drain_s).serve()


async def _work(door: Door, place: Place) -> None:
    """Be a worker."""
    worker = Worker(door.drain_s)
    backends = door.backends(asked_admission(worker.desk), watches=False)
    service = door.service(backends, worker.desk, door.tracer())
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
    """Serve whatever version is to be served; close the connections in the end, and hand over the last traces."""
    watch = asyncio.create_task(service.versions.watch())
    try:
        yield
    finally:
        watch.cancel()
        for backend in service.backends.values():
            await backend.client.close()
        if service.tracer:
            service.tracer.close()


if __name__ == "__main__":
    typer.run(main)
