"""xgrammar as vLLM, SGLang and LMDeploy use it, beside them: it compiles a guide as they will, and can be lost."""

from pathlib import Path

from contract.sampling import SamplingParams


class ScratchCompiler:
    """Compiles guides for a model's tokenizer."""

    def __init__(self, engine: Path, *, tags: bool = True) -> None:
        """
        Args:
            tags: structural tags too; vLLM checks those itself.
        """
        import xgrammar
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(engine, local_files_only=True)
        self._compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo.from_huggingface(tokenizer), max_threads=1)
        self._tags = tags

    def compile(self, sampling: SamplingParams) -> None:
        """Compile a request's guide; xgrammar raises for what it cannot."""
        text = sampling.guided_decoding_guide
        match sampling.guided_decoding_guide_type:
            case "json":
                self._compiler.compile_json_schema(text or '{"type": "object"}')
            case "json_schema":
                self._compiler.compile_json_schema(text)
            case "regex":
                self._compiler.compile_regex(text)
            case "ebnf_grammar":
                self._compiler.compile_grammar(text)
            case _ if self._tags:
                self._compiler.compile_structural_tag(text)
