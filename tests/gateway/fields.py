"""Bodies that between them send every field of every endpoint, and what is in them, object by object."""

import copy
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from gateway.openapi import BODIES
from gateway.schema.decisions import Entry
from tests.gateway.conftest import CHAT, COUNT, DETOKENIZE, INPUT, MESSAGES, RESPONSES, TEXT, TOKENIZE, user

Json = dict[str, Any]

MODEL = "smollm2-135m"
BASE: dict[str, Json] = {
    CHAT: {"model": MODEL, "messages": user("x"), "max_tokens": 2},
    TEXT: {"model": MODEL, "prompt": "x", "max_tokens": 2},
    RESPONSES: {"model": MODEL, "input": "x", "max_output_tokens": 2},
    INPUT: {"model": MODEL, "input": "x"},
    MESSAGES: {"model": MODEL, "messages": user("x"), "max_tokens": 2},
    COUNT: {"model": MODEL, "messages": user("x")},
    TOKENIZE: {"model": MODEL, "prompt": "x"},
    DETOKENIZE: {"model": MODEL, "tokens": [5]},
}
PARAMETERS = {"type": "object", "properties": {"day": {"type": "integer"}}, "required": ["day"]}
TOOL = {
    "type": "function",
    "function": {"name": "moon", "description": "d", "parameters": PARAMETERS, "strict": True},
    "cache_control": {"type": "ephemeral"},
}
CALL = {
    "id": "c1",
    "type": "function",
    "index": 0,
    "provider_specific_fields": {"signature": "s"},
    "function": {"name": "moon", "arguments": '{"day": 3}', "parsed_arguments": {"day": 3}},
}
ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "moon"}}]},
}
SCHEMA = {"name": "n", "description": "d", "strict": True, "schema": PARAMETERS}

