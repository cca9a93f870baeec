"""One deployment as the gateway sees it: where it answers, what it can read, and how much it takes on."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from clients.grpc import AsyncClient
from contract.address import grpc_address
from contract.errors import ServeError
from contract.manifest import engines_root, load_manifest
from contract.spec import Deployment
from contract.stage import run_dir
from gateway.admission import Admission
from gateway.held import Held, Ticket
from gateway.load import Load, PromptSizes, most_in_flight
from gateway.outage import Outage
from gateway.parsers import family_of, writes_reasoning
from gateway.quota import Quotas
from gateway.replicas import Client, Replicas

_CONNECTIONS = 4


class Admits(Protocol):
    """Who lets requests start: :class:`gateway.admission.Admission`, here or in another process."""

    @property
    def most_answers(self) -> int:
        """How many answers one request may ask for."""

    async def admit(self, key: str, load: Load, deadline: float | None = None) -> Ticket:
        """Wait for room; the ticket must go back through :meth:`release`."""

    def first_token(self, ticket: Ticket) -> None:
        """A request has its first token, or will say nothing before it ends."""

    def release(self, ticket: Ticket, used: int | None) -> None:
        """Give back what a request held, and settle what it was charged by the tokens that it used."""

    def close(self) -> None:
        """Refuse what waits and what is new."""

    def follow(self, spec: Deployment) -> None:
        """Keep the limits of another version from now on."""

    def retry_after_s(self) -> float:
        """When who is refused now should come back."""


@dataclass
class Backend:
    """A deployment, connected."""

    spec: Deployment
    template: str  # the model's chat template; '' without one
    tokenizer: str  # a hash of it; '' without an engine
    tokenizer_config: dict[str, Any]  # what lies beside its engine; {} without one
    family: str  # how it writes tool calls
    reasons: bool  # it writes its reasoning before the answer
    created: int  # when its engine was made, s since the epoch
    client: Client
    admission: Admits
    run_dir: Path  # of its server, where that runs beside us
    sizes: PromptSizes = field(default_factory=PromptSizes)
    outage: Outage = field(default_factory=Outage)

    @property
    def name(self) -> str:
        """What clients give as ``model``."""
        return self.spec.name


def own_admission(spec: Deployment) -> Admission:
    """The limits of a deployment, kept by this process."""
    limit, batch = most_in_flight(spec)
    return Admission(
        held=Held(limit, Load(spec.gateway.max_requests_per_key, spec.gateway.max_tokens_per_key), batch),
        quotas=Quotas(spec.gateway.quotas),
        queue_size=spec.gateway.max_queue_size,
        patience_s=spec.gateway.max_queue_s,
    )


def connect(
    spec: Deployment,
    root: Path,
    admission: Callable[[Deployment], Admits] = own_admission,
    *,
    watches: bool = True,
) -> Backend:
    """A deployment's backend; must be called in the event loop that will use it. No server need run yet.

    Args:
        watches: looks itself which of several servers are live.
    """
    engine = engines_root(root, spec.name) / "current" if spec.source else None
    tokenizer_config = _tokenizer_config(engine) if engine else {}
    template = _chat_template(engine, tokenizer_config) if engine else ""
    family = family_of(template) if spec.gateway.parser == "auto" else spec.gateway.parser
    return Backend(
        spec=spec,
        template=template,
        tokenizer=_tokenizer(engine) if engine else "",
        tokenizer_config=tokenizer_config,
        family=family,
        reasons=writes_reasoning(template, family),
        created=int(engine.stat().st_mtime) if engine and engine.exists() else 0,
        client=_client(spec, watches=watches),
        run_dir=run_dir(root, spec.name),
        admission=admission(spec),
    )


def _client(spec: Deployment, *, watches: bool) -> Client:
    if spec.gateway.replicas:
        by_prefix = spec.gateway.routing == "prefix"
        return Replicas(spec.gateway.replicas, spec.name, _CONNECTIONS, by_prefix=by_prefix, watches=watches)
    return AsyncClient(grpc_address(spec), spec.name, _CONNECTIONS, direct=True)


def _tokenizer(engine: Path) -> str:
    try:
        origin = load_manifest(engine).origin
    except ServeError:  # it is not where this gateway runs
        return ""
    return origin.tokenizer_sha256 if origin else ""


def _tokenizer_config(engine: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((engine / "tokenizer_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return config


def _chat_template(engine: Path, tokenizer_config: dict[str, Any]) -> str:
    """The chat template beside an engine, in either of the places where it may stand."""
    try:
        return (engine / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        template = tokenizer_config.get("chat_template") or ""
        return template if isinstance(template, str) else ""
