"""An engine that this machine or this config cannot run is refused with what does not fit and the way out."""

import json
from pathlib import Path
from typing import Any

import pytest

from contract.errors import ServeError
from contract.manifest import MANIFEST, Machine, Manifest, check_engine, load_manifest, now, this_machine
from contract.spec import Deployment

HERE = Machine(arch="x86_64", cpu="This One", instruction_sets=("avx2", "fma"))
SPEC = Deployment.model_validate(
    {
        "name": "real",
        "source": {"kind": "path", "path": "/models/real"},
        "engine": {"runtime": "openvino", "precision": "int8"},
        "limits": {"max_seq_len": 512, "max_input_len": 256},
    }
)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    (tmp_path / "model.bin").write_bytes(b"12345")
    manifest = Manifest(
        deployment="real",
        version="v1",
        runtime="openvino",
        precision="int8",
        origin=None,
        built_with={},
        built_for=HERE,
        max_position_embeddings=512,
        vocab_size=10,
        eos_token_ids=(2,),
        measured=None,
        built_at=now(),
        build_seconds=1.0,
        size_bytes=5,
        files={"model.bin": 5},
    )
    (tmp_path / MANIFEST).write_text(manifest.model_dump_json())
    return tmp_path


def refusal(engine: Path, spec: Deployment = SPEC, machine: Machine = HERE) -> str:
    with pytest.raises(ServeError) as refused:
        check_engine(engine, spec, machine)
    assert refused.value.fix
    return str(refused.value)


def edit(engine: Path, **values: Any) -> None:
    path = engine / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def with_(section: str, **values: Any) -> Deployment:
    return SPEC.model_copy(update={section: getattr(SPEC, section).model_copy(update=values)})


def test_a_fitting_engine_is_accepted(engine: Path) -> None:
    assert check_engine(engine, SPEC, HERE) == load_manifest(engine)


def test_this_machine_can_be_compared() -> None:
    machine = this_machine()
    assert machine.arch and machine.cpu
    assert Machine.model_validate_json(machine.model_dump_json()) == machine


def test_a_machine_with_more_instruction_sets_is_accepted(engine: Path) -> None:
    check_engine(engine, SPEC, HERE.model_copy(update={"instruction_sets": ("avx2", "fma", "avx512f")}))


def test_another_arch(engine: Path) -> None:
    said = refusal(engine, machine=Machine(arch="aarch64", cpu="Arm", instruction_sets=()))
    assert said == f"{engine} was built for x86_64, this is aarch64. Run make engine on this machine"


def test_a_missing_instruction_set(engine: Path) -> None:
    said = refusal(engine, machine=Machine(arch="x86_64", cpu="An Older One", instruction_sets=("avx2",)))
    assert "was built and verified with fma (This One); this CPU (An Older One) has none of it" in said
    assert said.endswith("Run make engine on this machine")


def test_a_changed_precision(engine: Path) -> None:
    said = refusal(engine, with_("engine", precision="fp32"))
    assert "is a openvino engine in int8; the config asks for openvino in fp32" in said


def test_a_changed_runtime(engine: Path) -> None:
    edit(engine, runtime="vllm")
    assert "is a vllm engine in int8" in refusal(engine)


def test_a_context_beyond_the_models(engine: Path) -> None:
    said = refusal(engine, with_("limits", max_seq_len=513))
    assert said == "limits.max_seq_len is 513, the model's context is 512. Lower limits.max_seq_len"


@pytest.mark.parametrize("size", [None, 0, 4, 6])
def test_a_file_missing_or_of_another_length(engine: Path, size: int | None) -> None:
    (engine / "model.bin").unlink()
    if size is not None:
        (engine / "model.bin").write_bytes(b"x" * size)
    assert f"{engine / 'model.bin'} is missing or not 5 bytes long" in refusal(engine)


def test_no_manifest(engine: Path) -> None:
    (engine / MANIFEST).unlink()
    assert refusal(engine) == f"no engine at {engine}. Run make engine first"


def test_a_manifest_of_another_format(engine: Path) -> None:
    edit(engine, format=2)
    assert "is not a manifest of this version of Conch (1 faults, the first: Input should be 1)" in refusal(engine)


def test_a_manifest_with_unknown_keys(engine: Path) -> None:
    edit(engine, colour="green")
    assert "is not a manifest of this version of Conch" in refusal(engine)


def test_a_manifest_cut_short(engine: Path) -> None:
    (engine / MANIFEST).write_text('{"format": 1, "depl')
    assert "is not a manifest of this version of Conch" in refusal(engine)
