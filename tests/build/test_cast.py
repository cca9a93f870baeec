"""A checkpoint in block FP8 → BF16: every name in its place, and refusals that say what is wrong."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from build.cast import cast
from build.cast_command import main, publish
from contract.errors import BuildError
from contract.manifest import digest, load_manifest
from tests import tiny
from tests.build.conftest import LOOSE, Site, make_site
from tests.build.fp8_checkpoint import INDEX, QUANTIZATION, bits_of, nearest, quantize, random_weight, write


def test_a_checkpoint(tmp_path: Path) -> None:
    """Ragged edges, a scale in another shard, a shard of scales alone, types that are copied, BF16 scales."""
    a, a_scales = random_weight(300, 513, 1)
    b, b_scales = random_weight(64, 20000, 2)
    c, c_scales = random_weight(1, 1, 3)
    d, d_scales = random_weight(0, 128, 4)
    norm, router, odd = torch.rand(7).bfloat16(), torch.rand(3, 5), torch.arange(3, dtype=torch.uint8)
    source = write(
        tmp_path / "fp8",
        {
            "model-1.safetensors": {"a.weight": a, "b.weight": b, "b.weight_scale_inv": b_scales, "odd": odd},
            "model-2.safetensors": {"a.weight_scale_inv": a_scales, "c.weight": c, "norm": norm, "router": router},
            "model-3.safetensors": {"c.weight_scale_inv": c_scales.bfloat16(), "d.weight_scale_inv": d_scales},
            "model-4.safetensors": {"d.weight": d},
        },
        torch_dtype="float8_e4m3fn",
        hidden_size=7,
    )
    (source / "tokenizer.json").write_text("{}")
    (source / "pytorch_model.bin").write_text("the same in another format")
    folder = tmp_path / "bf16"
    folder.mkdir()
    cast(source, folder)

    names = ["model-1.safetensors", "model-2.safetensors", "model-4.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == [
        ".cast.json",
        "config.json",
        *names,
        INDEX,
        "tokenizer.json",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config == {"architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "hidden_size": 7}
    shards = {name: load_file(folder / name) for name in names}
    found = {name: tensor for tensors in shards.values() for name, tensor in tensors.items()}
    for name, codes, scales in (
        ("a.weight", a, a_scales),
        ("b.weight", b, b_scales),
        ("c.weight", c, c_scales.bfloat16().float()),
        ("d.weight", d, d_scales),
    ):
        np.testing.assert_array_equal(bits_of(found.pop(name)), nearest(codes, scales))
    for name, same in (("norm", norm), ("router", router), ("odd", odd)):
        assert found[name].dtype == same.dtype and torch.equal(found.pop(name), same)
    assert found == {}

    index = json.loads((folder / INDEX).read_text())
    assert index["weight_map"] == {tensor: name for name in names for tensor in shards[name]}
    total = sum(tensor.nbytes for tensors in shards.values() for tensor in tensors.values())
    assert index["metadata"] == {"total_size": total}
    # As the library itself would have written it, byte for byte.
    for name in names:
        with safe_open(folder / name, "pt") as opened:
            save_file(shards[name], tmp_path / "again.safetensors", metadata=opened.metadata())
        assert digest(tmp_path / "again.safetensors") == digest(folder / name)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"dtype": "float32"}, {"dtype": "bfloat16"}),
        ({"torch_dtype": "auto", "dtype": "auto"}, {"torch_dtype": "bfloat16", "dtype": "bfloat16"}),
        ({}, {"torch_dtype": "bfloat16"}),
    ],
)
def test_the_type_in_the_config(tmp_path: Path, given: dict[str, str], wanted: dict[str, str]) -> None:
    codes, scales = random_weight(2, 2)
    source = write(tmp_path / "fp8", {"model.safetensors": {"w": codes, "w_scale_inv": scales}})
    (source / "config.json").write_text(json.dumps(given | {"quantization_config": QUANTIZATION}))
    (tmp_path / "bf16").mkdir()
    cast(source, tmp_path / "bf16")
    assert json.loads((tmp_path / "bf16" / "config.json").read_text()) == wanted


FP8, SCALES = random_weight(200, 130)
ONE = {"model.safetensors": {"w": FP8, "w_scale_inv": SCALES}}


def altered(**tensors: torch.Tensor | None) -> dict[str, dict[str, torch.Tensor]]:
    whole: dict[str, torch.Tensor | None] = {**ONE["model.safetensors"], **tensors}
    return {"model.safetensors": {name: tensor for name, tensor in whole.items() if tensor is not None}}


def quantization(**changes: object) -> dict[str, object]:
    return {"quantization_config": QUANTIZATION | changes}


@pytest.mark.parametrize(
    ("shards", "config", "said"),
    [
        (ONE, {"quantization_config": None}, r"config\.json has no quantization_config: it is no FP8 checkpoint"),
        (ONE, quantization(quant_method="gptq"), r"quantization_config\.quant_method is 'gptq', and only 'fp8' can"),
        (ONE, quantization(fmt="e5m2"), r"quantization_config\.fmt is 'e5m2', and only 'e4m3' can be cast"),
        (
            ONE,
            quantization(weight_block_size=[64, 64]),
            r"weight_block_size is \[64, 64\], and only \[128, 128\] can be cast\. Use a checkpoint in DeepSeek's",
        ),
        (ONE, quantization(weight_block_size=None), r"quantization_config\.weight_block_size is None"),
        (altered(w_scale_inv=None), {}, r"w in .*model\.safetensors has no w_scale_inv in any shard\. Download it"),
        (altered(w_scale_inv=SCALES.half()), {}, r"w_scale_inv in .* is F16, not F32 or BF16"),
        (
            altered(w_scale_inv=SCALES[:1]),
            {},
            r"w_scale_inv in .* is \[1, 2\]: w, \[200, 130\], has \[2, 2\] blocks of",
        ),
        (altered(w=FP8.view(1, 200, 130)), {}, r"w_scale_inv in .* is \[2, 2\]: w, \[1, 200, 130\], has \[1, 2, 2\]"),
        (altered(w=FP8.view(torch.float8_e5m2)), {}, r"w in .* is F8_E5M2, and only F8_E4M3 can be cast"),
        (altered(w=torch.rand(2, 2)), {}, r"w_scale_inv in .* scales no FP8 tensor"),
        (altered(w=None, w_scale_inv=None, v=SCALES), {}, r"has no FP8 tensor, whatever its config\.json says"),
        (
            altered(w_scale_inv=torch.tensor([[1.0, 1.0], [1.0, torch.inf]])),
            {},
            r"w_scale_inv in .*model\.safetensors is inf for block \[1, 1\]\. Download it again",
        ),
        ({"a.safetensors": ONE["model.safetensors"], "b.safetensors": {"w": FP8}}, {}, r"w is in .*a\.saf.* and in"),
    ],
)
def test_what_cannot_be_cast(
    tmp_path: Path, shards: dict[str, dict[str, torch.Tensor]], config: dict[str, object], said: str
) -> None:
    refused(write(tmp_path / "fp8", shards, **config), said)


def refused(source: Path, said: str) -> None:
    folder = source.with_name("bf16")
    folder.mkdir()
    with pytest.raises(BuildError, match=said):
        cast(source, folder)
    assert not list(folder.glob("*.safetensors"))


def edit(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("a.safetensors", Path.unlink, r"lacks a\.safetensors, which its index names"),
        (INDEX, Path.unlink, rf"has neither {INDEX} nor model\.safetensors"),
        (INDEX, lambda file: file.write_text("{}"), rf"{INDEX} has no weight_map"),
        (INDEX, lambda file: edit(file, lambda data: data.replace(b'"v"', b'"u"')), r"names u, which is in no shard"),
        ("a.safetensors", lambda file: os.truncate(file, 5), r"a\.safetensors is truncated or no safetensors file"),
        ("a.safetensors", lambda file: os.truncate(file, 99), r"a\.safetensors is truncated or no safetensors file"),
        ("a.safetensors", lambda file: os.truncate(file, 9000), r"a\.safetensors is truncated: 9000 bytes, \d+ prom"),
        ("a.safetensors", lambda file: edit(file, lambda data: data + b"x"), r"a\.safetensors is truncated: \d+ bytes"),
        (
            "a.safetensors",
            lambda file: edit(file, lambda data: data.replace(b"[200,130]", b"[200,131]")),
            r"a\.safetensors is truncated or no safetensors file",
        ),
        (
            "b.safetensors",
            lambda file: edit(file, lambda data: data.replace(b'"data_offsets":[16', b'"data_offsets":[00')),
            r"b\.safetensors",
        ),
        ("config.json", lambda file: file.write_text("["), r"config\.json is not JSON"),
    ],
)
def test_what_is_not_whole(tmp_path: Path, name: str, spoil: Callable[[Path], object], said: str) -> None:
    shards = {"a.safetensors": {"w": FP8}, "b.safetensors": {"v": torch.rand(4), "w_scale_inv": SCALES}}
    source = write(tmp_path / "fp8", shards)
    spoil(source / name)
    refused(source, said)


def test_a_shard_that_shrinks_under_the_cast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "fp8", ONE)
    plan = sys.modules["build.cast"].make_plan

    def shrink(folder: Path) -> object:
        made = plan(folder)
        os.truncate(folder / "model.safetensors", 9000)
        return made

    monkeypatch.setattr("build.cast.make_plan", shrink)
    refused(source, r"model\.safetensors has become shorter")


def test_a_disk_without_room(tmp_path: Path, small_disk: Path) -> None:
    codes, scales = random_weight(1024, 1024)
    source = write(tmp_path / "fp8", {"model.safetensors": {"w": codes, "w_scale_inv": scales}})
    with pytest.raises(BuildError, match=r"cast needs about 2 MiB in .*, 0 MiB are free\. Free some space"):
        cast(source, small_disk)


def test_what_was_cast_from_another_checkpoint_is_not_taken_up(tmp_path: Path) -> None:
    folder = tmp_path / "bf16"
    folder.mkdir()
    cast(write(tmp_path / "fp8", ONE), folder)
    before = digest(folder / "model.safetensors")
    other, scales = random_weight(200, 130, 9)
    cast(write(tmp_path / "fp8", {"model.safetensors": {"w": other, "w_scale_inv": scales}}), folder)
    assert digest(folder / "model.safetensors") != before


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = write(tmp_path / "fp8", ONE), tmp_path / "deeper" / "bf16"
    publish(source, target)
    shard = r"  model\.safetensors: [\d.]+ kB of [\d.]+ kB, .+/s, 0 s left"
    assert re.fullmatch(rf"{shard}\n✓ {target}\n", capsys.readouterr().err)
    publish(source, target)
    assert capsys.readouterr().err == f"✓ {target} is there already\n"
    (target / ".cast.json").unlink()
    for made_from, to, said in (
        (source, target, r"OUT .*/bf16 is there already, and is no BF16 copy of .*/fp8 as it is now\. Remove it, or"),
        (tmp_path / "no", target, r"IN .*/no is no folder\. Name the checkpoint's folder"),
        (target, tmp_path / "x", r"config\.json has no quantization_config: it is no FP8 checkpoint\. Use it as it is"),
    ):
        with pytest.raises(BuildError, match=said):
            publish(made_from, to)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deeper", "fp8"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("fp8/config.json/x", r"✗ .*/fp8/config\.json/\.x\.partial: Not a directory\. Correct this and run it again"),
        ("fp8", r"✗ OUT .*/fp8 is there already, and is no BF16 copy"),
    ],
)
def test_what_the_command_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: str, said: str
) -> None:
    monkeypatch.setattr("build.cast_command.exit_on_interrupt", lambda: None)  # this process keeps its own
    with pytest.raises(SystemExit, match="1"):
        main(write(tmp_path / "fp8", ONE), tmp_path / target)
    assert re.match(said, capsys.readouterr().err)


def test_an_engine_from_a_copy(tmp_path: Path) -> None:
    checkpoint = tiny.write_checkpoint(tmp_path / "bf16", "qwen3", intermediate_size=200)
    source = quantize(checkpoint, tmp_path / "fp8")
    site = make_site(tmp_path, source, engine={"cast": "bf16"}, verify=LOOSE)
    engine = site.build()
    assert site.steps() == ["cast", "convert", "fetch"]
    measured = load_manifest(engine).measured
    assert measured and measured.top1_agreement == 1
    (cast_folder,) = (site.home / ".work").glob("cast-*")
    assert site.build() == engine
    weights = load_file(cast_folder / "model-00001-of-00002.safetensors")
    codes = load_file(source / "model-00001-of-00002.safetensors")
    scales = load_file(source / "model-00002-of-00002.safetensors")
    for name, weight in weights.items():
        np.testing.assert_array_equal(bits_of(weight), nearest(codes[name], scales[f"{name}_scale_inv"]))


def test_an_engine_from_a_copy_of_what_is_no_fp8(site: Site) -> None:
    site.change(engine={"cast": "bf16"})
    with pytest.raises(
        BuildError, match=r"engine\.cast is bf16: .*config\.json has no quantization_config: .*Use it as"
    ):
        site.build()
    assert site.steps() == ["convert", "fetch"]
