"""``make loadtest-check``: what the load test measures against what a server of known timings did, and what it costs.

64 streams over each transport through Locust itself; then 2,000 events a second through one worker. Needs a machine
that does nothing else, so it is a measurement and no test; the arithmetic is a test (test_definitions.py).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loadtests.command import head, write
from loadtests.load import metrics
from loadtests.load.options import TRANSPORTS, add_arguments, plan_of
from loadtests.load.rows import Row, read_rows
from tests.loadtests.known import Timings
from tests.loadtests.known_server import ROOT, Running, known_server

STREAMS = 64
WITHIN_MS = 2.0
EVENTS_PER_S = 2000
CPU_PERCENT = 60.0


def load(server: Running, transport: str, out: Path, *options: str) -> tuple[list[Row], dict[str, Any]]:
    """A run through Locust; its rows and its report."""
    command = [sys.executable, "-m", "loadtests.load", "--host", server.host(transport), "--transport", transport]
    command += ["--model", "plain", "--canary-every", "0", "--out", str(out), *options]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return list(read_rows(out / "rows.jsonl")), json.loads((out / "report.json").read_text())


def differences(rows: list[Row], server: Running, transport: str) -> dict[str, Any]:
    """Measured less known, in ms, of every request and gap."""
    known = argparse.ArgumentParser()
    add_arguments(known)
    arguments = known.parse_args(["--transport", transport])
    arguments.host = server.host(transport)
    workload = plan_of(arguments).workload
    told = server.told()
    ttft, itl, e2e = [], [], []
    for row in rows:
        truth = told[workload.opening(row.number).text]
        seen_ttft, seen_e2e = metrics.ttft(row), metrics.e2e(row)
        assert seen_ttft is not None
        assert seen_e2e is not None
        ttft.append(1000 * (seen_ttft - (truth.sent[0] - truth.received)))
        e2e.append(1000 * (seen_e2e - (truth.ended - truth.received)))
        gaps = [after - before for before, after in zip(truth.sent, truth.sent[1:], strict=False)]
        itl += [1000 * (seen - true) for seen, true in zip(metrics.itl(row), gaps, strict=True)]
    return {name: _spread(values) for name, values in (("ttft_ms", ttft), ("itl_ms", itl), ("e2e_ms", e2e))}


def _spread(values: list[float]) -> dict[str, float]:
    absolute = [abs(value) for value in values]
    return {
        "values": len(values),
        "median": round(statistics.median(values), 3),
        "median_absolute": round(statistics.median(absolute), 3),
        "p95_absolute": round(metrics.percentile(absolute, 95), 3),
    }


def main() -> int:
    """Measure, write the JSON; 0 when everything agrees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "loadtest-check.json")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    agreement: dict[str, Any] = {}
    carried: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        # 64 answers of 2 s each, begun within 2 s: for a while all stream together.
        with known_server(Path(folder), Timings(ttft=0.2, gap=0.05, chunks=60)) as server:
            for transport in TRANSPORTS:
                shape = ["--arrivals", "constant", "--rate", str(STREAMS / 2), "--seconds", "2"]
                rows, _ = load(server, transport, Path(folder) / "out", *shape, "--warm-up", "0", "--cool-down", "0")
                agreement[transport] = {"requests": len(rows), **differences(rows, server, transport)}
        gap = STREAMS / EVENTS_PER_S
        with known_server(Path(folder), Timings(ttft=0.1, gap=gap, chunks=400)) as server:
            for transport in TRANSPORTS:
                shape = ["--arrivals", "constant", "--rate", str(STREAMS), "--seconds", "1"]
                rows, report = load(
                    server, transport, Path(folder) / "out", *shape, "--warm-up", "0", "--cool-down", "0"
                )
                carried[transport] = _carried(rows, report)
    report = {
        **head(),
        "load_average_before": round(before, 2),
        "streams": STREAMS,
        "agreement": agreement,
        "one_worker": carried,
    }
    write(options.out, report)
    print(json.dumps(report, indent=1))
    agree = all(
        abs(each[name]["median"]) <= WITHIN_MS and each[name]["median_absolute"] <= WITHIN_MS
        for each in agreement.values()
        for name in ("ttft_ms", "itl_ms", "e2e_ms")
    )
    cheap = all(each["cpu_percent"] < CPU_PERCENT for each in carried.values())
    return 0 if agree and cheap else 1


def _carried(rows: list[Row], report: dict[str, Any]) -> dict[str, Any]:
    """Events a second and the worker's CPU while all streams were open."""
    begins, ends = max(row.chunks[0][0] for row in rows), min(row.chunks[-1][0] for row in rows)
    events = sum(begins <= at < ends for row in rows for at, _ in row.chunks)
    cpu = [percent for at, percent in report["cpu"]["0"] if begins + 1 <= at < ends]
    return {
        "events_per_s": round(events / (ends - begins)),
        "seconds": round(ends - begins, 1),
        "cpu_percent": round(statistics.mean(cpu), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