_COMMON: list[Json] = [
    {
        "user": "u",
        "metadata": {"a": "b"},
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"mode": "implicit"},
    },
    {"stream": True, "stream_options": {}},
    {"temperature": 0.5, "top_p": 0.5, "top_k": 5, "ignore_eos": True, "min_tokens": 1, "repetition_penalty": 1.1},
    {"stop_token_ids": [5], "min_p": 0.1, "skip_special_tokens": False},
]
_CHOICES: list[Json] = [
    {"n": 2, "seed": 3, "stop": "x", "presence_penalty": 0.1, "frequency_penalty": 0.1},
    {"stop": ["x", "y"]},
    {"stop": ["x", ""], "include_stop_str_in_output": True, "bad_words": []},
    {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    {"request_id": "r", "rid": "r", "guided_decoding_backend": "xgrammar"},
    {"stream_options": {"include_usage": True}},
    {"guided_json": PARAMETERS},
    {"guided_regex": "a+"},
    {"guided_choice": ["a", "b"]},
    {"guided_grammar": 'root ::= "a"'},
    {"regex": "a+"},
    {"ebnf": 'root ::= "a"'},
    {"structured_outputs": {"json": PARAMETERS, "disable_fallback": True}},
    {"structured_outputs": {"choice": ["a"]}},
    {"structured_outputs": {"regex": "a+"}},
    {"structured_outputs": {"grammar": 'root ::= "a"'}},
    {"structured_outputs": {"json_object": True}},
]
_TURNS: list[Json] = [
    {"role": "system", "content": "s"},
    {"role": "user", "name": "jo", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "function_call": None, "audio": None},
    {"role": "tool", "tool_call_id": "c1", "content": "3"},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    {"role": "assistant", "refusal": "no", "annotations": [], "reasoning_content": "hm"},
    {
        "role": "assistant",
        "content": "x",
        "id": "m",
        "parsed": {"a": 1},
        "reasoning": "hm",
        "thinking_blocks": [{"type": "thinking", "thinking": "hm"}],
        "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
        "provider_specific_fields": {"refusal": None},
        "cache_control": {"type": "ephemeral"},
    },
    {"role": "assistant"},
    {"role": "user", "content": "x"},
]
_ITEMS: list[Json] = [
    {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
    {
        "type": "reasoning",
        "id": "r",
        "summary": [{"type": "summary_text", "text": "x"}],
        "content": [{"type": "reasoning_text", "text": "x"}],
        "encrypted_content": "gAAA",
        "status": "completed",
    },
    {
        "type": "message",
        "role": "assistant",
        "id": "m",
        "status": "completed",
        "phase": "final_answer",
        "content": [
            {"type": "output_text", "text": "x", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "no"},
        ],
    },
    {
        "type": "function_call",
        "id": "f",
        "call_id": "c",
        "name": "moon",
        "namespace": "sky",
        "arguments": "{}",
        "status": "completed",
        "caller": {"type": "direct"},
    },
    {
        "type": "function_call_output",
        "id": "o",
        "call_id": "c",
        "output": [{"type": "input_text", "text": "x", "annotations": [], "logprobs": []}],
        "status": "completed",
        "caller": {"type": "direct"},
    },
]
_ITEMS += [
    {name: value for name, value in _ITEMS[-2].items() if name != "arguments"}
    | {"type": "custom_tool_call", "input": "x"},
    _ITEMS[-1] | {"type": "custom_tool_call_output"},
]
_FUNCTION: Json = {
    "type": "function",
    "name": "moon",
    "description": "d",
    "parameters": PARAMETERS,
    "strict": True,
    "output_schema": {},
    "allowed_callers": ["direct"],
    "defer_loading": False,
}
_CUSTOM: Json = {
    "type": "custom",
    "name": "write",
    "description": "d",
    "format": {"type": "text"},
    "allowed_callers": ["direct"],
    "defer_loading": False,
}
_SKY: Json = {"type": "namespace", "name": "sky", "description": "d", "tools": [_FUNCTION]}
_RESPONSES: list[Json] = [
    {"input": _ITEMS, "instructions": "i", "parallel_tool_calls": True},
    {"tools": [_FUNCTION, _CUSTOM], "tool_choice": {"type": "custom", "name": "write"}},
    {"tools": [_SKY, {"type": "web_search"}], "tool_choice": {"type": "function", "name": "moon", "namespace": "sky"}},
    {
        "tools": [_FUNCTION],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "moon"}],
        },
    },
    {
        "tools": [_CUSTOM | {"format": {"type": "grammar", "syntax": "regex", "definition": "a+"}}],
        "tool_choice": {"type": "custom", "name": "write"},
    },
    {"text": {"format": {"type": "json_schema", **SCHEMA}, "verbosity": "low"}},
    {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 0},
    {"chat_template_kwargs": {"thinking": True}},
    {"client_metadata": {"a": "b"}, "truncation": "auto"},
    {"reasoning": {"effort": "minimal", "summary": "auto", "generate_summary": "auto", "context": "auto"}},
]

