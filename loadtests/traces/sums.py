"""``make bench-trace``: does a trace add up to what its client waited?

One streamed chat after the other through the gateway, each on a connection of its own. A client's E2E is from before it
connects to the last byte; beside it stand the request's whole span and the sum of the spans that have none within.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from contract.address import free_ports
from contract.checkout import ROOT
from contract.errors import ConchError
from contract.spec import Deployment, load_spec, write_spec
from contract.tracing import Tracing
from loadtests.command import ended, head, kept
from loadtests.served import served
from loadtests.traces.page import page
from loadtests.traces.read import Span, TraceError, read

CHATS, MOST_TOKENS, ALLOWED_MS = 20, 64, 5.0
_WARM = 3
_PATIENCE_S = 10.0  # for the last batch to be in the file
_REQUEST_ID = "http.response.header.x-request-id"


def ask(spec: Deployment, number: int) -> float:
    """One chat; how long its client waited, in ms."""
    question = {
        "model": spec.name,
        "messages": [{"role": "user", "content": f"Tell me {number + 2} things about the sea."}],
        "max_tokens": MOST_TOKENS,
        "stream": True,
    }
    body = json.dumps(question)
    begun = time.monotonic()
    door = http.client.HTTPConnection(spec.ports.host, spec.ports.gateway, timeout=60)
    headers = {"content-type": "application/json", "x-request-id": f"sum-{number}"}
    door.request("POST", "/v1/chat/completions", body, headers)
    answer = door.getresponse()
    whole = answer.read()
    waited_ms = (time.monotonic() - begun) * 1000
    door.close()
    if answer.status != 200 or not whole.endswith(b"[DONE]\n\n"):
        raise ConchError(f"a chat failed with status {answer.status}: {whole[:200]!r}")
    return waited_ms


def _traced(spec: Deployment, file: Path) -> Deployment:
    """The deployment with every trace in a file, on ports of its own."""
    ports = dict(zip(("http", "grpc", "metrics", "gateway"), free_ports(4), strict=True))
    changed = {"ports": spec.ports.model_copy(update=ports), "tracing": Tracing(file=file)}
    return spec.model_copy(update=changed)


def _found(file: Path, wanted: int) -> dict[str, Span]:
    """The spans of the requests, by their ids, once all are there."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        roots = read(file)
        told = {root.attributes[_REQUEST_ID][0]: root for root in roots if _REQUEST_ID in root.attributes}
        if len(told) >= wanted:
            return told
        if time.monotonic() > until:
            raise TraceError(f"{len(told)} of {wanted} traces are in {file}")
        time.sleep(0.1)


def row(waited_ms: float, root: Span) -> dict[str, Any]:
    """One chat's figures."""
    parts: dict[str, float] = {}
    for leaf in root.leaves():
        parts[leaf.name] = round(parts.get(leaf.name, 0.0) + leaf.ms, 3)
    summed = sum(leaf.ms for leaf in root.leaves())
    return {
        "client_e2e_ms": round(waited_ms, 3),
        "whole_span_ms": round(root.ms, 3),
        "sum_ms": round(summed, 3),
        "off_ms": round(waited_ms - summed, 3),
        "parts_ms": parts,
    }


def told(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all of them say."""

    def median(figures: Iterable[float]) -> float:
        return round(statistics.median(figures), 3)

    return {
        **{
            f"{name}_p50": median(each[name] for each in rows)
            for name in ("client_e2e_ms", "whole_span_ms", "sum_ms", "off_ms")
        },
        "off_ms_max": max(abs(each["off_ms"]) for each in rows),
        "parts_ms_p50": {
            name: median(each["parts_ms"].get(name, 0.0) for each in rows) for name in rows[0]["parts_ms"]
        },
    }


def _lines(report: dict[str, Any]) -> Iterator[str]:
    figures = report["medians"]
    yield f"{len(report['rows'])} chats; medians in ms"
    yield f"  the client's E2E      {figures['client_e2e_ms_p50']:9.3f}"
    yield f"  the whole span        {figures['whole_span_ms_p50']:9.3f}"
    yield f"  the sum of the parts  {figures['sum_ms_p50']:9.3f}"
    yield f"  E2E less the sum      {figures['off_ms_p50']:9.3f}, at most {figures['off_ms_max']:.3f}"
    for name, ms in figures["parts_ms_p50"].items():
        yield f"    {name:<20}{ms:9.3f}"


def main(arguments: Sequence[str]) -> int:
    """Measure, and keep the figures; 1 where a chat is further off than it may be."""
    parser = argparse.ArgumentParser(prog="make bench-trace")
    parser.add_argument("config", type=Path)
    parser.add_argument("--chats", type=int, default=CHATS)
    parser.add_argument("--out", type=Path, default=ROOT / ".conch" / "bench-trace.json")
    parser.add_argument("--page", type=Path, default=None, help="the last trace as a page, too")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        file, config = Path(folder) / "traces.jsonl", Path(folder) / "config.yaml"
        spec = _traced(load_spec(options.config), file)
        write_spec(config, spec)
        report = {**head(), "config": str(options.config), "allowed_ms": ALLOWED_MS, "rows": rows}
        with served(config), kept(options.out, report, rows):
            for number in range(_WARM):
                ask(spec, number)
            waited = {f"sum-{number}": ask(spec, number) for number in range(_WARM, _WARM + options.chats)}
            spans = _found(file, _WARM + options.chats)
            rows += [row(ms, spans[name]) for name, ms in waited.items()]
            report["medians"] = told(rows)
        if options.page:
            options.page.write_text(page(read(file)[-1:], "traces.jsonl", 1), encoding="utf-8")
    print(*_lines(report), sep="\n")
    return int(report["medians"]["off_ms_max"] > ALLOWED_MS)


if __name__ == "__main__":
    ended(main)
