"""Errors keep their kind, field and words on the way through Triton; Triton's own refusals name the input."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import (
    REQUEST_ERRORS,
    ConchError,
    ContextTooLong,
    EngineFailed,
    InternalError,
    InvalidRequest,
    RequestError,
    Unavailable,
    from_wire,
)
from contract.tensors import INPUT_BY_NAME

_kinds = st.sampled_from(sorted(REQUEST_ERRORS))
_fields = st.sampled_from(["", *INPUT_BY_NAME])
# A message that looks like "word: …" would be read as a field; ours begin with a verb or an article.
_messages = st.text(min_size=1).map("must not be ".__add__)
_before = st.sampled_from(["", "in ensemble 'ensemble', ", "[request id: <id_unknown>] ", "[StatusCode.INTERNAL] "])


@given(kind=_kinds, field=_fields, message=_messages, fix=st.text(), before=_before)
def test_errors_survive_the_wire(kind: str, field: str, message: str, fix: str, before: str) -> None:
    sent = REQUEST_ERRORS[kind](message, field=field, fix=fix)
    received = from_wire(before + sent.to_wire())
    assert type(received) is type(sent)
    assert received.field == field
    assert str(received) == str(sent)
    assert received.to_wire() == sent.to_wire()


@pytest.mark.parametrize("error", REQUEST_ERRORS.values(), ids=list(REQUEST_ERRORS))
def test_every_error_has_a_code_in_every_protocol(error: type[RequestError]) -> None:
    assert REQUEST_ERRORS[error.kind] is error
    assert hasattr(grpc.StatusCode, error.codes.grpc)
    assert 400 <= error.codes.http < 600
    assert error.codes.openai.endswith("_error")
    assert error.codes.code


def test_the_text_says_what_where_and_what_to_do() -> None:
    error = ContextTooLong("the prompt has 9 tokens; the limit is 8", field="text_input", fix="Shorten it by 1")
    assert str(error) == "text_input: the prompt has 9 tokens; the limit is 8. Shorten it by 1"
    assert error.to_wire() == f"[context_too_long] {error}"
    assert str(ConchError("it broke")) == "it broke"


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("inference input 'max_tokens' data-type is 'INT64', but model 'ensemble' expects 'INT32'", "max_tokens"),
        ("unexpected shape for input 'text_input' for model 'ensemble'. Expected [-1,1], got [1]", "text_input"),
        ("inference request batch-size must be <= 1 for 'ensemble'", ""),
        ("unexpected inference input 'max_tokns' for model 'ensemble'", "max_tokns"),
        ("input byte size mismatch for input 'seed' for model 'ensemble'. Expected 8, got 1", "seed"),
        ("input 'text_input' already exists in request", "text_input"),
        (
            "in ensemble 'ensemble', [request id: <id_unknown>] out of bounds index 0: request has 0 inputs",
            "text_input",
        ),
        ("parameter 'foo' has invalid type. It should be either 'int', 'bool', or 'string'.", "foo"),
        ("failed to parse the request JSON buffer: Invalid value. at 1", ""),
    ],
)
def test_tritons_own_refusals_blame_the_client(said: str, field: str) -> None:
    error = from_wire(f"[request id: <id_unknown>] {said}")
    assert type(error) is InvalidRequest
    assert error.field == field


@pytest.mark.parametrize("said", ["Stub process 'x' is not healthy.", "Server is stopping, scheduler", "Socket closed"])
def test_a_server_that_is_not_there_is_unavailable(said: str) -> None:
    assert type(from_wire(said)) is Unavailable


@given(st.text())
def test_any_line_becomes_an_error(said: str) -> None:
    assert isinstance(from_wire(said), RequestError)


def test_unknown_kinds_are_internal() -> None:
    assert type(from_wire("[novel_kind] x: y")) is InternalError
    assert type(from_wire(EngineFailed("x").to_wire())) is EngineFailed