_MARK: Json = {"cache_control": {"type": "ephemeral"}}
_SAID: Json = {"type": "text", "text": "x", "citations": [], **_MARK}
_FOUND: Json = {
    "type": "search_result",
    "source": "s",
    "title": "t",
    "content": [_SAID],
    "citations": {"enabled": False},
    **_MARK,
}
_PAGE: Json = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "x"},
    "title": "t",
    "context": "c",
    "citations": {"enabled": False},
    **_MARK,
}
_EXCHANGE: list[Json] = [
    {"role": "user", "content": [_SAID, _PAGE, _PAGE | {"source": {"type": "content", "content": [_SAID]}}, _FOUND]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
            {"type": "tool_use", "id": "t", "name": "moon", "input": {}, "caller": {"type": "direct"}, **_MARK},
        ],
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [_SAID, _PAGE, _FOUND],
                "is_error": True,
                **_MARK,
            }
        ],
    },
]
_MOON: Json = {
    "type": "custom",
    "name": "moon",
    "description": "d",
    "input_schema": PARAMETERS,
    "input_examples": [{"day": 3}],
    "strict": True,
    "allowed_callers": ["direct"],
    "defer_loading": False,
    "eager_input_streaming": True,
    **_MARK,
}
_FIT: Json = {"type": "json_schema", "schema": PARAMETERS}
_COUNTED: list[Json] = [
    {"messages": _EXCHANGE, "tools": [_MOON], "system": [_SAID], **_MARK},
    {"tools": [_MOON], "tool_choice": {"type": "tool", "name": "moon", "disable_parallel_tool_use": True}},
    {"thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}},
    {"output_config": {"effort": "max", "format": _FIT}},
    {"output_format": _FIT},
    {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
    {"betas": ["b"], "user_profile_id": "u", "workspace_id": "w"},
]

_SCORED: Json = {"prompt": [[5, 6]], "echo": True, "logprobs": 2, "max_tokens": 0}

# What is sent beside the base, each in a request of its own; all of it is taken by the default deployment.
TAKEN: dict[str, list[Json]] = {
    CHAT: [
        *_COMMON,
        *_CHOICES,
        {"messages": _TURNS, "tools": [TOOL], "tool_choice": "none"},
        {"max_completion_tokens": 2},
        {"logprobs": True, "top_logprobs": 0},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "moon"}}},
        {"parallel_tool_calls": False, "tools": [TOOL]},
        {"tools": [TOOL], "tool_choice": ALLOWED},
        {"reasoning_effort": "low", "add_generation_prompt": True},
        {"continue_final_message": True},
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
        {"chat_template_kwargs": {"thinking": True}},
    ],
    TEXT: [*_COMMON, *_CHOICES, {"prompt": ["x", "y"], "echo": True}, {"logprobs": 0, "prompt": [5, 6]}, _SCORED],
    RESPONSES: [*_COMMON, *_RESPONSES, {"max_output_tokens": 2}],
    INPUT: [*_COMMON, *_RESPONSES, {"max_output_tokens": 2}],
    MESSAGES: [
        *_COUNTED,
        {"stream": True, "temperature": 0.5, "top_p": 0.5, "top_k": 5, "stop_sequences": ["x"]},
        {"metadata": {"user_id": "u"}, "service_tier": "auto", "diagnostics": {"previous_message_id": None}},
    ],
    COUNT: _COUNTED,
    TOKENIZE: [
        {"add_special_tokens": False, "return_token_strs": True},
        {
            "prompt": None,
            "messages": _TURNS,
            "tools": [TOOL],
            "chat_template_kwargs": {},
            "add_generation_prompt": False,
        },
        {"prompt": None, "messages": user("x"), "continue_final_message": True, "add_special_tokens": False},
    ],
    DETOKENIZE: [],
}
# What this deployment's engine lacks, and refuses by name.
_LACKED: list[Json] = [
    {"logit_bias": {"5": 1}},
    {"bad_words": ["x"]},
    {"structured_outputs": {"structural_tag": "{}"}},
]
LACKED: dict[str, list[Json]] = {
    CHAT: _LACKED,
    TEXT: _LACKED,
    RESPONSES: [],
    INPUT: [],
    MESSAGES: [],
    COUNT: [],
    TOKENIZE: [],
    DETOKENIZE: [],
}


def bodies(door: str) -> Iterator[Json]:
    """Every body that is sent to an endpoint."""
    yield from (BASE[door] | fields for fields in [{}, *TAKEN[door], *LACKED[door]])


def objects(value: Any, raw: Any) -> Iterator[tuple[BaseModel, Json]]:
    """The models in a checked body, each beside the JSON that it was made from."""
    if isinstance(value, BaseModel):
        yield value, raw
        for name, info in type(value).model_fields.items():
            if name in value.model_fields_set:
                yield from objects(getattr(value, name), raw[info.alias or name])
    elif isinstance(value, list):
        for each, inner in zip(value, raw, strict=True):
            yield from objects(each, inner)


def sent(door: str) -> set[tuple[type[BaseModel], str]]:
    """The fields that the bodies of an endpoint have, each with its model."""
    schema, _ = BODIES[door]
    return {
        (type(model), name)
        for body in bodies(door)
        for model, _ in objects(schema.model_validate(body), body)
        for name in model.model_fields_set
    }


def with_field(door: str, entry: Entry, value: Any) -> Json:
    """A body of an endpoint that has this value in this field."""
    schema, _ = BODIES[door]
    for body in bodies(door):
        changed = copy.deepcopy(body)
        for model, raw in objects(schema.model_validate(body), changed):
            if type(model) is entry.model:
                raw[entry.model.model_fields[entry.name].alias or entry.name] = value
                return changed
    raise AssertionError(f"no body has a {entry.model.__name__}")
