"""Whole load tests through Locust, against the server of known timings and against a real deployment.

How fast anything was is asserted nowhere: only counts, and that no answer was seen before it was sent.
"""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from contract.address import free_ports
from contract.spec import Deployment, write_spec
from loadtests.load import metrics
from loadtests.load.lengths import lengths
from loadtests.load.rows import Row, read_rows
from loadtests.load.search import Tried, next_rate
from loadtests.load.workload import QUESTIONS, Workload, read_prompts
from tests.e2e.servers import on_free_ports
from tests.loadtests.known import Timings
from tests.loadtests.known_server import ROOT, Running, known_server

SHORT = ["--warm-up=0", "--cool-down=0", "--canary-every=0", "--model=plain", "--max-lag-ms=60000", "--max-cpu=1000"]
WORKLOAD = Workload(read_prompts(QUESTIONS), lengths("64", "--answer-tokens"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with known_server(tmp_path_factory.mktemp("known"), Timings(ttft=0.1, gap=0.01, chunks=10)) as running:
        yield running


def command(
    server: Running, out: Path, *options: str, transport: str = "openai", module: str = "loadtests.load"
) -> list[str]:
    host = [f"--host={server.host(transport)}", f"--transport={transport}"]
    return [sys.executable, "-m", module, *host, f"--out={out}", *SHORT, *options]


def run(server: Running, out: Path, *options: str, transport: str = "openai", code: int = 0) -> tuple[list[Row], Any]:
    done = subprocess.run(
        command(server, out, *options, transport=transport), cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == code, done.stdout + done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["sentence"] in done.stdout
    return list(read_rows(out / "rows.jsonl")), report


@pytest.mark.parametrize("transport", ["openai", "openai-text", "triton-http", "triton-grpc"])
def test_64_streams_are_seen_whole_and_never_early(server: Running, tmp_path: Path, transport: str) -> None:
    shape = ["--arrivals=constant", "--rate=64", "--seconds=1", f"--seed={ord(transport[-1])}"]
    workers = 2 if transport == "openai" else 0
    rows, report = run(server, tmp_path, *shape, f"--workers={workers}", transport=transport)
    assert sorted(row.number for row in rows) == list(range(64))
    assert {row.worker for row in rows} == set(range(workers or 1))
    told = server.told()
    workload = Workload(WORKLOAD.prompts, WORKLOAD.answer_tokens, seed=ord(transport[-1]))
    for row in rows:
        truth = told[workload.opening(row.number).text]
        ttft, e2e = metrics.ttft(row), metrics.e2e(row)
        assert ttft is not None
        assert e2e is not None
        assert (len(row.chunks), row.output_tokens) == (10, 19)  # the role's chunk is none
        assert row.sent >= row.intended
        assert ttft >= truth.sent[0] - truth.received
        assert e2e >= truth.ended - truth.received
        assert row.first_byte <= row.chunks[0][0] <= row.chunks[-1][0] <= row.ended
    assert report["summary"]["outcomes"] == {"complete": 64}
    assert report["summary"]["latencies"]["itl_ms"]["n"] == 64 * 9
    assert report["summary"]["latencies"].get("queued_ms", {}).get("p50", 30) == 30
    assert report["summary"]["load"]["scheduled"] == 64
    html = (tmp_path / "report.html").read_text()
    assert "<svg" in html
    assert not re.search(r"<script|<link|src=|url\(|@import", html)  # it needs nothing but itself


def test_a_closed_loop_of_conversations_with_cancels(server: Running, tmp_path: Path) -> None:
    mix = ["--cancel-share=0.3", "--json-share=0.3", "--tool-share=0.3"]
    loop = ["--loop=closed", "--users=6", "--seconds=3", "--turns=3", "--think=0.01"]
    rows, report = run(server, tmp_path, *loop, *mix)
    assert {row.kind for row in rows} == {"chat", "json", "tool"}
    assert report["summary"]["load"]["loop"] == "closed"
    assert report["summary"]["load"]["arrivals"] is None
    assert {row.turn for row in rows} == {0, 1, 2}
    assert set(report["summary"]["outcomes"]) == {"complete", "cancelled"}
    assert all(row.intended <= row.sent for row in rows)
    openings = [row.number for row in rows if row.turn == 0]
    assert len(set(openings)) == len(openings)


def test_a_trace_is_replayed(server: Running, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text("".join(json.dumps({"timestamp": 100 * at, "output_length": 3}) + "\n" for at in range(12)))
    rows, _ = run(server, tmp_path / "out", f"--arrivals=trace:{file}", "--seconds=2")
    assert sorted(row.intended for row in rows) == pytest.approx([at / 10 for at in range(12)])


def test_a_client_that_is_the_limit_makes_the_run_invalid_and_passes_no_gate(server: Running, tmp_path: Path) -> None:
    _, report = run(server, tmp_path, "--rate=20", "--seconds=3", "--max-cpu=0.001", "--fail-on=slo", code=1)
    assert not report["summary"]["valid"]
    assert report["sentence"].startswith("INVALID (client-bound: worker 0 used")
    assert "INVALID" in (tmp_path / "report.html").read_text()
    assert "nothing can pass" in report["failures"][0]


def test_objectives_and_a_baseline_are_gates(server: Running, tmp_path: Path) -> None:
    shape = ["--rate=20", "--seconds=2", "--slo=ttft<100ms,e2e<60s"]
    _, first = run(server, tmp_path / "first", *shape)
    assert [each["met"] for each in first["summary"]["slo"]] == [False, True]  # it cannot be below 100 ms
    assert first["summary"]["goodput"]["share"] == 0
    before = tmp_path / "first" / "report.json"
    saved = json.loads(before.read_text())
    saved["summary"]["latencies"]["ttft_ms"]["p50"] = 1.0
    before.write_text(json.dumps(saved))
    gates = [f"--baseline={before}", "--fail-on=slo,regression"]
    _, second = run(server, tmp_path / "second", *shape, *gates, code=1)
    assert second["failures"][0] == "slo: TTFT < 100 ms is not met at p95"
    assert "regression: TTFT p50 went from 1 to" in second["failures"][1]
    assert "Against the baseline" in (tmp_path / "second" / "report.html").read_text()


def test_errors_are_told_apart_and_sampled(server: Running, tmp_path: Path) -> None:
    rows, report = run(server, tmp_path, "--rate=10", "--seconds=2", "--model=broken")
    assert {str(row.outcome) for row in rows} == {"mid-stream"}
    (error,) = report["summary"]["errors"]
    assert (error["outcome"], error["count"], len(error["samples"])) == ("mid-stream", len(rows), 3)
    assert "the engine died" in error["samples"][0]["detail"]
    assert report["summary"]["slo"][0]["measured_s"] is None


def test_no_server_and_a_wrong_option_say_so(tmp_path: Path) -> None:
    for options, says in (
        (["--host=http://127.0.0.1:1"], "--model: http://127.0.0.1:1/v1/models names none"),
        (["--host=http://127.0.0.1:1", "--model=x"], "a single request got no answer (connect"),
        ([], "neither a config nor --host"),
        (["--host=http://127.0.0.1:1", "--loop=closed"], "--loop closed needs --users"),
    ):
        told = [sys.executable, "-m", "loadtests.load", f"--out={tmp_path}", *options]
        done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode
        assert says in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_the_page_has_our_tab(server: Running, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    wanted = command(server, tmp_path, "--rate=20", "--seconds=2", "--ui", "--", "--web-port", str(port), "--autostart")
    with subprocess.Popen(wanted, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "requests answered" in process.stdout.readline()
            page = _get(f"http://127.0.0.1:{port}/")
            assert '"title": "Streaming"' in page
            assert "streaming/charts" in page
            stats = json.loads(_get(f"http://127.0.0.1:{port}/stats/requests"))
            (table,) = stats["extended_stats"]
            assert {"TTFT, ms", "ITL, ms", "TPOT, ms"} <= {line["name"] for line in table["data"]}
            assert _get(f"http://127.0.0.1:{port}/streaming/charts").count("<svg") == 5
            locust = psutil.Process(process.pid).children()
            assert locust
        finally:
            process.terminate()
    assert not any(child.is_running() for child in locust)


def test_a_run_that_is_interrupted_reports_what_there_is(server: Running, tmp_path: Path) -> None:
    wanted = command(server, tmp_path, "--rate=20", "--seconds=60")
    with subprocess.Popen(wanted, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        rows = tmp_path / "rows.jsonl"
        while not (rows.exists() and rows.stat().st_size):
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    report = json.loads((tmp_path / "report.json").read_text())
    assert "INVALID (it was stopped before its end" in report["sentence"]


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        page: str = answer.read().decode()
    return page


def test_a_search_closes_in_on_the_limit() -> None:
    for limit in (0.3, 1.0, 6.2, 90.0):
        tried: list[Tried] = []
        while (rate := next_rate(tried, 2.0, 0.05, 0.05, 1000)) is not None:
            tried.append(Tried(rate, rate <= limit))
        assert limit / 1.05 <= max(each.rate for each in tried if each.held) <= limit
        assert len(tried) < 16
    assert next_rate([Tried(0.08, False)], 2, 0.05, 0.05, 1000) is None
    assert next_rate([Tried(900, True)], 2, 0.05, 0.05, 1000) is None


def test_capacity_is_bounded_in_time_and_goes_on_where_it_was(server: Running, tmp_path: Path) -> None:
    def capacity(*options: str) -> tuple[str, Any]:
        wanted = command(server, tmp_path, "--seconds=1", *options, module="loadtests.load.capacity")
        done = subprocess.run(wanted, cwd=ROOT, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, json.loads((tmp_path / "capacity.json").read_text())

    said, first = capacity("--budget=14", "--rate=4", "--slo=ttft<30s")
    assert first["sentence"].startswith("plain holds 4.00 requests/s (TTFT p95 < 30 s); the time was over")
    assert not first["finished"]
    said, second = capacity("--budget=14", "--rate=4", "--slo=ttft<30s")
    assert "(kept from before)" in said
    assert len(second["steps"]) > len(first["steps"])
    seeds = [json.loads(file.read_text())["summary"]["load"]["seed"] for file in tmp_path.glob("*/report.json")]
    assert len({*seeds}) == len(second["steps"]), "a server was asked again what its prefix cache knows"
    # another question begins anew; nothing is ever held, down to the lowest rate that is tried
    said, third = capacity("--budget=90", "--rate=2", "--slo=ttft<1ms", "--lowest=0.9")
    assert "kept from before" not in said
    assert third["sentence"] == "plain does not hold even 1.00 requests/s (TTFT p95 < 1 ms)."
    assert "<svg" in (tmp_path / "capacity.html").read_text()


def test_a_deployment_of_its_own_with_canaries_and_its_metrics(tmp_path: Path) -> None:
    spec = on_free_ports(
        Deployment.model_validate({"name": "load-test", "engine": {"runtime": "synthetic", "step_ms": 2}})
    )
    config = tmp_path / "load.yaml"
    write_spec(config, spec)
    options = ["--seconds=4", "--rate=8", "--warm-up=1", "--cool-down=0", "--canary-every=0.5", "--fail-on=slo"]
    options += ["--slo=ttft<60s", "--max-lag-ms=60000", "--max-cpu=1000", "--shared-prefixes=2"]
    options += ["--shared-prefix-tokens=32"]
    wanted = [sys.executable, "-m", "loadtests.load", str(config), f"--out={tmp_path}", *options]
    done = subprocess.run(wanted, cwd=ROOT, capture_output=True, text=True, timeout=100)
    report = json.loads((tmp_path / "report.json").read_text())
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["canary"]["asked"] >= 4
    assert report["canary"]["different"] == []
    assert report["server"]["conch_generated_tokens_total"]["mean"] > 0
    assert report["surroundings"]["deployment"]["name"] == "load-test"
    assert "The server, in the same seconds" in (tmp_path / "report.html").read_text()
