"""Deployment spec → Triton model repository: three stages, the ensemble over them, and NVIDIA's names for views of it.

Every config.pbtxt is made as a protobuf message, never as text, and read back before it counts.
Run as ``python -m build.repository CONFIG``: it takes milliseconds, so ``make serve`` writes it anew. With
``--engine FOLDER`` it writes the one of another engine that waits for the supervisor to turn to it (serving/reload.py).
"""

import fcntl
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from contract import programs
from contract.checkout import ROOT
from contract.errors import ConchError
from contract.manifest import engines_root
from contract.nvidia import (
    ALL_INPUTS,
    ALL_OUTPUTS,
    TEXT,
    TEXT_UNARY,
    TOKENS,
    TOKENS_STREAMING,
    TOKENS_UNARY,
    View,
)
from contract.rollout import waiting_repository
from contract.spec import Deployment, load_spec
from contract.stage import LOCK, StageConfig, run_dir
from contract.tensors import (
    ENGINE_DELTA,
    ENGINE_REQUEST,
    ENSEMBLE_ALIAS,
    MAX_BATCH_SIZE,
    Tensor,
    stage_names,
)
from contract.unary import PARAMETER, UnaryConfig

_MODEL_PY = '''"""Written by build.repository: Triton loads the stage named here."""

import sys
from pathlib import Path

sys.path.insert(0, str((Path(__file__).resolve().parent / "{code}").resolve()))

from {module} import TritonPythonModel as TritonPythonModel
'''

_OPTIONAL = {*ALL_INPUTS, ENGINE_REQUEST}  # the engine's stage is asked by preprocess, or by a client itself
_DTYPES = {"BYTES": pb.TYPE_STRING}


def write_repository(root: Path, spec: Deployment, engine: Path | None, target: Path | None = None) -> Path:
    """Write ``model_repository/NAME`` under ``root``, replacing what was there.

    Args:
        engine: the engine folder; None for a runtime without weights.
        target: another place, beside it.

    Returns:
        The repository's folder.
    """
    config = StageConfig(spec, engine.resolve() if engine else None, run_dir(root, spec.name), sys.prefix)
    target = target or root / "model_repository" / spec.name
    unfinished = target.with_name(f".{spec.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    for model, module in _models(config):
        folder = unfinished / model.name
        (folder / "1").mkdir(parents=True)
        text = text_format.MessageToString(model)
        assert text_format.Parse(text, pb.ModelConfig()) == model
        (folder / "config.pbtxt").write_text(text)
        if module:
            code = os.path.relpath(ROOT, (target / model.name / "1").resolve())
            (folder / "1" / "model.py").write_text(_MODEL_PY.format(code=code, module=module))
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return target


def write_unless_served(root: Path, spec: Deployment, engine: Path | None) -> Path | None:
    """:func:`write_repository`, unless a supervisor holds the deployment: it would restart with what it never proved.

    Returns:
        None where it is served, and nothing was written.
    """
    folder = run_dir(root, spec.name)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return write_repository(root, spec, engine)


def current_engine(root: Path, spec: Deployment) -> Path | None:
    """The engine in use, or None for a runtime without weights."""
    return None if spec.source is None else engines_root(root, spec.name) / "current"


def _models(config: StageConfig) -> list[tuple[pb.ModelConfig, str]]:
    """Every model of the repository, with the module that its model.py names."""
    name = config.spec.name
    preprocess, engine, postprocess = stage_names(name)
    return [
        (_stage(config, preprocess, ALL_INPUTS, (ENGINE_REQUEST,)), programs.PREPROCESS),
        (
            _stage(config, engine, (ENGINE_REQUEST, *ALL_INPUTS), (ENGINE_DELTA, *ALL_OUTPUTS), decoupled=True),
            programs.ENGINE,
        ),
        (_stage(config, postprocess, (ENGINE_DELTA,), ALL_OUTPUTS, decoupled=True), programs.POSTPROCESS),
        (_streaming(name, TEXT, name), ""),
        (_streaming(ENSEMBLE_ALIAS, TEXT, name), ""),
        (_streaming(TOKENS_STREAMING, TOKENS, name), ""),
        (_unary(config, TEXT_UNARY, TEXT, name), programs.UNARY),
        (_unary(config, TOKENS_UNARY, TOKENS, TOKENS_STREAMING), programs.UNARY),
    ]


def _stage(
    config: StageConfig, name: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], *, decoupled: bool = False
) -> pb.ModelConfig:
    view = View({tensor.name: tensor for tensor in inputs}, {tensor.name: tensor for tensor in outputs})
    model = _python(name, view, config.to_json())
    model.model_transaction_policy.decoupled = decoupled
    return model


def _unary(config: StageConfig, name: str, view: View, asks: str) -> pb.ModelConfig:
    """A process that asks ``asks`` and answers in one piece."""
    limits = config.spec.limits
    room = limits.max_batch_size + limits.max_queue_size
    told = UnaryConfig(asks, room, str(config.backchannel), config.python_prefix)
    return _python(name, view, told.to_json())


def _python(name: str, view: View, told: str) -> pb.ModelConfig:
    model = pb.ModelConfig(name=name, backend="python", max_batch_size=MAX_BATCH_SIZE)
    _add_tensors(model, view)
    model.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=1)
    model.parameters[PARAMETER].string_value = told
    return model


def _streaming(name: str, view: View, deployment: str) -> pb.ModelConfig:
    """An ensemble over the three stages, with the view's names outside."""
    model = pb.ModelConfig(name=name, platform="ensemble", max_batch_size=MAX_BATCH_SIZE)
    _add_tensors(model, view)
    request, delta = ({tensor.name: tensor.name} for tensor in (ENGINE_REQUEST, ENGINE_DELTA))
    given = {tensor.name: outside for outside, tensor in view.inputs.items()}
    told = {tensor.name: outside for outside, tensor in view.outputs.items()}
    for stage, inputs, outputs in zip(
        stage_names(deployment), (given, request, delta), (request, delta, told), strict=True
    ):
        step = model.ensemble_scheduling.step.add(model_name=stage, model_version=-1)
        step.input_map.update(inputs)
        step.output_map.update(outputs)
    return model


def _add_tensors(model: pb.ModelConfig, view: View) -> None:
    for name, tensor in view.inputs.items():
        model.input.add(name=name, data_type=_dtype(tensor), dims=tensor.dims, optional=tensor in _OPTIONAL)
    for name, tensor in view.outputs.items():
        model.output.add(name=name, data_type=_dtype(tensor), dims=tensor.dims)


def _dtype(tensor: Tensor) -> int:
    return int(_DTYPES.get(tensor.dtype) or pb.DataType.Value(f"TYPE_{tensor.dtype}"))


def main(
    config: Annotated[Path, typer.Argument(help="The deployment's YAML.")],
    root: Annotated[Path, typer.Argument(help="The folder of engines/ and model_repository/.")] = ROOT,
    engine: Annotated[str, typer.Option(help="Of the version that waits; 'none' where it needs none.")] = "",
) -> None:
    """Write the model repository of CONFIG."""
    try:
        spec = load_spec(config)
        if engine:
            waits = waiting_repository(root, spec.name)
            write_repository(root, spec, None if engine == "none" else Path(engine), waits)
        elif not write_unless_served(root, spec, current_engine(root, spec)):
            print(f"{spec.name} is being served: its model repository stays as it is until make down")
    except ConchError as refusal:
        sys.exit(str(refusal))
    except OSError as error:
        sys.exit(f"error: {error.filename or root}: {error.strerror}. Correct this and run it again")


if __name__ == "__main__":
    typer.run(main)
