"""xgrammar's compiler, for the guides of SGLang's and LMDeploy's doubles: OpenVINO compiles them, as it will there."""

import json
import os
from pathlib import Path
from typing import Any

from behind import ENGINE

from contract.sampling import SamplingParams
from python_backend.openvino.scratch import ScratchPipeline


class TokenizerInfo:
    """A tokenizer's vocabulary."""

    @classmethod
    def from_huggingface(cls, tokenizer: Any, **_: Any) -> "TokenizerInfo":
        """Of a tokenizer of transformers."""
        assert tokenizer.is_fast
        return cls()


class GrammarCompiler:
    """It raises a RuntimeError for what it cannot compile."""

    def __init__(self, tokenizer_info: TokenizerInfo, max_threads: int = 8) -> None:
        self._pipeline = ScratchPipeline(Path(os.environ[ENGINE]).resolve())

    def compile_json_schema(self, schema: str) -> None:
        """JSON text."""
        self._compile("json_schema", schema)

    def compile_regex(self, regex: str) -> None:
        """An expression."""
        self._compile("regex", regex)

    def compile_grammar(self, grammar: str) -> None:
        """EBNF."""
        self._compile("ebnf_grammar", grammar)

    def compile_structural_tag(self, tag: str) -> None:
        """Of one that is a grammar; OpenVINO has no others."""
        match json.loads(tag):
            case {"format": {"type": "grammar", "grammar": grammar}}:
                self._compile("ebnf_grammar", grammar)
            case _:
                raise RuntimeError("the double has no structural tags")

    def _compile(self, kind: str, guide: str) -> None:
        self._pipeline.compile(SamplingParams(guided_decoding_guide_type=kind, guided_decoding_guide=guide))
