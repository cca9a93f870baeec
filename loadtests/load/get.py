"""One GET: of a page of metrics, of a list of models."""

import urllib.request
from collections.abc import Mapping


def get(url: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> bytes:
    """The body.

    Raises:
        OSError: no answer, or not a good one.
        ValueError: not an URL of a web server.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no http:// or https:// address")
    asked = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310 (checked above)
    with urllib.request.urlopen(asked, timeout=timeout_s) as answer:  # noqa: S310
        body: bytes = answer.read()
    return body
