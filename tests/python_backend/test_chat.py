"""Chats reach every family's template as it wants them; a template without tools gets them in Hermes form."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from contract.errors import InvalidRequest, UnsupportedByEngine
from contract.sections import Limits
from gateway.parsers import ToolCallArguments, ToolCallStart, parser_for
from python_backend.preprocess.inputs import read_prompt
from python_backend.preprocess.tokenize import PromptTokenizer
from python_backend.synthetic.tokenizer import SyntheticTokenizer, synthetic_backend
from tests.chat_templates import BY_FAMILY, CHATML, DEEPSEEK, HERMES, LLAMA3, MISTRAL

TOOL = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "tide", "arguments": '{"at":"Vigo", "h":3}'}}
ASKED: list[dict[str, Any]] = [
    {"role": "user", "content": "High water?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcdefghi", "content": "3.1 m"},
]
# A mapping is written by the template's tojson, text exactly as it was given.
WRITTEN = {
    "hermes": '<tool_call>{"name": "tide", "arguments": {"at": "Vigo", "h": 3}}</tool_call>',
    "llama3": '{"name": "tide", "parameters": {"at": "Vigo", "h": 3}}<|eot_id|>',
    "mistral": '[TOOL_CALLS][{"name": "tide", "arguments": {"at": "Vigo", "h": 3}}]',
    "deepseek": '<｜tool▁call▁begin｜>tide<｜tool▁sep｜>{"at":"Vigo", "h":3}<｜tool▁call▁end｜>',
}


def rendered(template: str, messages: list[dict[str, Any]], tools: list[Any] | None = None, **variables: Any) -> str:
    """The prompt, read back from its tokens."""
    backend = synthetic_backend()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
    tokenizer.chat_template = template
    given = {"messages": messages, "tools": tools, "chat_template_kwargs": variables or None}
    tensors = {
        name: np.array([[json.dumps(value).encode()]], dtype=np.object_)
        for name, value in given.items()
        if value is not None
    }
    limits = Limits(max_seq_len=40_000, max_input_len=30_000)
    ids = PromptTokenizer(tokenizer, limits).encode(read_prompt(tensors))
    return str(backend.decode(ids, skip_special_tokens=False))


@pytest.mark.parametrize("family", BY_FAMILY)
@pytest.mark.parametrize("as_object", [False, True])
def test_calls_in_the_history(family: str, as_object: bool) -> None:
    messages = json.loads(json.dumps(ASKED))
    if as_object:
        messages[1]["tool_calls"][0]["function"]["arguments"] = {"at": "Vigo", "h": 3}
    text = rendered(BY_FAMILY[family], messages, [TOOL])
    wanted = WRITTEN[family].replace('{"at":"Vigo", "h":3}', '{"at": "Vigo", "h": 3}') if as_object else WRITTEN[family]
    assert wanted in text
    assert "3.1 m" in text


@pytest.mark.parametrize("template", [HERMES, DEEPSEEK])
def test_arguments_that_are_no_json_stay_what_they_were(template: str) -> None:
    call = {"function": {"name": "tide", "arguments": '{"at": Vigo'}}
    assert '{"at": Vigo' in rendered(template, [{"role": "assistant", "tool_calls": [call]}])


def test_tools_in_a_template_that_takes_none() -> None:
    text = rendered(CHATML, ASKED, [TOOL])
    assert text.startswith("<|im_start|>system\n# Tools\n")
    assert f"<tools>\n{json.dumps(TOOL)}\n</tools>" in text
    assert '<tool_call>\n{"name": "tide", "arguments": {"at":"Vigo", "h":3}}\n</tool_call><|im_end|>' in text
    assert "<|im_start|>user\n<tool_response>\n3.1 m\n</tool_response><|im_end|>\n<|im_start|>assistant\n" in text


def test_tools_join_the_system_message() -> None:
    text = rendered(CHATML, [{"role": "system", "content": "Be brief."}, *ASKED], [TOOL])
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n")
    assert text.count("<|im_start|>system") == 1


def test_results_of_parallel_calls_are_one_turn() -> None:
    both = [*ASKED, {"role": "tool", "tool_call_id": "b", "content": "2.9 m"}, {"role": "user", "content": "So?"}]
    text = rendered(CHATML, both)
    assert "<tool_response>\n3.1 m\n</tool_response>\n<tool_response>\n2.9 m\n</tool_response><|im_end|>" in text
    assert "<|im_start|>user\nSo?<|im_end|>" in text
    assert "# Tools" not in text


_json = st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3))


@given(members=st.dictionaries(st.text(max_size=6), _json, max_size=4), said=st.sampled_from(["", "Let me see."]))
@settings(max_examples=100, deadline=None)
def test_the_gateway_reads_what_preprocess_writes(members: dict[str, Any], said: str) -> None:
    call = {"function": {"name": "tide", "arguments": json.dumps(members, ensure_ascii=False)}}
    text = rendered(CHATML, [{"role": "assistant", "content": said, "tool_calls": [call, call]}])
    answer = text.removeprefix("<|im_start|>assistant\n").split("<|im_end|>\n<|im_start|>assistant")[0]
    parser = parser_for("hermes", tools=True, reasoning=False)
    events = parser.push(answer) + parser.finish()
    assert [event.name for event in events if isinstance(event, ToolCallStart)] == ["tide", "tide"]
    read = [event.text for event in events if isinstance(event, ToolCallArguments)]
    assert [json.loads(text) for text in read] == [members, members]


@pytest.mark.parametrize("template", [CHATML, HERMES, LLAMA3, MISTRAL])
def test_parts_are_joined(template: str) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert "one\ntwo" in rendered(template, [{"role": "user", "content": parts}])


def test_developer_is_system_where_the_template_does_not_know_it() -> None:
    chat = [{"role": "developer", "content": "Be brief."}]
    assert rendered(CHATML, chat).startswith("<|im_start|>system\nBe brief.")
    knows = CHATML + "{# developer #}"
    assert rendered(knows, chat).startswith("<|im_start|>developer\nBe brief.")


def test_no_tools_are_as_good_as_none() -> None:
    assert "Respond as" not in rendered(LLAMA3, ASKED[:1], [])
    assert "# Tools" not in rendered(CHATML, ASKED[:1], [])


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "content[0] is of type image_url",
        ),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]}, "type input_audio"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text must be text"),
        ({"role": "user", "content": ["text"]}, "messages[0].content[0] must be an object with a type"),
        ({"role": "assistant", "tool_calls": "tide"}, "messages[0].tool_calls must be a list"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "messages[0].tool_calls[0] must be an object"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 3}}]},
            "messages[0].tool_calls[0].function.arguments must be",
        ),
    ],
)
def test_what_is_not_as_it_must_be_is_named(message: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rendered(CHATML, [message])
    assert named in str(refused.value)
    assert refused.value.field == "messages"
    unreadable = any(kind in named for kind in ("image", "audio"))
    assert isinstance(refused.value, UnsupportedByEngine) == unreadable


def test_a_template_says_why_it_refuses() -> None:
    twice = [ASKED[0], {"role": "assistant", "tool_calls": [CALL, CALL]}]
    with pytest.raises(InvalidRequest, match="one call at a time"):
        rendered(LLAMA3, twice)


@pytest.mark.parametrize("continued", [False, True])
def test_the_synthetic_tokenizer_writes_as_transformers_does(continued: bool) -> None:
    ours = SyntheticTokenizer()
    theirs = PreTrainedTokenizerFast(tokenizer_object=synthetic_backend(), chat_template=ours.chat_template)
    said: list[tuple[str, Any]] = [("system", "tide\n"), ("user", [1]), ("assistant", "sea ")]
    messages = [{"role": role, "content": content} for role, content in said]
    how: dict[str, Any] = {"tokenize": False, "add_generation_prompt": not continued}
    wanted = theirs.apply_chat_template(messages, continue_final_message=continued, **how)
    assert ours.apply_chat_template(messages, continue_final_message=continued, **how) == wanted
