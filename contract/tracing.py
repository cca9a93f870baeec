"""The section ``tracing`` of a deployment spec: where traces go, which, and what is in them."""

import re
from pathlib import Path

from pydantic import Field, field_validator

from contract.frozen import Frozen

_COLLECTOR = re.compile(r"https?://[^\s/@?#]+(/[^\s?#]*)?")


class Tracing(Frozen):
    """Traces of the gateway's requests; off without an endpoint and a file."""

    endpoint: str | None = None  # a collector's OTLP over HTTP, such as http://127.0.0.1:4318
    headers: Path | None = None  # a file of the collector's: a line each, such as "authorization: Bearer …"
    file: Path | None = None  # OTLP as JSON, a line a batch; appended to
    sample: float = Field(default=1.0, ge=0, le=1)  # share of the requests whose traceparent has not decided
    content: bool = False  # prompts, answers and stop strings too

    @property
    def on(self) -> bool:
        """Whether there are any."""
        return bool(self.endpoint or self.file)

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, given: str | None) -> str | None:
        if given is not None and not _COLLECTOR.fullmatch(given):
            raise ValueError(
                "must be an address such as http://127.0.0.1:4318, without user and query: secrets are for "
                "the file that tracing.headers names, or OTEL_EXPORTER_OTLP_HEADERS in the environment"
            )
        return given
