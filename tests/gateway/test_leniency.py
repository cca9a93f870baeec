"""What asks for nothing is accepted, what can be honoured is, and what came from here may come back."""

import json
from typing import Any

import httpx
import pytest

from gateway.schema.chat import ChatBody
from gateway.tools import template_variables
from tests.gateway.conftest import CHAT, TEXT, user

MODEL = "synthetic"
CALL = {"id": "c", "type": "function", "function": {"name": "moon", "arguments": "{}"}}
EXTRAS: dict[str, Any] = {
    "id": "m",
    "parsed": {"a": 1},
    "annotations": [],
    "audio": None,
    "function_call": None,
    "refusal": None,
    "thinking_blocks": None,
    "reasoning_details": [],
    "provider_specific_fields": {"refusal": None},
}


def said(http: httpx.Client, messages: list[dict[str, Any]], **fields: Any) -> str:
    """The prompt that a conversation becomes: the synthetic engine says it again."""
    body = {"model": MODEL, "messages": messages, "max_tokens": 400} | fields
    answer = http.post(CHAT, json=body).json()
    length = answer["usage"]["prompt_tokens"]  # a token a byte
    return str(answer["choices"][0]["message"]["content"].encode()[:length].decode())


@pytest.mark.parametrize(
    ("turn", "plain"),
    [
        ({"content": "No."} | EXTRAS, {"content": "No."}),
        ({"content": None, "refusal": "No."}, {"content": "No."}),
        ({"content": "Yes.", "refusal": "No."}, {"content": "Yes."}),
        ({"content": None}, {"content": ""}),
        ({}, {"content": ""}),
        ({"content": "No.", "tool_calls": []}, {"content": "No."}),
        ({"content": "No.", "tool_calls": None}, {"content": "No."}),
        ({"content": [{"type": "text", "text": "No.", "annotations": None}]}, {"content": "No."}),
        (
            {"tool_calls": [CALL | {"index": 0, "provider_specific_fields": None}]},
            {"content": None, "tool_calls": [CALL]},
        ),
        (
            {"tool_calls": [CALL | {"function": CALL["function"] | {"parsed_arguments": {}}}]},  # type: ignore[operator]
            {"content": "", "tool_calls": [CALL]},
        ),
    ],
)
def test_an_answer_comes_back(http: httpx.Client, turn: dict[str, Any], plain: dict[str, Any]) -> None:
    turns = [[*user("Q"), {"role": "assistant"} | each, *user("again")] for each in (turn, plain)]
    assert said(http, turns[0]) == said(http, turns[1])


def test_what_the_gateway_said_comes_back_as_it_was(http: httpx.Client) -> None:
    message = http.post(CHAT, json={"model": MODEL, "messages": user("Q"), "max_tokens": 9}).json()["choices"][0]
    assert "user: Q" in said(http, [*user("Q"), message["message"], *user("again")])


def test_a_message_is_continued(http: httpx.Client) -> None:
    turns = [*user("Q"), {"role": "assistant", "content": "The sea"}]
    assert said(http, turns).endswith("The sea\n")
    assert said(http, turns, continue_final_message=True).endswith("The sea")
    assert said(http, turns, chat_template_kwargs={"continue_final_message": True}).endswith("The sea")


@pytest.mark.parametrize(
    ("fields", "variables"),
    [
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ({"reasoning_effort": "none"}, {"reasoning_effort": "none", "enable_thinking": False}),
        (
            {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}},
            {"reasoning_effort": "none", "enable_thinking": True},
        ),
        ({"add_generation_prompt": False}, {"add_generation_prompt": False}),
        ({}, {}),
    ],
)
def test_what_the_template_is_given(fields: dict[str, Any], variables: dict[str, Any]) -> None:
    body = {"model": MODEL, "messages": user("x")} | fields
    assert template_variables(ChatBody.model_validate(body)) == variables


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "high"}}, "reasoning_effort"),
        ({"add_generation_prompt": True, "continue_final_message": True}, "add_generation_prompt"),
        ({"guided_regex": "a", "regex": "b"}, "regex"),
        ({"guided_choice": ["a"], "structured_outputs": {"choice": ["b"]}}, "structured_outputs.choice"),
    ],
)
def test_fields_that_contradict_each_other(http: httpx.Client, fields: dict[str, Any], param: str) -> None:
    error = http.post(CHAT, json={"model": MODEL, "messages": user("x"), "max_tokens": 1} | fields).json()["error"]
    assert error["param"] == param
    assert "contradict" in error["message"]


