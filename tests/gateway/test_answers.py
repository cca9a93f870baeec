"""What comes back: the same text streamed and not, in the shape of each endpoint."""

import json
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from python_backend.synthetic.engine import log_prob
from serving.supervisor import Running
from tests.gateway.conftest import CHAT, RESPONSES, TEXT, origin, user

MODEL = "synthetic"
CALL = '<tool_call>\n{"name": "moon", "arguments": {"day": 3}}\n</tool_call>'
UNCACHED = {"prompt_tokens_details": {"cached_tokens": 0}}  # truly: this engine has no cache
MOON: dict[str, Any] = {"type": "function", "function": {"name": "moon", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def openai(server: Running) -> OpenAI:
    return OpenAI(base_url=f"{origin(server)}/v1", api_key="-", max_retries=0, _strict_response_validation=True)


def events(http: httpx.Client, path: str, body: dict[str, Any]) -> list[Any]:
    """The data of a stream's events, without [DONE]."""
    text = http.post(path, json=body | {"stream": True}).text
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    if path != RESPONSES:
        assert data.pop() == "[DONE]"
    return [json.loads(each) for each in data]


def test_a_chat(openai: OpenAI) -> None:
    messages: Any = user("été 🌍 x")
    whole = openai.chat.completions.create(model=MODEL, messages=messages, max_tokens=18)
    assert whole.choices[0].message.content == "user: été 🌍 x\n"[:13]
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage and (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (19, 18)
    chunks = list(openai.chat.completions.create(model=MODEL, messages=messages, max_tokens=18, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "length"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_last_where_it_is_wanted(http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": user("x"), "max_tokens": 3}
    assert all("usage" not in chunk for chunk in events(http, CHAT, body))
    *chunks, last = events(http, CHAT, body | {"stream_options": {"include_usage": True}})
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 8, "completion_tokens": 3, "total_tokens": 11, **UNCACHED}


@pytest.mark.parametrize("stream", [False, True])
def test_several_answers(http: httpx.Client, stream: bool) -> None:
    body = {"model": MODEL, "messages": user("ab"), "max_tokens": 6, "n": 3, "seed": 5}
    texts = ["", "", ""]
    if stream:
        for chunk in events(http, CHAT, body):
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["delta"].get("content", "")
    else:
        answer = http.post(CHAT, json=body).json()
        texts = [choice["message"]["content"] for choice in answer["choices"]]
        assert answer["usage"] == {"prompt_tokens": 9, "completion_tokens": 18, "total_tokens": 27, **UNCACHED}
    assert texts == ["user: "] * 3


def test_texts(openai: OpenAI) -> None:
    answer = openai.completions.create(model=MODEL, prompt=["ab", "cd"], max_tokens=4, n=2, echo=True)
    assert [choice.text for choice in answer.choices] == ["ababab", "ababab", "cdcdcd", "cdcdcd"]
    assert answer.usage and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 16)
    assert openai.completions.create(model=MODEL, prompt=[104, 105], max_tokens=4).choices[0].text == "hihi"


def test_a_streamed_text(http: httpx.Client) -> None:
    chunks = events(http, TEXT, {"model": MODEL, "prompt": "ab", "max_tokens": 4, "echo": True})
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "ababab"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "length"]


def scored(http: httpx.Client, stream: bool = False, **body: Any) -> Any:
    """The one choice of an answer with its prompt, whole or put together from its chunks."""
    asked = {"model": MODEL, "echo": True, "temperature": 0, "max_tokens": 0, "logprobs": 1} | body
    if not stream:
        (choice,) = http.post(TEXT, json=asked).json()["choices"]
        return choice
    parts = [chunk["choices"][0] for chunk in events(http, TEXT, asked)]
    logprobs: dict[str, list[Any]] = {}
    for part in parts:
        for name, values in (part["logprobs"] or {}).items():
            logprobs[name] = logprobs.get(name, []) + values
    text = "".join(part["text"] for part in parts)
    return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": parts[-1]["finish_reason"]}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("prompt", ["hhj", [104, 104, 106]], ids=["text", "ids"])
def test_a_prompt_is_scored(http: httpx.Client, prompt: Any, stream: bool) -> None:
    once, thrice = log_prob(0, 0), log_prob(2, 0)
    choice = scored(http, stream, prompt=prompt)
    assert (choice["text"], choice["finish_reason"]) == ("hhj", "length")
    assert choice["logprobs"] == {
        "tokens": ["h", "h", "j"],
        "token_logprobs": [None, once, thrice],
        "top_logprobs": [None, {"h": once}, {"h": once, "j": thrice}],  # the likeliest, and the one that is there
        "text_offset": [0, 1, 2],
    }
    more = scored(http, stream, prompt=prompt, max_tokens=1)  # as lm-eval asks
    assert (more["text"], more["finish_reason"]) == ("hhjh", "length")
    for name, last in {"tokens": "h", "token_logprobs": once, "top_logprobs": {"h": once}, "text_offset": 3}.items():
        assert more["logprobs"][name] == [*choice["logprobs"][name], last]


def test_several_prompts_are_scored(http: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": [[104, 104], [105]], "max_tokens": 0, "n": 2, "echo": True, "logprobs": 3}
    answer = http.post(TEXT, json=body).json()
    assert [choice["text"] for choice in answer["choices"]] == ["hh", "hh", "i", "i"]
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (3, 0)
    found = [choice["logprobs"] for choice in answer["choices"]]
    assert [each["tokens"] for each in found] == [["h", "h"], ["h", "h"], ["i"], ["i"]]
    assert [len(each["top_logprobs"]) for each in found] == [2, 2, 1, 1]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_prompt_alone_comes_back(http: httpx.Client, stream: bool) -> None:
    for prompt in ("été", list("été".encode())):
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 0, "echo": True}
        if stream:
            (chunk,) = events(http, TEXT, body | {"stream_options": {"include_usage": False}})
        else:
            chunk = http.post(TEXT, json=body).json()
            assert chunk["usage"]["completion_tokens"] == 0
        (choice,) = chunk["choices"]
        assert (choice["text"], choice["logprobs"], choice["finish_reason"]) == ("été", None, "length")


def test_a_stop_string(http: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": "one two three", "stop": "thr", "max_tokens": 50}
    choice = http.post(TEXT, json=body).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("one two ", "stop")


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call(http: httpx.Client, stream: bool) -> None:
    body: dict[str, Any] = {"model": MODEL, "messages": user(f"see {CALL}"), "tools": [MOON], "max_tokens": 1}
    # The whole prompt is said back, once; the tools that stand before the message too.
    body["max_tokens"] = http.post(CHAT, json=body).json()["usage"]["prompt_tokens"]
    if stream:
        deltas = [chunk["choices"][0]["delta"] for chunk in events(http, CHAT, body)]
        pieces = [call for delta in deltas for call in delta.get("tool_calls", ())]
        names = [call["function"]["name"] for call in pieces if "id" in call]
        last = [call["function"]["arguments"] for call in pieces if call["index"] == len(names) - 1]
        arguments = "".join(last)
    else:
        choice = http.post(CHAT, json=body).json()["choices"][0]
        assert choice["finish_reason"] == "length"
        names = [call["function"]["name"] for call in choice["message"]["tool_calls"]]
        arguments = choice["message"]["tool_calls"][-1]["function"]["arguments"]
    assert names[-1] == "moon"
    assert json.loads(arguments) == {"day": 3}


def test_one_call_where_several_are_not_wanted(http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": user(CALL * 2), "tools": [MOON], "max_tokens": 1000}
    several = http.post(CHAT, json=body).json()["choices"][0]["message"]["tool_calls"]
    one = http.post(CHAT, json=body | {"parallel_tool_calls": False}).json()["choices"][0]["message"]["tool_calls"]
    assert len(several) > len(one) == 1


def test_tools_that_must_not_be_used_are_not_shown(http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": user(CALL), "tools": [MOON], "tool_choice": "none", "max_tokens": 30}
    message = http.post(CHAT, json=body).json()["choices"][0]["message"]
    assert message["content"] == f"user: {CALL}"[:30]


def test_responses(openai: OpenAI, http: httpx.Client) -> None:
    whole = openai.responses.create(model=MODEL, input="hello", instructions="be", max_output_tokens=30)
    assert whole.output_text == "system: be\nuser: hello\nsystem: "[:30]
    assert whole.status == "incomplete"
    assert whole.incomplete_details and whole.incomplete_details.reason == "max_output_tokens"
    body = {"model": MODEL, "input": "hello", "instructions": "be", "max_output_tokens": 30}
    found = events(http, RESPONSES, body)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    text = "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    assert text == whole.output_text == found[-1]["response"]["output"][0]["content"][0]["text"]
    assert [event["type"] for event in found if not event["type"].endswith(".delta")] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]


def test_responses_that_call_a_function(http: httpx.Client) -> None:
    tool = {"type": "function", **MOON["function"]}
    body = {"model": MODEL, "input": CALL, "tools": [tool], "max_output_tokens": 1000}
    output = http.post(RESPONSES, json=body).json()["output"]
    calls = [item for item in output if item["type"] == "function_call"]
    assert json.loads(calls[-1]["arguments"]) == {"day": 3} or len(calls) > 1
    assert {item["status"] for item in output} <= {"completed", "incomplete"}
    done = [event["item"] for event in events(http, RESPONSES, body) if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in done] == [item["type"] for item in output]


def test_responses_take_a_whole_conversation(http: httpx.Client) -> None:
    items = [
        {"role": "developer", "content": "a"},
        {"type": "function_call", "call_id": "1", "name": "moon", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "full"},
        {"type": "reasoning", "summary": []},
        {"role": "user", "content": [{"type": "input_text", "text": "b"}]},
    ]
    body = {"model": MODEL, "input": items, "max_output_tokens": 200}
    text = http.post(RESPONSES, json=body).json()["output"][0]["content"][0]["text"]
    assert text.startswith("system: a\n")
    assert "full" in text
    assert "user: b\n" in text


def test_models(openai: OpenAI) -> None:
    assert [model.id for model in openai.models.list()] == [MODEL]
    assert openai.models.retrieve(MODEL).object == "model"


def test_health_and_metrics(http: httpx.Client) -> None:
    for path in ("/health/live", "/health", "/v1/health", "/ping"):
        assert http.get(path).json() == {"status": "ok"}
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert http.get("/version").json() == {"version": project["version"]}
    assert http.get("/health/ready").json() == {MODEL: "ready"}
    page = http.get("/metrics").text
    for name in ("requests_total", "requests_active", "requests_waiting", "tokens_active", "e2e_seconds_bucket"):
        assert f"conch_gateway_{name}{{" in page


def test_the_published_document_has_every_route(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert {CHAT, TEXT, RESPONSES, "/v1/models", "/v1/models/{model}", "/v1/embeddings"} <= set(document["paths"])
    assert "422" not in json.dumps(document["paths"])
    for reference in {part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"]


def test_browsers_of_friends_may_call(http: httpx.Client) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    friend = http.options(CHAT, headers=asked | {"origin": "http://friend.example"})
    assert friend.headers["access-control-allow-origin"] == "http://friend.example"
    stranger = http.options(CHAT, headers=asked | {"origin": "http://stranger.example"})
    assert "access-control-allow-origin" not in stranger.headers
