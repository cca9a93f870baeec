"""``make loadtest-aiperf``: the same load through NVIDIA's own tool, and how far its medians are from ours.

Both get the same arrivals and the same bodies, but for one word at the beginning of each prompt: without it, the second
would find the first one's prompts in the prefix cache. They take turns, round by round. What aiperf calls inter token
latency, a request's mean, is our TPOT; its inter chunk latency is our ITL.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from contract.errors import ServeError
from contract.manifest import engines_root
from contract.spec import load_spec
from loadtests.load import metrics
from loadtests.load.__main__ import aimed, ended, locust, parsed, parser, up
from loadtests.load.options import Plan, plan_of
from loadtests.load.rows import Row, read_rows
from loadtests.load.streams.openai import OpenAI
from loadtests.load.surroundings import surroundings
from loadtests.load.workload import Ask
from loadtests.served import ROOT

PROGRAM = ROOT / ".venv-aiperf" / "bin" / "aiperf"
COMPARED = {  # ours -> aiperf's, which is in ms
    "TTFT": "time_to_first_token",
    "TPOT": "inter_token_latency",
    "ITL": "inter_chunk_latency",
    "E2E": "request_latency",
}
WITHIN_PERCENT = 5.0


def write_trace(plan: Plan, path: Path) -> None:
    """Our schedule and bodies as aiperf reads them."""
    ours = OpenAI(plan.target, chat=True)
    with path.open("w") as file:
        for number, arrival in enumerate(plan.schedule()):
            body = ours.body(_other_words(plan.workload.opening(number)))
            file.write(json.dumps({"timestamp": 1000 * arrival.at, "payload": body}) + "\n")


def run_aiperf(plan: Plan, tokenizer: Path, folder: Path) -> list[dict[str, Any]]:
    """Its records of each request.

    Raises:
        ServeError: it failed; its own words are in the message.
    """
    trace = folder / "trace.jsonl"
    write_trace(plan, trace)
    command = [str(PROGRAM), "profile", "--model", plan.target.model, "--url", plan.target.host]
    command += ["--endpoint-type", "chat", "--streaming", "--use-server-token-count", "--tokenizer", str(tokenizer)]
    command += ["--input-file", str(trace), "--custom-dataset-type", "mooncake_trace", "--fixed-schedule"]
    command += ["--output-artifact-dir", str(folder), "--connection-reuse-strategy", "never", "--workers-max", "1"]
    command += ["--no-server-metrics", "--no-gpu-telemetry", "--ui", "none", "--record-processor-service-count", "1"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=600, check=False)
    records = folder / "profile_export.jsonl"
    if run.returncode or not records.exists():
        raise ServeError(f"aiperf failed: {run.stdout[-1500:]}{run.stderr[-1500:]}")
    return [json.loads(line) for line in records.read_text().splitlines()]


def theirs(records: list[dict[str, Any]]) -> dict[str, float]:
    """Medians of aiperf's own figures, in ms."""
    values: dict[str, list[float]] = {name: [] for name in COMPARED}
    for record in records:
        for name, tag in COMPARED.items():
            if tag in record["metrics"]:
                value = record["metrics"][tag]["value"]
                values[name] += value if isinstance(value, list) else [value]
    return {name: round(median(found), 3) for name, found in values.items() if found}


def ours(rows: list[Row]) -> dict[str, float]:
    """Medians of ours, in ms, each over all requests or gaps."""
    taken: dict[str, list[float]] = {
        "TTFT": [value for row in rows if (value := metrics.ttft(row)) is not None],
        "TPOT": [value for row in rows if (value := metrics.tpot(row)) is not None],
        "ITL": [gap for row in rows for gap in metrics.itl(row)],
        "E2E": [value for row in rows if (value := metrics.e2e(row)) is not None],
    }
    return {name: round(1000 * median(values), 3) for name, values in taken.items()}


def main(arguments: Sequence[str]) -> int:
    """Measure, write the JSON; 0 when TTFT, TPOT and ITL agree."""
    own = parser()
    own.set_defaults(seconds=40.0, warm_up=0.0, cool_down=0.0, canary_every=0.0, rate=2.0, extra='{"ignore_eos": true}')
    own.add_argument("--rounds", type=int, default=3)
    own.add_argument("--json", type=Path, default=ROOT / "docs" / "loadtest-aiperf.json")
    own.set_defaults(out=".conch/loadtests/aiperf")
    options, rest = parsed(own, arguments)
    aimed(options)
    # It counts nothing with it, as the server's counts are used, and does not start without one.
    tokenizer = (engines_root(ROOT, load_spec(options.config).name) / "current").resolve()
    out = ROOT / options.out
    rounds: list[dict[str, dict[str, float]]] = []
    with up(options.config):
        for number in range(options.rounds + 1):
            asked = argparse.Namespace(**vars(options) | {"seed": number + 1, "out": str(out / f"{number}-locust")})
            plan = plan_of(asked)
            if number == 0:  # the first round warms up
                plan = replace(plan, seconds=8.0)
                asked.seconds = 8.0
            folder = out / f"{number}-aiperf"
            folder.mkdir(parents=True, exist_ok=True)
            if locust(asked, rest, log=out / "locust.log"):
                raise ServeError(f"the load test failed: {(out / 'locust.log').read_text()[-1500:]}")
            mine = ours(list(read_rows(Path(asked.out) / "rows.jsonl")))
            other = theirs(run_aiperf(plan, tokenizer, folder))
            if number:
                rounds.append({"conch": mine, "aiperf": other})
                print(f"round {number}: ours {mine}, aiperf {other}", flush=True)
    report = {
        "aiperf": subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=False).stdout.strip(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rate_per_s": options.rate,
        "seconds": options.seconds,
        "arrivals": options.arrivals,
        "answer_tokens": options.answer_tokens,
        "medians_ms": _medians(rounds),
        "rounds": rounds,
        "surroundings": surroundings(options.config),
    }
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    _show(report["medians_ms"])
    agree = [abs(report["medians_ms"][name]["differs_percent"]) <= WITHIN_PERCENT for name in ("TTFT", "TPOT", "ITL")]
    return 0 if all(agree) else 1


def _medians(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Over the rounds."""
    found = {}
    for name in COMPARED:
        mine, other = (median(each[tool][name] for each in rounds) for tool in ("conch", "aiperf"))
        found[name] = {"conch": mine, "aiperf": other, "differs_percent": round(100 * (mine - other) / other, 2)}
    return found


def _show(medians: dict[str, dict[str, float]]) -> None:
    shown = Table(title="medians over the rounds, ms", title_justify="left")
    for column in ("", "ours", "aiperf", "differs"):
        shown.add_column(column, justify="right")
    for name, each in medians.items():
        shown.add_row(name, f"{each['conch']:.1f}", f"{each['aiperf']:.1f}", f"{each['differs_percent']:+.1f} %")
    Console(width=80).print(shown)


def _other_words(ask: Ask) -> Ask:
    """The same request to everyone but a prefix cache."""
    last = ask.messages[-1]
    changed = {**last, "content": last["content"].replace("Note ", "Memo ", 1)}
    return replace(ask, messages=(*ask.messages[:-1], changed))


if __name__ == "__main__":
    ended(main)
