"""The checkpoint's tokenizer, for every builder: it must be a fast one, which is what the stages read."""

from pathlib import Path
from typing import Any

from build.steps import reason
from contract.errors import BuildError


def load_fast_tokenizer(checkpoint: Path) -> Any:
    """The tokenizer, as transformers loads it.

    Raises:
        BuildError: it does not load, or is no fast one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    except Exception as error:  # tokenizers raises nothing narrower
        raise BuildError(
            f"the checkpoint's tokenizer cannot be loaded: {reason(error)}", fix="Download its files again"
        ) from None
    if not tokenizer.is_fast:
        raise BuildError("the checkpoint's tokenizer has no tokenizer.json", fix="Convert it to a fast tokenizer")
    return tokenizer
