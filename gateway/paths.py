"""Paths as clients write them: slashes too many are nothing, and a path that leads nowhere is told where it might."""

import re
from collections.abc import Iterable

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

_VERSION = "/v1"
_ANTHROPICS = "/v1/messages"
_SLASHES = re.compile(r"/{2,}|/$")


class Tidied:
    """An ASGI application that is asked for ``/v1/models`` where its client wrote ``/v1//models/``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] == "http" and _SLASHES.search(scope["path"]):
            scope = {**scope, "path": "/" + "/".join(filter(None, scope["path"].split("/")))}
        await self._app(scope, receive, send)


class Named(Route):
    """A route whose requests are told of under its path (gateway/journey.py)."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of Starlette."""
        if scope["method"] in (self.methods or ()):
            scope["journey"].route = self.path
        await super().handle(scope, receive, send)


def hint(path: str, routes: Iterable[BaseRoute]) -> str:
    """Where a path that is not here would lead with the base URL that clients are to be given; '' if nowhere."""
    tail = path.rpartition(_VERSION)[2] if _VERSION in path else path
    for route in routes:
        if isinstance(route, Route) and route.path != path and route.path == _VERSION + tail:
            once = f"has no {_VERSION}" if route.path.startswith(_ANTHROPICS) else f"ends in {_VERSION}, once"
            return f". Did you mean {route.path}? Its clients' base URL {once}"
    return ""
