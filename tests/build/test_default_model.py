"""The default model's conversion, proved on the files that ``make engine`` left."""

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from gguf import GGUFReader
from transformers import AutoTokenizer

from build.verify import TEXT
from contract.manifest import load_manifest
from python_backend.openvino.scoring import ScoringModel
from tests import tiny

HOME = Path(__file__).resolve().parents[2] / "engines" / "smollm2-135m"
ENGINE = HOME / "current"


def newest(pattern: str) -> Path:
    found = sorted((HOME / ".work").glob(pattern), key=lambda path: path.stat().st_mtime)
    assert found, f"run make engine: {HOME}/.work has no {pattern}"
    return found[-1]


@pytest.fixture(scope="module")
def fields() -> dict[str, Any]:
    """The GGUF file's metadata."""
    reader = GGUFReader(newest("fetch-*/*.gguf"))
    return {key: field.contents() for key, field in reader.fields.items()}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The published engine's."""
    return AutoTokenizer.from_pretrained(ENGINE)


def test_vocabulary_id_by_id(fields: dict[str, Any], tokenizer: Any) -> None:
    tokens = fields["tokenizer.ggml.tokens"]
    assert len(tokens) == load_manifest(ENGINE).vocab_size == 49152
    assert tokenizer.convert_ids_to_tokens(range(len(tokens))) == tokens


def test_special_tokens(fields: dict[str, Any], tokenizer: Any) -> None:
    kinds = fields["tokenizer.ggml.token_type"]
    special = [index for index, kind in enumerate(kinds) if kind == 3]
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2]
    assert set(tokenizer.all_special_ids) <= set(special)
    for index in special:
        word = fields["tokenizer.ggml.tokens"][index]
        assert tokenizer.encode(f"a{word}b", add_special_tokens=False)[1:-1] == [index]
        assert tokenizer.decode([index], skip_special_tokens=True) == ""
    roles = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert roles == tuple(fields[f"tokenizer.ggml.{role}_token_id"] for role in ("bos", "eos", "padding"))
    assert load_manifest(ENGINE).eos_token_ids == (tokenizer.eos_token_id,)


def test_chat_template(fields: dict[str, Any], tokenizer: Any) -> None:
    assert tokenizer.chat_template == fields["tokenizer.chat_template"]
    said = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert said.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("In 2024", ["In", "Ġ", "2", "0", "2", "4"]),
        ("1234567", list("1234567")),
        ("x=3.14", ["x", "=", "3", ".", "1", "4"]),
    ],
)
def test_numbers_are_split_into_digits(fields: dict[str, Any], tokenizer: Any, text: str, pieces: list[str]) -> None:
    assert fields["tokenizer.ggml.pre"] == "smollm"
    assert tokenizer.tokenize(text) == pieces


def test_text_comes_back(tokenizer: Any) -> None:
    text = "naïve café 日本語 🙂👩‍👩‍👧‍👦\tdef f(x):\n    return x ** 2  # 1,024"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_greedy_text(tokenizer: Any) -> None:
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    answer = tiny.greedy(newest("convert-*"), prompt, 8)
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


def test_scores_are_the_checkpoints(tokenizer: Any) -> None:
    """Of an int8 engine as near as its weights are, and of each token by itself."""
    ids = tokenizer.encode(TEXT.read_text(encoding="utf-8"))[:200]
    told = ScoringModel(ENGINE, 2).scores(ids, 1, 1, lambda: True)
    assert told
    expected = tiny.log_probs(newest("convert-*"), ids)
    wanted = [row[token] for row, token in zip(expected, ids[1:], strict=False)]
    off = [abs(ours - theirs) for ours, theirs in zip(told.log_probs, wanted, strict=True)]
    assert fmean(off) < 0.1 and max(off) < 1
    assert fmean(told.log_probs) == pytest.approx(fmean(wanted), abs=0.02)
    likeliest = [max(range(len(row)), key=row.__getitem__) for row in expected]
    same = [tops[0].token_id == token for tops, token in zip(told.top, likeliest, strict=False)]
    assert fmean(same) > 0.95
