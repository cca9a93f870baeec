"""Answers are kept to their schemas, whatever the model wants to say: here it wants anything at all."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import openvino_genai as genai
import pytest

from contract.errors import InvalidRequest, UnsupportedByEngine
from contract.sampling import SamplingParams
from python_backend.grammar.ebnf import literal
from python_backend.grammar.guide import with_grammar
from python_backend.grammar.schema import grammar_of
from python_backend.openvino import FEATURES
from python_backend.openvino.sampling import guide_config
from python_backend.openvino.scratch import ONE_TOKEN, ScratchPipeline
from tests.e2e.servers import CODE
from tests.schemas import KEPT, REFUSED, WRONG

ENGINE = CODE / "engines" / "smollm2-135m" / "current"
TAG = "structural_tag"
ENDLESS = ("long limit", "any object", "a map", "unanchored pattern", "anchored once")  # strings without an end


class Babbler(ScratchPipeline):
    """Says any token that its guide allows, each as likely as the next."""

    def says(self, sampling: SamplingParams, seed: int) -> str:
        """One answer; cut short, as a string may go on for ever."""
        config = genai.GenerationConfig()
        config.max_new_tokens = 160
        config.do_sample = True
        config.rng_seed = seed
        config.structured_output_config = guide_config(sampling)
        result = self._pipeline.generate(genai.TokenizedInputs(ONE_TOKEN, ONE_TOKEN), config)
        return str(genai.Tokenizer(str(ENGINE)).decode(list(result.tokens[0])))


@pytest.fixture(scope="module")
def babbler() -> Iterator[Babbler]:
    yield Babbler(ENGINE)


def guided(schema: Any) -> SamplingParams:
    text = json.dumps(schema, ensure_ascii=len(str(schema)) % 2 == 0)
    asked = SamplingParams(max_tokens=9, guided_decoding_guide_type="json_schema", guided_decoding_guide=text)
    return with_grammar(asked, FEATURES)


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_anything_said_fits(babbler: Babbler, name: str, seed: int) -> None:
    answer = babbler.says(guided(KEPT[name]), seed)
    try:
        value = json.loads(answer)
    except ValueError:  # cut short
        assert name in ENDLESS, answer
        return
    assert jsonschema_rs.validator_for(KEPT[name], validate_formats=True).is_valid(value), answer


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_by_name(name: str) -> None:
    schema, said = REFUSED[name]
    with pytest.raises(UnsupportedByEngine, match=re.escape(said)) as refused:
        guided({"type": "array", "items": schema} if "$ref" not in schema else schema)
    assert refused.value.field == "guided_decoding_guide"
    assert "#" in str(refused.value)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_schema_is_refused(name: str) -> None:
    schema, said = WRONG[name]
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        guided(schema)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{nope", "is not JSON"),
        ('{"minimum": NaN}', "NaN"),
        ('{"items": ' * 2000 + "{}" + "}" * 2000, "nests too deep"),
    ],
)
def test_what_is_no_json(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        grammar_of(text)


def test_blanks_come_to_an_end(babbler: Babbler) -> None:
    answers = [
        babbler.says(guided({"type": "array", "items": {"type": "boolean"}, "maxItems": 3}), seed) for seed in range(6)
    ]
    assert all(len(run) <= 82 for answer in answers for run in re.findall(r"\s+", answer))


@pytest.mark.parametrize("expression", ["[aäb]{4}", "größe|Äb", "x[^ß]y", "\\xdf[\\xe4a]"])
def test_an_expression_with_an_umlaut(babbler: Babbler, expression: str) -> None:
    asked = SamplingParams(max_tokens=9, guided_decoding_guide_type="regex", guided_decoding_guide=expression)
    for seed in range(4):
        assert re.fullmatch(expression, babbler.says(with_grammar(asked, FEATURES), seed))


def test_no_hexadecimal_digit_follows_a_character_that_is_escaped() -> None:
    assert literal("größe") == '"gr\\u00f6\\u00df" "e"'
    assert literal("ßx日a") == '"\\u00dfx\\u65e5a"'


def test_where_there_are_no_grammars_but_tags() -> None:
    asked = SamplingParams(guided_decoding_guide_type="json_schema", guided_decoding_guide='{"type": "boolean"}')
    made = with_grammar(asked, frozenset({"guided_decoding_guide_type:structural_tag"}))
    assert made.guided_decoding_guide_type == TAG
    assert json.loads(made.guided_decoding_guide)["format"] == {
        "type": "grammar",
        "grammar": grammar_of('{"type": "boolean"}'),
    }


def test_schemas_within_tags() -> None:
    def tag(schema: Any) -> SamplingParams:
        inner = {
            "type": "tag",
            "begin": "<a>",
            "content": {"type": "json_schema", "json_schema": schema},
            "end": "</a>",
        }
        text = json.dumps({"type": TAG, "format": inner})
        return with_grammar(SamplingParams(guided_decoding_guide_type=TAG, guided_decoding_guide=text), FEATURES)

    content = json.loads(tag({"type": "boolean"}).guided_decoding_guide)["format"]["content"]
    assert content == {"type": "grammar", "grammar": grammar_of('{"type": "boolean"}')}
    with pytest.raises(UnsupportedByEngine, match="has not"):
        tag({"not": {}})
    old = {"type": TAG, "structures": [{"begin": "<a>", "schema": {"not": {}}, "end": "</a>"}], "triggers": ["<a>"]}
    with pytest.raises(UnsupportedByEngine, match="has not"):
        with_grammar(SamplingParams(guided_decoding_guide_type=TAG, guided_decoding_guide=json.dumps(old)), FEATURES)
