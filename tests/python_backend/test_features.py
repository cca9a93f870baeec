"""What engines declare is one list, in the contract's names, and the page about it is what the code says."""

import pytest

from contract.engines.kinds import KINDS, Runtime
from contract.sampling import feature_names
from python_backend.engines import features_of
from python_backend.engines_page import PAGE, columns, page
from python_backend.openvino.engine import OpenVinoEngine
from python_backend.synthetic.engine import SyntheticEngine


@pytest.mark.parametrize("runtime", KINDS)
def test_a_runtime_declares_features_that_a_request_can_ask_for(runtime: Runtime) -> None:
    of_this = [column for column in columns() if column.runtime == runtime]
    assert of_this
    for column in of_this:
        for options in ({}, column.everything_on):
            declared = features_of(column.spec(**options).engine)
            assert declared
            assert declared <= set(feature_names())


def test_engines_have_what_is_declared_for_their_runtime() -> None:
    declared = {column.title: features_of(column.spec().engine) for column in columns()}
    assert OpenVinoEngine.features == declared["openvino"]
    assert SyntheticEngine.features == declared["synthetic"]


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/engines.md is out of date: run make engines-page"
