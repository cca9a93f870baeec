"""The checkpoint's tokenizer, for every builder: it must be a fast one, which is what the stages read."""

from pathlib import Path
from typing import Any

from build.steps import reason
from contract.errors import BuildError


def load_tokenizer(checkpoint: Path) -> Any:
    """The tokenizer, as transformers loads it.

    Raises:
        BuildError: it does not load.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    except Exception as error:  # tokenizers raises nothing narrower
        raise BuildError(
            f"the checkpoint's tokenizer cannot be loaded: {reason(error)}", fix="Download its files again"
        ) from None


def load_fast_tokenizer(checkpoint: Path) -> Any:
    """The tokenizer, where it is a fast one.

    Raises:
        BuildError: it does not load, or is none.
    """
    tokenizer = load_tokenizer(checkpoint)
    if not tokenizer.is_fast:
        raise BuildError("the checkpoint's tokenizer has no tokenizer.json", fix="Convert it to a fast tokenizer")
    return tokenizer
