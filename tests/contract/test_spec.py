"""Deployment specs: what is wrong, on which line, and what was meant."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.errors import SpecError
from contract.spec import Deployment, load_spec

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
GOOD = """\
name: mine
source:
  kind: path
  path: /models/mine
engine:
  precision: int8
limits:
  max_seq_len: 512
  max_input_len: 256
"""


def refusal(folder: Path, text: str) -> str:
    path = folder / "c.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as refused:
        load_spec(path)
    said = str(refused.value)
    assert all(line.startswith(f"{path}") for line in said.splitlines())
    return said.replace(f"{path}", "c.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path: Path) -> None:
    assert load_spec(path).name == path.stem


def test_a_good_spec_is_read_and_frozen(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(GOOD)
    spec = load_spec(tmp_path / "c.yaml")
    assert (spec.name, spec.engine.precision, spec.limits.max_seq_len) == ("mine", "int8", 512)
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        spec.limits.max_seq_len = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            ("  precision: int8\n", "  parallel: {tensor: 2}\n"),
            "c.yaml:5: engine: parallel asks for 2 GPUs, runtime openvino uses none",
        ),
        (
            ("  precision: int8\n", "  parallel: {tensor: 2, expert: 4}\n"),
            "c.yaml:6: engine.parallel: expert (4) must divide tensor (2)",
        ),
        (
            ("  precision: int8\n", "  vllm: {enforce_eager: true}\n"),
            "c.yaml:5: engine: vllm has options for an engine whose runtime is openvino",
        ),
        (
            ("  precision: int8\n", "  runtime: vllm\n  precision: int8\n"),
            "c.yaml:5: engine: precision int8 is none of runtime vllm's: give fp32 or bf16, and vllm.quantization",
        ),
        (
            ("  precision: int8\n", "  runtime: vllm\n  vllm: {enforce_eagre: true}\n"),
            "c.yaml:7: engine.vllm.enforce_eagre: unknown key; did you mean enforce_eager?",
        ),
        (
            ("  precision: int8\n", "  runtime: vllm\n  vllm: {gpu_memory_utilization: 2}\n"),
            "c.yaml:7: engine.vllm.gpu_memory_utilization: input should be less than or equal to 1, got 2",
        ),
        (
            ("  precision: int8\n", "  runtime: vllm\n  vllm: {lora: {adapters: {sea: /sea}, max_rank: 1024}}\n"),
            "c.yaml:7: engine.vllm.lora: max_rank 1024 is above 512, the highest that vLLM has",
        ),
        (
            (
                "  precision: int8\n",
                "  runtime: vllm\n  parallel: {pipeline: 2}\n  vllm: {speculative: {kind: ngram}}\n",
            ),
            "c.yaml:5: engine: parallel.pipeline must be 1 with vllm.speculative",
        ),
        (
            (
                "  precision: int8\n",
                "  runtime: lmdeploy\n  precision: bf16\n  lmdeploy: {speculative: {kind: ngram}}\n",
            ),
            "c.yaml:8: engine.lmdeploy.speculative: unknown key; known keys: backend,",
        ),
        (
            ("  precision: int8\n", "  runtime: synthetic\n  cast: bf16\n"),
            "c.yaml:5: engine: cast is bf16, and runtime synthetic has no weights",
        ),
        (("  precision: int8\n", "  cast: fp16\n"), "c.yaml:6: engine.cast: input should be 'bf16', got 'fp16'"),
        (("precision:", "precison:"), "c.yaml:6: engine.precison: unknown key; did you mean precision?"),
        (("max_seq_len:", "max_seqlen:"), "c.yaml:8: limits.max_seqlen: unknown key; did you mean max_seq_len?"),
        (("limits:", "limit:"), "c.yaml:7: limit: unknown key; did you mean limits?"),
        (("  path: /models", "  pth: /models"), "c.yaml:4: source.pth: unknown key; did you mean path?"),
        (("  path: /models/mine\n", ""), "c.yaml:2: source.path: is missing"),
        (("name: mine", "zzzzzzzz: 1\nname: mine"), "c.yaml:1: zzzzzzzz: unknown key; known keys: name, source"),
        (("name: mine", "1: 2\nname: mine"), "c.yaml:1: 1: "),
        (("name: mine\n", ""), "c.yaml:1: name: is missing"),
        (("name: mine", "name: Mine!"), "c.yaml:1: name: string should match pattern"),
        (("name: mine", "name: ensemble"), "'ensemble' is taken"),
        (("512", "many"), "c.yaml:8: limits.max_seq_len: input should be a valid integer"),
        (("512", "512.5"), "c.yaml:8: limits.max_seq_len: input should be a valid integer"),
        (("512", "0"), "c.yaml:8: limits.max_seq_len: input should be greater than or equal to 8, got 0"),
        (("512", "[512]"), "c.yaml:8: limits.max_seq_len: input should be a valid integer"),
        (("int8", "int7"), "c.yaml:6: engine.precision: input should be 'fp32', 'bf16', 'fp16', 'int8', 'int4'"),
        (("kind: path", "kind: moon"), "c.yaml:2: source: input tag 'moon'"),
        (
            ("max_input_len: 256", "max_input_len: 512"),
            "c.yaml:7: limits: max_input_len (512) must be below max_seq_len",
        ),
        (("engine:", "ports: {http: 8001}\nengine:"), "c.yaml:5: ports: grpc and http are both 8001"),
        (("  precision: int8", "  runtime: synthetic"), "source and engine.runtime 'synthetic' contradict each other"),
        (("limits:\n", "limits:\n  max_seq_len: 99\n"), "c.yaml:9: max_seq_len: given twice"),
        (("name: mine", "name: mine\nname: mine"), "c.yaml:2: name: given twice"),
        (("engine:\n  precision: int8\n", "engine: int8\n"), "c.yaml:5: engine: input should be a valid dictionary"),
    ],
)
def test_faults_have_a_line_a_key_and_a_way_out(tmp_path: Path, changed: tuple[str, str], said: str) -> None:
    assert changed[0] in GOOD
    assert said in refusal(tmp_path, GOOD.replace(*changed, 1))


def test_every_fault_has_a_line_of_its_own(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace("int8", "int7").replace("512", "0").replace("max_input", "max_inptu"))
    assert [line.split(": ")[1] for line in said.splitlines()] == [
        "engine.precision",
        "limits.max_seq_len",
        "limits.max_inptu_len",
    ]


def test_weights_are_needed_unless_synthetic(tmp_path: Path) -> None:
    assert "source is needed: runtime openvino has weights" in refusal(tmp_path, "name: mine\n")
    (tmp_path / "c.yaml").write_text("name: mine\nengine: {runtime: synthetic}\n")
    assert load_spec(tmp_path / "c.yaml").source is None


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    assert "must be a mapping" in refusal(tmp_path, text)


def test_not_yaml(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: [unclosed\n")
    with pytest.raises(SpecError, match=r"(?s)c\.yaml is not YAML: .*line 2"):
        load_spec(tmp_path / "c.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "smollm2-135m.yaml").write_text(GOOD)
    with pytest.raises(SpecError, match=r"no config .*\. Did you mean .*/smollm2-135m\.yaml\?"):
        load_spec(tmp_path / "smolm2-135m.yaml")
    with pytest.raises(SpecError, match="CONFIG= names it"):
        load_spec(tmp_path / "nowhere" / "x.yaml")
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path / "latin.yaml")


@given(text=st.text())
def test_any_text_is_a_spec_or_a_clean_refusal(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        assert isinstance(load_spec(path), Deployment)
    except SpecError as refused:
        assert str(path) in str(refused)
