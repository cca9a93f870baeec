"""Engines side by side: the whole form over the default engine, with one that fails and one that cannot be here."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.checkout import ROOT
from contract.engines.kinds import Runtime
from contract.errors import ConchError
from contract.spec import Deployment
from loadtests import own_server
from loadtests.compare import doors
from loadtests.compare.__main__ import effort_of, main, parser
from loadtests.compare.doors import Door
from loadtests.compare.effort import ALONE, DIRECT, ENSEMBLE, GATEWAY, QUICK, WAYS
from loadtests.compare.entrants import gathered
from loadtests.compare.record import CELLS, Cell, Record
from loadtests.compare.run import Comparison
from loadtests.compare.structured import SCHEMAS
from loadtests.compare.table import rows
from loadtests.fleet import Requests
from loadtests.lean import Order, Timeline, run

DEFAULT = ROOT / "configs" / "smollm2-135m.yaml"
OURS = [ENSEMBLE, DIRECT, GATEWAY]
TINY = [
    "--quick",
    "--seconds=0.1",
    "--streams",
    "2",
    "--prompts",
    "16",
    "--output=4",
    "--capacity-seconds=0",
    "--schemas=1",
]


def config(folder: Path, name: str, **sections: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, **sections}))
    return path


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[str], Path]:
    folder = tmp_path_factory.mktemp("compare")
    synthetic = {"runtime": "synthetic"}
    elsewhere = config(folder, "elsewhere", engine=synthetic, gateway={"host": "192.0.2.1"})
    arguments = [str(DEFAULT), str(elsewhere), "configs/qwen3-0.6b-trtllm.yaml", *TINY, f"--out={folder / 'out'}"]
    arguments += ["--ways", ALONE, DIRECT, GATEWAY]  # each asks for all of them
    return main(arguments), arguments, folder / "out"


def test_every_figure_is_in_one_table(compared: tuple[int, list[str], Path]) -> None:
    _, _, out = compared
    report = json.loads((out / "compare.json").read_text())
    assert report["finished"]
    table = {row["way"]: row for row in report["rows"] if row["engine"] == "smollm2-135m"}
    assert list(table) == [ALONE, DIRECT, GATEWAY]
    for way, row in table.items():
        assert row["start_s"] > 0
        assert row["command"]
        assert set(row["bursts"]) == {"1", "2"}
        assert row["bursts"]["2"]["tokens_per_s"] > 0
        assert ("times_alone" in row["bursts"]["2"]) == (way != ALONE)
        assert row["ttft_ms"]["16"] > 0
        assert row["memory"]["host_mib"] > 100
        assert row["greedy"]["prompts"] == QUICK.greedy
        assert row["top1"]["agreement"] > 0.8
        assert row["recall"] == {
            "by_length": {"256": {"asked": 3, "recalled": 3, "reference": 3}},
            "asked": 3,
            "recalled": 3,
            "reference": 3,
        }
    # One engine: what it says does not depend on who asks.
    assert table[ALONE]["greedy"] == table[DIRECT]["greedy"] == table[GATEWAY]["greedy"]
    assert table[DIRECT]["json"] == table[GATEWAY]["json"] == {"asked": 1, "valid": 1, "faults": []}
    assert table[ALONE]["reasons"]["json"] == "the bare pipeline takes token ids and no schema"
    engine = report["engines"][0]
    assert engine["packages"]["openvino-genai"]
    assert (engine["precision"], engine["runtime"]) == ("int8", "openvino")


def test_who_fails_says_why_and_the_others_go_on(compared: tuple[int, list[str], Path]) -> None:
    code, _, out = compared
    assert code == 1
    report = json.loads((out / "compare.json").read_text())
    failing = {row["way"]: row for row in report["rows"] if row["engine"] == "elsewhere"}
    assert "192.0.2.1" in failing[DIRECT]["reasons"]["burst-1"]
    assert failing[DIRECT]["start_s"] is None
    assert failing[ALONE]["reasons"]["burst-1"] == "runtime synthetic has no server of its own here"
    page = (out / "compare.html").read_text()
    assert "192.0.2.1" in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://127.0.0.1", "")


def test_who_cannot_be_here_is_in_no_figure(compared: tuple[int, list[str], Path]) -> None:
    _, _, out = compared
    report = json.loads((out / "compare.json").read_text())
    assert report["excluded"] == [
        {
            "config": "configs/qwen3-0.6b-trtllm.yaml",
            "runtime": "trtllm",
            "reason": "runtime trtllm needs an NVIDIA GPU, and this machine has none",
        }
    ]
    assert {row["engine"] for row in report["rows"]} == {"smollm2-135m", "elsewhere"}


def test_what_was_measured_is_not_measured_again(
    compared: tuple[int, list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, arguments, out = compared
    before = (out / CELLS).read_text().splitlines()
    main([arguments[0], *arguments[3:]])
    assert capsys.readouterr().out.count("kept from before") == 2
    assert (out / CELLS).read_text().splitlines() == before
    report = json.loads((out / "compare.json").read_text())
    assert report["rows"][1]["bursts"]["2"]["tokens_per_s"] > 0
    assert report["excluded"] == []


def test_the_tests_double_is_in_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    doubles = ROOT / "tests" / "doubles"
    monkeypatch.syspath_prepend(str(doubles))
    monkeypatch.setenv("PATH", f"{doubles / 'bin'}:/usr/bin:/bin")  # whose nvidia-smi has two H100s
    assert main(["configs/qwen3-0.6b-trtllm.yaml", f"--out={tmp_path}"]) == 0
    report = json.loads((tmp_path / "compare.json").read_text())
    assert report["rows"] == []
    assert report["excluded"][0]["reason"] == "tensorrt_llm here is the tests' double, whose figures would be nobody's"


def test_a_run_that_is_interrupted_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doors, "ours", interrupted)  # the synthetic engine alone has nothing to measure, and says so
    arguments = [str(config(tmp_path, "tide", engine={"runtime": "synthetic"})), *TINY, f"--out={tmp_path}"]
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    report = json.loads((tmp_path / "compare.json").read_text())
    assert not report["finished"]
    assert report["missing"][0]["reason"] == "runtime synthetic has no server of its own here"
    assert "NOT FINISHED" in (tmp_path / "compare.html").read_text()


def test_side_by_side_both_run_and_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running: set[str] = set()
    asked: list[str] = []
    starts: list[str] = []

    @contextmanager
    def opened(*ways: str) -> Iterator[tuple[Door, ...]]:
        def door(way: str) -> Door:
            def ask(requests: Requests, streams: int) -> list[Timeline]:
                assert running == {ALONE, *OURS}
                asked.append(way)
                return [Timeline(1.0, [(2.0, 1), (3.0, 1)]) for _ in requests]

            return Door(way, "", ask, lambda question, schema: "", None, lambda: [], 1.0)

        running.update(ways)
        starts.extend(ways)
        yield tuple(map(door, ways))
        running.difference_update(ways)

    monkeypatch.setattr(doors, "alone", lambda *_: opened(ALONE))
    monkeypatch.setattr(doors, "ours", lambda *_: opened(*OURS))
    tide = str(config(tmp_path, "tide", engine={"runtime": "synthetic"}))
    assert main([tide, "--beside", "--streams=2", f"--out={tmp_path}", *TINY, "--rounds=2"]) == 0
    assert [way for way, _ in groupby(asked)] == 6 * [ALONE, *OURS]  # twice: one stream, TTFT, two streams
    report = json.loads((tmp_path / "compare.json").read_text())
    assert report["effort"]["beside"]
    assert [row["way"] for row in report["rows"]] == [ALONE, *OURS]
    assert [row["bursts"]["2"].get("times_alone") for row in report["rows"]] == [None, 1, 1, 1]
    assert [row["rounds"] for row in report["rows"]] == [2, 2, 2, 2]
    assert starts == [ALONE, *OURS], "each server once"
    assert running == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rounds=0"], "--rounds must be above 0, got 0"),
        (["--streams", "4", "-2"], "--streams must be above 0, got 4 -2"),
        (["--capacity-seconds=-1"], "--capacity-seconds must be above 0, got -1"),
        (["--slo=tide<5"], "--slo: 'tide<5' is no objective"),
    ],
)
def test_an_option_that_is_wrong_is_named(words: list[str], said: str) -> None:
    with pytest.raises(ConchError, match=said.replace("(", r"\(")):
        effort_of(parser().parse_args(["a.yaml", *words]))


def test_two_deployments_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConchError, match="two configs are named smollm2-135m"):
        main([str(DEFAULT), str(DEFAULT), f"--out={tmp_path}"])


@pytest.mark.parametrize("option", ["--ways", "--measures"])
def test_a_word_that_there_is_not_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["a.yaml", option, "smoke"])
    assert f"argument {option}: invalid choice: 'smoke' (choose from" in capsys.readouterr().err


def test_make_bench_asks_every_way_for_nothing_but_speed(tmp_path: Path) -> None:
    """Its words in the Makefile."""
    made = subprocess.run(["make", "--dry-run", "bench"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = next(line for line in made.splitlines() if "loadtests.compare" in line).split()
    effort = effort_of(parser().parse_args(words[words.index("loadtests.compare") + 1 :]))
    assert {*effort.ways} == {*WAYS}
    entrants, _ = gathered([config(tmp_path, "tide", engine={"runtime": "synthetic"})], tmp_path)
    comparison = Comparison(entrants, effort, tmp_path, Record(tmp_path), lambda: None)
    assert list(comparison.measures(0)) == ["burst-1", "burst-4", "burst-16", "burst-32"]


def test_one_stream_is_always_asked() -> None:
    assert effort_of(parser().parse_args(["a.yaml", "--streams", "16", "4", "4"])).streams == (1, 4, 16)


@pytest.mark.parametrize("runtime", ["vllm", "sglang", "lmdeploy"])
def test_an_engines_own_server_has_the_deployments_limits(runtime: Runtime) -> None:
    spec = Deployment.model_validate(
        {
            "name": "model",
            "source": {"kind": "path", "path": "/checkpoint"},
            "engine": {"runtime": runtime, "precision": "bf16"},
            "limits": {"max_seq_len": 1234, "max_input_len": 1000, "max_batch_size": 7},
        }
    )
    told = own_server.command(Path("/engine"), spec, 4321)
    assert "/engine" in " ".join(told)
    assert any(word.endswith("=1234") for word in told)
    assert any(word.endswith("=8") for word in told)  # and one for the supervisor's canary, as ours has it
    assert any(word.endswith("=4321") for word in told)
    assert not any("None" in word or "True" in word for word in told)


def test_medians_over_rounds_and_each_way_beside_the_engine_alone() -> None:
    def cell(way: str, number: int, speed: float) -> Cell:
        share = {"p50": 10.0, "p95": 20.0}
        result = {"tokens_per_s": speed, "ttft_ms": share, "itl_ms": share, "tokens_per_response": 1.0}
        return Cell(f"{way}{number}", "model", way, number, "burst-4", result)

    failed = Cell("x", "model", ENSEMBLE, 2, "burst-4", None, failed="it fell over")
    table = rows(
        {
            ("model", ALONE): [cell(ALONE, number, speed) for number, speed in enumerate((90.0, 110.0))],
            ("model", ENSEMBLE): [*(cell(ENSEMBLE, number, 50.0) for number in range(2)), failed],
        }
    )
    assert table[0]["bursts"][4]["tokens_per_s"] == 100
    assert table[1]["bursts"][4]["times_alone"] == 0.5
    assert table[1]["reasons"] == {}  # other rounds gave the figure


def test_a_record_keeps_the_last_word_and_asks_again_what_failed(tmp_path: Path) -> None:
    first = Record(tmp_path)
    first.keep(Cell("a", "model", ALONE, 0, "ttft", None, failed="no"))
    assert not first.settled("a")
    first.keep(Cell("a", "model", ALONE, 0, "ttft", {"by_length": {}}))
    first.keep(Cell("b", "model", ALONE, 0, "json", None, absent="never"))
    again = Record(tmp_path)
    assert again.settled("a")
    assert again.settled("b")
    assert not again.settled("c")


def test_schemas_are_bounded() -> None:
    """A small model goes on to the last token where a schema lets it."""

    def texts(schema: Any) -> list[Any]:
        if isinstance(schema, dict):
            own = [schema] if schema.get("type") in ("string", "array") else []
            return own + [found for each in schema.values() for found in texts(each)]
        return [found for each in schema for found in texts(each)] if isinstance(schema, list) else []

    for _, schema in SCHEMAS:
        for each in texts(schema):
            assert "maxLength" in each or "maxItems" in each


def answered(way: str, path: bytes, *events: dict[str, Any]) -> tuple[Timeline, dict[str, Any]]:
    """How an answer is read that a server sends event by event, and what it was asked."""
    asked: list[dict[str, Any]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST " + path + b" ")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        asked.append(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for event in events:
            writer.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            await writer.drain()
        writer.write(b"data: [DONE]\n\n")
        writer.close()

    async def ask() -> Timeline:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            request = {"prompt": [1, 2], "max_tokens": 3}
            return (await run(Order(way, "127.0.0.1", port, "peer", [request], 1)))[0]

    return asyncio.run(ask()), asked[0]


def test_lmdeploys_own_events_are_read() -> None:
    def event(text: str, ids: list[int], reason: dict[str, str] | None) -> dict[str, Any]:
        return {"text": text, "output_ids": ids, "meta_info": {"finish_reason": reason, "completion_tokens": len(ids)}}

    line, asked = answered(
        "generate", b"/generate", event("The", [7], None), event(" tide", [8, 9], {"type": "length"})
    )
    assert (line.text, line.finish_reason, line.error) == ("The tide", "length", "")
    assert [count for _, count in line.deltas] == [1, 2]
    assert asked["input_ids"] == [1, 2]


def test_a_token_without_text_has_come() -> None:
    """Half a character, or a special token: OpenAI's chunks show nothing of it but the count."""
    line, _ = answered(
        "openai",
        b"/v1/completions",
        {"choices": [{"text": "", "finish_reason": "length"}]},
        {"choices": [], "usage": {"completion_tokens": 1}},
    )
    assert (line.text, line.finish_reason, line.error) == ("", "length", "")
    assert [count for _, count in line.deltas] == [1]
