"""FP8 with block scales → BF16: every number right, every name in its place, whatever kills it on the way."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from build.cast import cast
from build.cast_command import main, publish
from build.fp8 import Decoder
from build.steps import resumable_step
from contract.errors import BuildError
from contract.manifest import digest, load_manifest
from tests import tiny
from tests.build.conftest import CODE, LOOSE, Site, make_site
from tests.build.fp8_checkpoint import BLOCK, INDEX, QUANTIZATION, quantize, random_weight, spread, to_fp8, write

Reference = npt.NDArray[np.uint16]
# Every finite BF16 number of one sign, and the first that is beyond: what rounds to it is infinite.
_BITS = np.arange(0x7F80, dtype=np.uint32)
_NUMBERS = np.append((_BITS << 16).view(np.float32).astype(np.float64), 2.0**128)


def nearest(codes: torch.Tensor, scales: torch.Tensor) -> Reference:
    """The BF16 bits of codes × scales by search among all BF16 numbers, in float64, where the products are exact."""
    exact = (codes.double() * spread(scales, tuple(codes.shape)).double()).numpy()
    size = np.abs(exact)
    above = np.minimum(np.searchsorted(_NUMBERS, size), len(_NUMBERS) - 1)
    below = np.maximum(above - 1, 0)
    up, down = _NUMBERS[above] - size, size - _NUMBERS[below]
    bits = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below).astype(np.uint16)
    bits = np.where(size >= _NUMBERS[-1], 0x7F80, bits)
    bits = np.where(np.isnan(exact), 0x7FC0, bits)
    return np.asarray(bits | (np.signbit(exact).astype(np.uint16) << 15), dtype=np.uint16)


def decoded(codes: torch.Tensor, scales: torch.Tensor) -> Reference:
    out = torch.empty(codes.shape, dtype=torch.bfloat16)
    Decoder().decode(codes.view(torch.uint8), scales.numpy(), out)
    return bits_of(out)


def bits_of(tensor: torch.Tensor) -> Reference:
    assert tensor.dtype == torch.bfloat16
    return np.asarray(tensor.view(torch.int16).numpy().view(np.uint16))


def all_codes(count: int) -> torch.Tensor:
    """``count`` blocks one below the other, each with every code."""
    return torch.arange(256, dtype=torch.uint8).repeat(count * BLOCK // 2).view(-1, BLOCK).view(torch.float8_e4m3fn)


def delicate(seed: int, count: int) -> torch.Tensor:
    """Scales that some code's significand takes close to the middle between two BF16 numbers."""
    rng = np.random.default_rng(seed)
    middle = (rng.integers(1 << 7, 1 << 8, count) * 2 + 1) * 2.0**15
    scales = (middle / rng.integers(8, 16, count)).astype(np.float32)
    scales = (scales.view(np.int32) + rng.integers(-1, 2, count, dtype=np.int32)).view(np.float32)
    return torch.from_numpy(np.ldexp(scales, rng.integers(-60, 0, count)).astype(np.float32))[:, None]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 2 * BLOCK + 3),
    columns=st.integers(1, 2 * BLOCK + 3),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_any_codes_scales_and_shapes(rows: int, columns: int, seed: int, data: st.DataObject) -> None:
    codes, scales = random_weight(rows, columns, seed)
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    for index in np.ndindex(tuple(scales.shape)):
        scales[index] = data.draw(finite | st.floats(2.0**-14, 2.0**-8, width=32))
    np.testing.assert_array_equal(decoded(codes, scales), nearest(codes, scales))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_products_that_rounding_twice_would_spoil(seed: int) -> None:
    scales = delicate(seed, 16)
    codes = all_codes(16)
    wanted = nearest(codes, scales)
    np.testing.assert_array_equal(decoded(codes, scales), wanted)


def test_rounding_twice_does_spoil_them() -> None:
    codes, scales = all_codes(64), delicate(0, 64)
    twice = codes.float() * spread(scales, tuple(codes.shape))
    assert (bits_of(twice.bfloat16()) != nearest(codes, scales)).sum() > 100


@pytest.mark.parametrize("exponent", [-149, -140, -127, -126, -118, -117, -116, 117, 118, 119, 120, 127])
def test_scales_at_the_ends_of_the_range(exponent: int) -> None:
    codes = all_codes(4)
    scales = torch.ldexp(torch.tensor([[1.0], [-1.0], [1.1], [1.9]]), torch.tensor(exponent))
    np.testing.assert_array_equal(decoded(codes, scales), nearest(codes, scales))


def test_nan_codes_stay_nan_of_their_sign() -> None:
    bits = decoded(all_codes(1), torch.tensor([[0.5]])).reshape(-1)[:256]
    assert (bits[0x7F], bits[0xFF]) == (0x7FC0, 0xFFC0)
    assert np.isnan((bits.astype(np.uint32) << 16).view(np.float32)).sum() == 2


def test_a_round_trip(tmp_path: Path) -> None:
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(0)).bfloat16()
    codes, scales = to_fp8(weight)
    write(tmp_path / "fp8", {"model.safetensors": {"w": codes, "w_scale_inv": scales}})
    (tmp_path / "bf16").mkdir()
    cast(tmp_path / "fp8", tmp_path / "bf16")
    back = load_file(tmp_path / "bf16" / "model.safetensors")["w"]
    # Half a unit of e4m3's last place, and half of BF16's.
    bound = torch.maximum(weight.float().abs() * (2**-4 + 2**-8), spread(scales, (300, 200)) * 2**-10)
    assert ((back.float() - weight.float()).abs() <= bound).all()
    codes, scales = to_fp8(weight, powers_of_two=True)
    again = torch.from_numpy(decoded(codes, scales).view(np.int16)).view(torch.bfloat16)
    assert torch.equal(to_fp8(again, powers_of_two=True)[0].view(torch.uint8), codes.view(torch.uint8))


