"""GGUF → checkpoint: exact where it converts, refused where it would not be."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer

from build.convert import convert, prove
from contract.errors import BuildError
from tests import tiny
from tests.build.conftest import make_site
from tests.build.gguf_file import write_gguf
from tests.tokenizers_zoo import CORPUS


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> Path:
    """The tiny Llama, to GGUF and back."""
    folder = tmp_path_factory.mktemp("gguf")
    return _convert(write_gguf(folder / "tiny.gguf", llama))


def _convert(file: Path) -> Path:
    target = file.parent / "checkpoint"
    target.mkdir()
    fetched = file.parent / "fetched"
    fetched.mkdir()
    (fetched / file.name).symlink_to(file)
    convert(fetched, target)
    return target


def test_every_weight_comes_back(converted: Path, llama: Path) -> None:
    ours, theirs = load_file(converted / "model.safetensors"), load_file(llama / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, weights in theirs.items():
        assert np.array_equal(ours[name], weights), name


def test_the_tokenizer_comes_back(converted: Path, llama: Path) -> None:
    ours, theirs = AutoTokenizer.from_pretrained(converted), AutoTokenizer.from_pretrained(llama)
    assert ours.get_vocab() == theirs.get_vocab()
    for line in [*CORPUS, "one<|end|>two 1234567"]:
        assert ours.encode(line) == theirs.encode(line)
        assert ours.decode(ours.encode(line)) == line
    assert ours.eos_token_id == theirs.eos_token_id
    assert ours.chat_template == theirs.chat_template


def test_a_containers_user_may_read_it(converted: Path) -> None:
    assert [path.name for path in converted.iterdir() if path.stat().st_mode & 0o444 != 0o444] == []


def test_it_speaks_as_before(converted: Path, llama: Path) -> None:
    assert tiny.greedy(converted, [5, 6, 7], 32) == tiny.greedy(llama, [5, 6, 7], 32)


def test_older_transformers_can_read_it(converted: Path) -> None:
    assert json.loads((converted / "config.json").read_text())["rope_theta"] == 10000
    assert json.loads((converted / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert json.loads((converted / "generation_config.json").read_text())["eos_token_id"] == 0


def test_a_gguf_file_becomes_an_engine(tmp_path: Path, llama: Path) -> None:
    site = make_site(tmp_path, write_gguf(tmp_path / "tiny.gguf", llama), verify={"min_greedy_agreement": 1})
    assert site.build().is_dir()
    assert site.steps() == ["convert", "fetch"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokenizer": "llama"}, r"tokenizer \(llama, gpt-2\) is not one that converts exactly.*source\.kind: path"),
        ({"split": "a-new-split"}, r"tokenizer \(gpt2, a-new-split\) is not one that converts exactly"),
        ({"without": "tokenizer.ggml.merges"}, r"tiny\.gguf has no tokenizer\.ggml\.merges\. Fetch it again"),
        ({"architecture": "weird"}, r"tiny\.gguf.*weird"),
        ({"without": "blk.1.ffn_up.weight"}, r"no tensor for model\.layers\.1\.mlp\.up_proj\.weight"),
        ({"rename": {"Ġthe": "a"}}, r"vocabulary and merges do not fit: .*`Ġthe` out of vocabulary"),
        ({"rename": {"~": "!"}}, r"the converted tokenizer has \d+ tokens, the GGUF file \d+"),
    ],
    ids=["tokenizer", "split", "metadata", "architecture", "tensor", "merge of no token", "token twice"],
)
def test_refused(tmp_path: Path, llama: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BuildError, match=said):
        _convert(write_gguf(tmp_path / "tiny.gguf", llama, **changes))


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(tmp_path: Path, llama: Path, share: float) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    os.truncate(file, int(file.stat().st_size * share))
    with pytest.raises(BuildError, match=r"tiny\.gguf is truncated or no GGUF file.*Fetch it again"):
        _convert(file)


def test_two_files_where_one_is_wanted(tmp_path: Path, llama: Path) -> None:
    write_gguf(tmp_path / "one.gguf", llama)
    write_gguf(tmp_path / "two.gguf", llama)
    with pytest.raises(BuildError, match=r"2 GGUF files where one is wanted.*source\.file"):
        convert(tmp_path, tmp_path / "target")


def _proved(converted: Path, folder: Path) -> None:
    """Prove a folder against the file that ``converted`` comes from."""
    reader = GGUFReader(converted.parent / "tiny.gguf")
    prove(reader, {key: field.contents() for key, field in reader.fields.items()}, folder)


@pytest.fixture
def tampered(tmp_path: Path, converted: Path) -> Path:
    """A copy of the converted checkpoint, to spoil."""
    for file in converted.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    _proved(converted, tmp_path)
    return tmp_path


def test_a_tampered_vocabulary_is_named(converted: Path, tampered: Path) -> None:
    path = tampered / "tokenizer.json"
    words = json.loads(path.read_text())
    vocabulary = words["model"]["vocab"]
    vocabulary["!"], vocabulary["#"] = vocabulary["#"], vocabulary["!"]
    path.write_text(json.dumps(words))
    with pytest.raises(BuildError, match=r"token \d+ of the converted tokenizer is '#', the GGUF file says '!'"):
        _proved(converted, tampered)


def test_a_tampered_special_token_is_named(converted: Path, tampered: Path) -> None:
    path = tampered / "tokenizer_config.json"
    path.write_text(path.read_text().replace("<|end|>", "!"))
    with pytest.raises(BuildError, match=r"the converted eos_token_id is \d+, the GGUF file says 0"):
        _proved(converted, tampered)


def test_a_tampered_chat_template_is_named(converted: Path, tampered: Path) -> None:
    (tampered / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(BuildError, match="the converted chat template differs"):
        _proved(converted, tampered)


def test_a_tampered_weight_is_named(converted: Path, tampered: Path) -> None:
    weights = load_file(tampered / "model.safetensors")
    name = "model.layers.0.self_attn.k_proj.weight"
    weights[name][3, 3] += 1e-3
    save_file(weights, tampered / "model.safetensors")
    with pytest.raises(BuildError, match=rf"{name} differs from GGUF tensor blk\.0\.attn_k\.weight"):
        _proved(converted, tampered)
