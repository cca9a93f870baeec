"""xgrammar as vLLM uses it, beside vLLM: it compiles a guide as the engine will, and can be lost."""

from pathlib import Path

import xgrammar
from transformers import AutoTokenizer

from contract.sampling import SamplingParams
from python_backend.guides import reason


class ScratchCompiler:
    """Compiles guides for a model's tokenizer."""

    def __init__(self, engine: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(engine, local_files_only=True)
        self._compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo.from_huggingface(tokenizer), max_threads=1)

    def refusal(self, sampling: SamplingParams) -> str:
        """Why the engine would fail on this guide; '' if it would not."""
        text = sampling.guided_decoding_guide
        try:
            match sampling.guided_decoding_guide_type:
                case "json":
                    self._compiler.compile_json_schema(text or '{"type": "object"}')
                case "json_schema":
                    self._compiler.compile_json_schema(text)
                case "regex":
                    self._compiler.compile_regex(text)
                case "ebnf_grammar":
                    self._compiler.compile_grammar(text)
                case _:  # vLLM itself checks a structural tag
                    return ""
        except (RuntimeError, ValueError) as error:
            return reason(error)
        return ""
