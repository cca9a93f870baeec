"""Every parameter of a request that is no tensor has a decision, and any other is refused by name."""

import pytest

from contract.errors import InvalidRequest
from contract.nvidia import PARAMETERS, model_names
from contract.stage import ABORT_KEY, new_abort_key
from contract.tensors import Decision
from python_backend.preprocess.parameters import (
    abort_key,
    check_no_sequence,
    check_parameters,
    timeout_ns,
)

MODELS = model_names("tide")


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_is_decided(name: str) -> None:
    parameter = PARAMETERS[name]
    for neutral in parameter.neutral:
        check_parameters({name: neutral}, MODELS)
    if parameter.decision is Decision.NEUTRAL:
        with pytest.raises(InvalidRequest) as refused:
            check_parameters({name: 9}, MODELS)
        assert refused.value.field == name
    else:
        check_parameters({name: 9}, MODELS)


@pytest.mark.parametrize(
    ("name", "said"),
    [("max_token", "Did you mean max_tokens"), ("unheard_of", "docs/inputs.md"), ("lora_weights", "lora_name")],
)
def test_what_is_no_parameter_is_refused_with_the_way_out(name: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        check_parameters({name: 1}, MODELS)
    assert refused.value.field == name


def test_only_a_unary_models_own_key_is_one() -> None:
    key = new_abort_key()
    assert key < 2**63
    check_parameters({ABORT_KEY: key}, MODELS)
    assert abort_key({ABORT_KEY: key}) == key
    assert abort_key({}) == 0
    for told in ("a", 5, -1):
        with pytest.raises(InvalidRequest, match="is no parameter"):
            check_parameters({ABORT_KEY: told}, MODELS)


def test_a_model_may_be_named_as_it_is() -> None:
    for name in MODELS:
        check_parameters({"model": name}, MODELS)


def test_a_sequence_is_refused() -> None:
    check_no_sequence(0)
    check_no_sequence("")
    for told in (5, "a"):
        with pytest.raises(InvalidRequest, match="sequence_id"):
            check_no_sequence(told)


def test_the_shortest_timeout_counts() -> None:
    assert timeout_ns({}, 0, 0) == 0
    assert timeout_ns({"timeout": 7000}, 5000, 6) == 5_000_000
    assert timeout_ns({"timeout": 7000}, 0, 0) == 7_000_000
    for told in (-1, "5", True, 1.5):
        with pytest.raises(InvalidRequest, match="timeout: must be"):
            timeout_ns({"timeout": told}, 0, 0)
