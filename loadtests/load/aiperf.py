"""``make loadtest-aiperf``: the same load through NVIDIA's own tool, and how far its medians are from ours.

Both ask the same server in the same seconds, so that a slow moment of the machine slows both, with one schedule and
the same bodies but for one word at the beginning of each prompt: without it, the second would find the first one's
prompts in the prefix cache. What aiperf calls inter token latency, a request's mean, is our TPOT: that and TTFT are
held to 5 %. Its inter chunk latency is our ITL; shown and not judged, as the median of all gaps jumps wherever a server
groups its tokens by load.
"""

import argparse
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from contract.checkout import ROOT
from contract.errors import ServeError
from contract.manifest import engines_root
from contract.spec import load_spec
from loadtests.command import ended, head, kept
from loadtests.load import metrics
from loadtests.load.__main__ import aimed, parsed, parser, reported, up
from loadtests.load.options import Plan, plan_of
from loadtests.load.rows import Row, read_rows
from loadtests.load.streams.openai import OpenAI
from loadtests.load.surroundings import surroundings
from loadtests.load.workload import Ask

PROGRAM = ROOT / ".venv-aiperf" / "bin" / "aiperf"
COMPARED = {  # ours -> aiperf's, which is in ms
    "TTFT": "time_to_first_token",
    "TPOT": "inter_token_latency",
    "ITL": "inter_chunk_latency",
    "E2E": "request_latency",
}
WITHIN_PERCENT = 5.0
_STARTS_S = 15.0
_PATIENCE_S = 120.0

Values = dict[str, list[float]]


def write_trace(plan: Plan, path: Path) -> None:
    """Our schedule and bodies as aiperf reads them."""
    ours = OpenAI(plan.target, chat=True)
    with path.open("w") as file:
        for number, arrival in enumerate(plan.schedule()):
            body = ours.body(_other_words(plan.workload.opening(number)))
            file.write(json.dumps({"timestamp": 1000 * arrival.at, "payload": body}) + "\n")


@contextmanager
def aiperf(plan: Plan, tokenizer: Path, folder: Path) -> Iterator[Path]:
    """It runs meanwhile; yields where its records of each request are in the end.

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
    log, records = folder / "said.txt", folder / "profile_export.jsonl"
    records.unlink(missing_ok=True)
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said, cwd=folder) as running:
        try:
            yield records
            running.wait(timeout=_PATIENCE_S)
        finally:
            running.kill()
    if running.returncode or not records.exists():
        raise ServeError(f"aiperf failed: {log.read_text()[-2000:]}")


def taken(rows: Sequence[Row], begins: float, records: Sequence[dict[str, Any]]) -> tuple[Values, Values]:
    """Ours and aiperf's figures in ms, of the requests that began while both were asking."""
    starts = [record["metadata"]["request_start_ns"] / 1e9 for record in records]
    low = max(min(starts), begins + min(row.sent for row in rows))
    high = min(max(starts), begins + max(row.sent for row in rows))
    mine = [row for row in rows if low <= begins + row.sent <= high]
    other = [record["metrics"] for record, at in zip(records, starts, strict=True) if low <= at <= high]
    theirs = {name: [value for each in other for value in _flat(each[tag]["value"])] for name, tag in COMPARED.items()}
    return metrics.latencies_ms(mine), theirs


def main(arguments: Sequence[str]) -> int:
    """Measure, write the JSON; 0 when TTFT and TPOT agree."""
    own = parser()
    own.set_defaults(seconds=40.0, warm_up=0.0, cool_down=0.0, canary_every=0.0, rate=1.5, extra='{"ignore_eos": true}')
    own.add_argument("--rounds", type=int, default=3)
    own.add_argument("--json", type=Path, default=ROOT / "docs" / "loadtest-aiperf.json")
    own.set_defaults(out=".conch/loadtests/aiperf")
    options, rest = parsed(own, arguments)
    aimed(options)
    # It counts nothing with it, as the server's counts are used, and does not start without one.
    tokenizer = (engines_root(ROOT, load_spec(options.config).name) / "current").resolve()
    pooled: tuple[Values, Values] = ({name: [] for name in COMPARED}, {name: [] for name in COMPARED})
    version = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    asked = {name: getattr(options, name) for name in ("seconds", "arrivals", "answer_tokens", "rounds")}
    report: dict[str, Any] = {"aiperf": version, "when": head()["when"], "rate_per_s": options.rate, **asked}
    with up(options.config), kept(options.json, report, pooled[0]["TTFT"]):
        for number in range(1, options.rounds + 1):
            for pool, values in zip(pooled, _round(options, rest, number, tokenizer), strict=True):
                for name in COMPARED:
                    pool[name] += values[name]
            report["requests"] = {"conch": len(pooled[0]["TTFT"]), "aiperf": len(pooled[1]["TTFT"])}
            report["medians_ms"] = _medians(pooled)
            print(f"round {number}: {report['medians_ms']}", flush=True)
        report["surroundings"] = surroundings(options.config)
    _show(report["medians_ms"])
    agree = [abs(report["medians_ms"][name]["differs_percent"]) <= WITHIN_PERCENT for name in ("TTFT", "TPOT")]
    return 0 if all(agree) else 1


def _round(options: argparse.Namespace, rest: Sequence[str], number: int, tokenizer: Path) -> tuple[Values, Values]:
    """Both at once, with a seed of the round's own."""
    out = ROOT / options.out
    asked = argparse.Namespace(**vars(options) | {"seed": number, "out": str(out / f"{number}-locust")})
    plan = plan_of(asked)
    folder = out / f"{number}-aiperf"
    folder.mkdir(parents=True, exist_ok=True)
    asked.seconds = plan.seconds + _STARTS_S  # aiperf takes so long to start: both are to overlap
    with aiperf(plan, tokenizer, folder) as records:
        said = reported(asked, rest, out / "locust.log")
    rows = list(read_rows(Path(asked.out) / "rows.jsonl"))
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    return taken(rows, said["summary"]["load"]["begins"], lines)


def _medians(pooled: tuple[Values, Values]) -> dict[str, dict[str, float]]:
    found = {}
    for name in COMPARED:
        mine, other = median(pooled[0][name]), median(pooled[1][name])
        differs = round(100 * (mine - other) / other, 2)
        found[name] = {"conch": round(mine, 3), "aiperf": round(other, 3), "differs_percent": differs}
    return found


def _flat(value: Any) -> list[float]:
    return value if isinstance(value, list) else [value]


def _show(medians: dict[str, dict[str, float]]) -> None:
    shown = Table(title="medians, ms", title_justify="left")
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
