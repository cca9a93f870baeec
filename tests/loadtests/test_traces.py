"""A file of traces as spans, as a page, and as a sum."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtests.traces import sums
from loadtests.traces.__main__ import main
from loadtests.traces.read import TraceError, read


def span(number: int, parent: int, name: str, begun: int, ended: int, **attributes: Any) -> dict[str, Any]:
    told = [{"key": key, "value": value} for key, value in attributes.items()]
    return {
        "traceId": "ab" * 16,
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": name,
        "startTimeUnixNano": str(begun * 1_000_000),
        "endTimeUnixNano": str(ended * 1_000_000),
        "attributes": told,
        "status": {"code": 2} if name == "chat <m>" else {},
    }


SPANS = (
    span(3, 2, "decode", 5, 17),
    span(2, 1, "chat <m>", 4, 18, tokens={"intValue": "7"}, reasons={"arrayValue": {"values": [{"stringValue": "x"}]}}),
    span(4, 2, "send", 4, 5),
    span(5, 1, "finish", 18, 19),
    span(1, 9, "POST /v1", 4, 19),  # 9 is the client's own, which is not here
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    lines = [
        {"resourceSpans": [{"scopeSpans": [{"spans": part}]}]} for part in (SPANS[:2], SPANS[2:])
    ]  # a trace may come in two batches
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_spans_are_within_each_other(file: Path) -> None:
    (root,) = read(file)
    assert (root.name, root.ms, [part.name for part in root.parts]) == ("POST /v1", 15.0, ["chat <m>", "finish"])
    chat = root.parts[0]
    assert [part.name for part in chat.parts] == ["send", "decode"]
    assert chat.attributes == {"tokens": 7, "reasons": ["x"]} and chat.failed and not root.failed


def test_a_sum_is_that_of_what_has_no_parts(file: Path) -> None:
    (root,) = read(file)
    figures = sums.row(15.5, root)
    assert figures == {
        "client_e2e_ms": 15.5,
        "whole_span_ms": 15.0,
        "sum_ms": 14.0,
        "off_ms": 1.5,
        "parts_ms": {"send": 1.0, "decode": 12.0, "finish": 1.0},
    }
    assert sums.told([figures, figures])["off_ms_max"] == 1.5


def test_the_page_stands_alone(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "trace.html"
    assert main([str(file), "--out", str(out), "--trace", "ab" * 16]) == 0
    assert capsys.readouterr().out == f"{out}: 1 of 1 traces\n"
    page = out.read_text()
    assert "chat &lt;m&gt;" in page and "<m>" not in page and "http" not in page.replace("http.", "")
    assert page.count('class="span"') == len(SPANS)


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (None, [], "cannot be read"),
        ("{}\n", [], ":1 is no OTLP JSON"),
        ("nonsense\n", [], ":1 is no OTLP JSON"),
        ("", [], "has no trace. A batch"),
        ("", ["--trace", "cd"], "has no trace with the id cd"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str | None, words: list[str], said: str) -> None:
    path = tmp_path / "traces.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TraceError, match=said):
        main([str(path), "--out", str(tmp_path / "out.html"), *words])
