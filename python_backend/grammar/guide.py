"""A request's guide as the engine gets it: schemas are grammars by then, in the form that the engine takes."""

import json
import re
from typing import Any

import msgspec

from contract.sampling import SamplingParams
from python_backend.grammar.ebnf import Rules
from python_backend.grammar.pattern import whole_text
from python_backend.grammar.schema import grammar_of

_MISREAD = re.compile(r"[\x7f-\xff]|\\[xu]")  # in a class of an expression, by xgrammar (ebnf.py)
_EBNF, _TAG = "ebnf_grammar", "structural_tag"


def with_grammar(sampling: SamplingParams, features: frozenset[str]) -> SamplingParams:
    """The request with every JSON schema of its guide compiled.

    Args:
        features: the engine's, which has the guide.

    Raises:
        InvalidRequest: a schema is none.
        UnsupportedByEngine: a keyword of it cannot be kept; both name guided_decoding_guide.
    """
    text = sampling.guided_decoding_guide
    match sampling.guided_decoding_guide_type:
        case "json" | "json_schema":
            grammar = grammar_of(text)
            if f"guided_decoding_guide_type:{_EBNF}" in features:
                return _replaced(sampling, _EBNF, grammar)
            return _replaced(sampling, _TAG, json.dumps({"type": _TAG, "format": _format(grammar)}))
        case "regex" if _MISREAD.search(text) and f"guided_decoding_guide_type:{_EBNF}" in features:
            rules = Rules()
            return _replaced(sampling, _EBNF, rules.text(whole_text(text, rules)))
        case "structural_tag":
            try:
                tag = json.loads(text)
            except (ValueError, RecursionError):  # the engine says what is wrong with it
                return sampling
            return _replaced(sampling, _TAG, json.dumps(_compiled(tag)))
    return sampling


def _replaced(sampling: SamplingParams, kind: str, text: str) -> SamplingParams:
    return msgspec.structs.replace(sampling, guided_decoding_guide_type=kind, guided_decoding_guide=text)


def _compiled(tag: Any) -> Any:
    """A structural tag whose schemas are grammars; of its older form, whose schemas are such as can be kept."""
    match tag:
        case {"type": "json_schema", "json_schema": schema, **rest} if rest.get("style", "json") == "json":
            return _format(grammar_of(json.dumps(schema)))
        case {"begin": _, "schema": schema, "end": _}:
            grammar_of(schema if isinstance(schema, str) else json.dumps(schema))
            return tag
        case dict():
            return {name: _compiled(part) for name, part in tag.items()}
        case list():
            return [_compiled(part) for part in tag]
    return tag


def _format(grammar: str) -> dict[str, str]:
    return {"type": "grammar", "grammar": grammar}
