"""The generated model repository, read back as Triton reads it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from build.repository import write_repository
from contract.nvidia import ALL_INPUTS, ALL_OUTPUTS, TEXT, TOKENS, View
from contract.spec import Deployment
from contract.stage import StageConfig
from contract.tensors import ENGINE_DELTA, ENGINE_REQUEST, Tensor, stage_names
from contract.unary import PARAMETER, UnaryConfig
from tests.build.conftest import CODE, Site

SPEC = Deployment.model_validate({"name": "echo", "engine": {"runtime": "synthetic"}})
STAGES = {
    "echo_preprocess": "python_backend.preprocess.model",
    "echo_engine": "python_backend.engine_model",
    "echo_postprocess": "python_backend.postprocess.model",
}
VIEWS = {"echo": TEXT, "ensemble": TEXT, "tensorrt_llm_streaming": TOKENS}
UNARY = {"tensorrt_llm_bls": (TEXT, "echo"), "tensorrt_llm": (TOKENS, "tensorrt_llm_streaming")}
MODELS = [*STAGES, *VIEWS, *UNARY]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("repository"), SPEC, None)


def config_of(repository: Path, model: str) -> Any:
    return text_format.Parse((repository / model / "config.pbtxt").read_text(), pb.ModelConfig())


def declared(tensors: Any) -> list[tuple[str, str, tuple[int, ...], bool]]:
    """What a config says of its tensors, dtypes in the contract's names."""
    names = {"STRING": "BYTES"}
    found = []
    for tensor in tensors:
        dtype = pb.DataType.Name(tensor.data_type).removeprefix("TYPE_")
        found.append(
            (tensor.name, names.get(dtype, dtype), tuple(tensor.dims), bool(getattr(tensor, "optional", False)))
        )
    return found


def of_tensors(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> View:
    return View({tensor.name: tensor for tensor in inputs}, {tensor.name: tensor for tensor in outputs})


def test_every_model_is_there_under_its_own_name(repository: Path) -> None:
    assert sorted(path.name for path in repository.iterdir()) == sorted(MODELS)
    for model in MODELS:
        assert config_of(repository, model).name == model
        assert (repository / model / "1").is_dir()


@pytest.mark.parametrize(
    ("model", "view"),
    [
        *VIEWS.items(),
        *((model, view) for model, (view, _) in UNARY.items()),
        ("echo_preprocess", of_tensors(ALL_INPUTS, (ENGINE_REQUEST,))),
        ("echo_engine", of_tensors((ENGINE_REQUEST, *ALL_INPUTS), (ENGINE_DELTA, *ALL_OUTPUTS))),
        ("echo_postprocess", of_tensors((ENGINE_DELTA,), ALL_OUTPUTS)),
    ],
)
def test_tensors_are_the_contracts(repository: Path, model: str, view: View) -> None:
    config = config_of(repository, model)
    optional = {*ALL_INPUTS, ENGINE_REQUEST}
    assert declared(config.input) == [
        (name, tensor.dtype, tensor.dims, tensor in optional) for name, tensor in view.inputs.items()
    ]
    assert declared(config.output) == [
        (name, tensor.dtype, tensor.dims, False) for name, tensor in view.outputs.items()
    ]
    assert config.max_batch_size > 1  # preprocess refuses a batch, and says what to do


@pytest.mark.parametrize("ensemble", VIEWS)
def test_the_ensembles_steps_chain(repository: Path, ensemble: str) -> None:
    config = config_of(repository, ensemble)
    assert config.platform == "ensemble"
    steps = list(config.ensemble_scheduling.step)
    assert tuple(step.model_name for step in steps) == stage_names("echo") == tuple(STAGES)
    known = {tensor.name for tensor in config.input}
    assert set(steps[0].input_map.values()) == known, "an input leads nowhere"
    for step in steps:
        model = config_of(repository, step.model_name)
        assert set(step.input_map) <= {tensor.name for tensor in model.input}
        assert set(step.output_map) <= {tensor.name for tensor in model.output}
        assert set(step.input_map.values()) <= known
        known |= set(step.output_map.values())
    assert {tensor.name for tensor in config.output} <= known


@pytest.mark.parametrize(("model", "asks"), [(model, asks) for model, (_, asks) in UNARY.items()])
def test_a_unary_model_asks_one_that_streams_with_the_same_tensors(repository: Path, model: str, asks: str) -> None:
    told = UnaryConfig.from_json(config_of(repository, model).parameters[PARAMETER].string_value)
    assert (told.asks, told.room, told.python_prefix) == (asks, 128, sys.prefix)
    assert UNARY[model][0] is VIEWS[asks]
    assert "from python_backend.unary_model import" in (repository / model / "1" / "model.py").read_text()


def test_what_streams_is_decoupled(repository: Path) -> None:
    models = [*STAGES, *UNARY]
    decoupled = {model for model in models if config_of(repository, model).model_transaction_policy.decoupled}
    assert decoupled == {"echo_engine", "echo_postprocess"}


def test_every_stage_is_told_the_whole_deployment(repository: Path) -> None:
    for model in STAGES:
        told = StageConfig.from_json(config_of(repository, model).parameters[PARAMETER].string_value)
        assert told.spec == SPEC
        assert told.engine is None
        assert told.python_prefix == sys.prefix


@pytest.mark.parametrize(("model", "module"), STAGES.items())
def test_model_py_names_a_stage(repository: Path, model: str, module: str) -> None:
    code = repository / model / "1" / "model.py"
    text = code.read_text()
    assert f"from {module} import TritonPythonModel as TritonPythonModel" in text
    there = re.search(r'parent / "(.*)"\)', text)
    assert there and (code.parent.resolve() / there[1]).resolve() == CODE
    source = importlib.util.find_spec(module)
    assert source and source.origin and "class TritonPythonModel" in Path(source.origin).read_text()


def test_writing_again_replaces(tmp_path: Path) -> None:
    first = write_repository(tmp_path, SPEC, None)
    (first / "left_over").mkdir()
    slower = SPEC.model_copy(update={"engine": SPEC.engine.model_copy(update={"step_ms": 77.0})})
    assert write_repository(tmp_path, slower, None) == first
    assert not (first / "left_over").exists()
    told = StageConfig.from_json(config_of(first, "echo_engine").parameters[PARAMETER].string_value)
    assert told.spec.engine.step_ms == 77
    assert [path.name for path in first.parent.iterdir()] == ["echo"]


def test_an_engine_is_named_by_its_version(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    repository = write_repository(tmp_path, SPEC, tmp_path / "current")
    told = StageConfig.from_json(config_of(repository, "echo_engine").parameters[PARAMETER].string_value)
    assert told.engine == tmp_path / "v1"  # a server goes on with the engine it started with


def test_the_program_of_a_runtime_without_weights_writes_only_this(site: Site) -> None:
    site.change(source=None, engine={"runtime": "synthetic"})
    run = site.run()
    assert run.returncode == 0, run.stderr
    assert run.stderr.splitlines() == [
        f"✓ model repository: {site.root}/model_repository/tiny",
        f"next: make serve CONFIG={site.config}",
    ]
    assert not (site.root / "engines").exists()


def test_build_repository_refuses_a_bad_config(tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("name: bad\nengine: {runtime: synthetik}\n")
    run = subprocess.run(
        [sys.executable, "-m", "build.repository", str(config)],
        cwd=CODE,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert run.stderr.startswith(f"{config}:2: engine.runtime: ")
    assert "Traceback" not in run.stderr