def test_fields_that_agree(http: httpx.Client) -> None:
    fields = {
        "reasoning_effort": "low",
        "chat_template_kwargs": {"reasoning_effort": "low"},
        "max_completion_tokens": 1,
    }
    body = {"model": MODEL, "messages": user("x"), "max_tokens": 1} | fields
    assert http.post(CHAT, json=body).status_code == 200


@pytest.mark.parametrize(("path", "prompt"), [(CHAT, {"messages": user("x")}), (TEXT, {"prompt": ["x", "xy"], "n": 2})])
def test_usage_with_each_chunk(http: httpx.Client, path: str, prompt: dict[str, Any]) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"model": MODEL, "max_tokens": 5, "stream": True, "stream_options": options} | prompt
    lines = http.post(path, json=body).text.split("\n\n")
    usages = [json.loads(line[6:])["usage"] for line in lines if line.startswith("data: {")]
    counts = [usage["completion_tokens"] for usage in usages]
    assert counts == sorted(counts) and counts[-1] == counts[-2] == (5 if path == CHAT else 20)
    assert usages[0]["prompt_tokens"] > 0
    assert all(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] for usage in usages)
    if path == CHAT:
        assert len({usage["prompt_tokens"] for usage in usages}) == 1


def test_sixteen_tokens_where_none_are_named(http: httpx.Client) -> None:
    answer = http.post(TEXT, json={"model": MODEL, "prompt": "the sea "}).json()
    assert answer["usage"]["completion_tokens"] == 16
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_what_stopped_the_answer_is_in_it_where_it_is_wanted(http: httpx.Client, stream: bool) -> None:
    body = {"model": MODEL, "prompt": "abcdefg", "stop": ["de"], "include_stop_str_in_output": True, "stream": stream}
    answer = http.post(TEXT, json=body)
    choices = (
        [json.loads(line[6:])["choices"][0] for line in answer.text.split("\n\n") if line.startswith("data: {")]
        if stream
        else answer.json()["choices"]
    )
    assert "".join(choice["text"] for choice in choices) == "abcde"
    assert choices[-1]["finish_reason"] == "stop"


CHOICES = ["a.b", "(x|y)", "größe", 'say "no"', "one\ntwo\\", "[^$]{2}*?+", "-"]


@pytest.mark.parametrize("only", range(len(CHOICES)))
def test_one_of_some_texts(real: httpx.Client, only: int) -> None:
    """Each is written as it is, whatever it would mean in an expression."""
    body = {"model": "smollm2-135m", "messages": user("Choose."), "max_tokens": 40, "temperature": 0}
    answer = real.post(CHAT, json=body | {"guided_choice": [CHOICES[only]]})
    assert answer.json()["choices"][0]["message"]["content"] == CHOICES[only], answer.text


def test_one_of_several_texts(real: httpx.Client) -> None:
    body = {"model": "smollm2-135m", "prompt": "The capital of France is", "max_tokens": 40}
    for fields in ({"guided_choice": CHOICES}, {"structured_outputs": {"choice": CHOICES}}):
        assert real.post(TEXT, json=body | fields).json()["choices"][0]["text"] in CHOICES


def test_a_grammar_under_each_of_its_names(real: httpx.Client) -> None:
    body = {"model": "smollm2-135m", "prompt": "x", "max_tokens": 9}
    for fields in ({"guided_grammar": 'root ::= "aha"'}, {"ebnf": 'root ::= "aha"'}, {"regex": "aha"}):
        assert real.post(TEXT, json=body | fields).json()["choices"][0]["text"] == "aha"


def test_guides_that_agree(real: httpx.Client) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body = {"model": "smollm2-135m", "messages": user("x"), "max_tokens": 99}
    guides = {"response_format": form, "guided_json": schema, "structured_outputs": {"json": schema}}
    assert json.loads(real.post(CHAT, json=body | guides).json()["choices"][0]["message"]["content"]) == {}


def test_only_the_likeliest_tokens(real: httpx.Client) -> None:
    body = {"model": "smollm2-135m", "prompt": "The capital of France is", "max_tokens": 8}
    greedy = real.post(TEXT, json=body | {"temperature": 0}).json()["choices"][0]["text"]
    for seed in range(3):
        drawn = real.post(TEXT, json=body | {"temperature": 2, "min_p": 1, "seed": seed}).json()["choices"][0]["text"]
        assert drawn == greedy


def test_tools_that_are_allowed(real: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("moon", "sun")]
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "sun"}}]}
    body = {"model": "smollm2-135m", "messages": user("x"), "max_tokens": 60, "tools": tools, "temperature": 0}
    body |= {"parallel_tool_calls": False}
    answer = real.post(CHAT, json=body | {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}})
    (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "sun"
    allowed["tools"] = [{"type": "function", "function": {"name": "stars"}}]
    answer = real.post(CHAT, json=body | {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tool_choice")