def tree(folder: Path) -> dict[str, str]:
    return {file.name: digest(file) for file in sorted(folder.iterdir())}


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
    assert sorted(tree(folder)) == [".cast.json", "config.json", *names, INDEX, "tokenizer.json"]
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
        (INDEX, Path.unlink, rf"has 2 \*\.safetensors and no {INDEX}"),
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


def test_a_step_that_goes_on(tmp_path: Path) -> None:
    (tmp_path / ".cast-old.partial").mkdir()

    def half(folder: Path) -> None:
        (folder / "half").touch()
        raise BuildError("interrupted")

    with pytest.raises(BuildError, match="interrupted"):
        resumable_step(tmp_path, "cast", "new", half)
    assert [path.name for path in tmp_path.iterdir()] == [".cast-new.partial"]
    done = resumable_step(tmp_path, "cast", "new", lambda folder: (folder / "half").rename(folder / "whole"))
    assert [path.name for path in done.iterdir()] == ["whole"]
    assert resumable_step(tmp_path, "cast", "new", lambda _: pytest.fail("done again")) == done
    with pytest.raises(BuildError, match="refused"):
        resumable_step(tmp_path, "cast", "other", refuse)
    assert list(tmp_path.iterdir()) == [done]


def refuse(_: Path) -> None:
    raise BuildError("refused")


KILLED = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import torch, build.cast_worker
from build.cast import cast

def begin():
    child = os.fork()
    if not child:
        cast(source, folder)
        os._exit(0)
    return child

source, folder = Path(sys.argv[1]), Path(sys.argv[2])
begun = time.monotonic()
os.waitpid(begin(), 0)
seconds, moments, killed = time.monotonic() - begun, random.Random(0), 0
while killed < 15:
    shutil.rmtree(folder)
    folder.mkdir()
    for kill in range(3):
        child = begin()
        time.sleep(moments.uniform(0, seconds / 2))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert os.waitpid(begin(), 0)[1] == 0
    os.system(f"cd {folder} && sha256sum $(ls -A)")
"""


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    shards = {}
    for number in range(8):
        codes, scales = random_weight(1024, 1024, number)
        shards[f"model-{number}.safetensors"] = {f"{number}.w": codes, f"{number}.w_scale_inv": scales}
    source = write(tmp_path / "fp8", shards)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    cast(source, tmp_path / "whole")
    whole = [f"{sha256}  {name}" for name, sha256 in tree(tmp_path / "whole").items()]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, source, tmp_path / "killed"],
        cwd=CODE,
        check=True,
        capture_output=True,
        text=True,
    )
    said = run.stdout.splitlines()
    assert len(said) >= 5 * len(whole)
    assert sorted(said) == sorted(whole * (len(said) // len(whole)))


def test_what_was_cast_from_another_checkpoint_is_not_taken_up(tmp_path: Path) -> None:
    folder = tmp_path / "bf16"
    folder.mkdir()
    cast(write(tmp_path / "fp8", ONE), folder)
    before = tree(folder)
    other, scales = random_weight(200, 130, 9)
    cast(write(tmp_path / "fp8", {"model.safetensors": {"w": other, "w_scale_inv": scales}}), folder)
    assert tree(folder)["model.safetensors"] != before["model.safetensors"]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 64 MiB."""
    shards = {}
    for number in range(2):
        codes, scales = random_weight(8192, 8192, number)
        shards[f"model-{number}.safetensors"] = {f"{number}.w": codes, f"{number}.w_scale_inv": scales}
    return write(tmp_path_factory.mktemp("big") / "fp8", shards)


PEAK = """
import sys
from pathlib import Path
import torch, build.cast_worker
from build.cast import cast
def memory(key):
    return int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0]) << 10
before = memory("VmRSS")
cast(Path(sys.argv[1]), Path(sys.argv[2]))
print(memory("VmHWM") - before)
"""


def test_memory_is_bounded(tmp_path: Path, big: Path) -> None:
    (tmp_path / "bf16").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", PEAK, big, tmp_path / "bf16"], cwd=CODE, check=True, capture_output=True, text=True
    )
    assert int(run.stdout) < 2 * (big / "model-0.safetensors").stat().st_size


def test_interrupted_by_hand_it_goes_on(tmp_path: Path, big: Path) -> None:
    target = tmp_path / "bf16"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "build.cast_command", big, target],
        cwd=CODE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    ) as run:
        os.close(theirs)
        while not list(tmp_path.glob(".bf16.partial/.model-1.safetensors.unfinished")):
            assert run.poll() is None
            time.sleep(0.001)
        with pytest.raises(BuildError, match=r"another cast is at work in .*\.bf16\.partial"):
            publish(big, target)
        run.send_signal(signal.SIGINT)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    said = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", shown.decode())
    assert run.returncode == 130
    assert re.search(r"cast .*/268\.\d MB .*[MG]B/s \d:\d\d:\d\d", said)
    assert said.splitlines()[-1] == "interrupted: run it again and it goes on where it stopped"
    assert not target.exists()

    publish(big, target)
    assert not list(tmp_path.glob(".bf16*"))
    assert len(list(target.glob("*.safetensors"))) == 2


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nobody holds the other end
        return b""


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
