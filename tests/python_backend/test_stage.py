"""A stage that runs where it should not refuses to start: in Triton for the prefix, beside it for numpy."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from build.repository import write_repository
from contract.errors import ServeError
from contract.spec import Deployment
from serving.supervisor import running
from tests.e2e.servers import on_free_ports


def test_another_environment_than_meant_is_refused(tmp_path: Path) -> None:
    spec = on_free_ports(Deployment.model_validate({"name": "elsewhere", "engine": {"runtime": "synthetic"}}))
    repository = write_repository(tmp_path, spec, None)
    for config in repository.glob("*/config.pbtxt"):
        config.write_text(config.read_text().replace(sys.prefix, "/opt/other-venv"))
    with pytest.raises(ServeError) as refused, running(spec, tmp_path):
        pass
    said = str(refused.value)
    assert f"this stage runs in {sys.prefix}, not in /opt/other-venv" in said
    assert "put its bin first on PATH" in said


class _Misread:
    """A tensor as the wheel's stub reads it under numpy 2: every element is the first."""

    def __init__(self, name: str, array: npt.NDArray[Any]) -> None:
        self._array = array

    def as_numpy(self) -> npt.NDArray[Any]:
        return np.full_like(self._array, self._array[0])


class _Faithful(_Misread):
    def as_numpy(self) -> npt.NDArray[Any]:
        return self._array


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """python_backend.stage over a stand-in of pb_utils, which only Triton's own stub process has."""
    stand_in: Any = ModuleType("triton_python_backend_utils")
    stand_in.TritonModelException = type("TritonModelException", (Exception,), {})
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    module = importlib.import_module("python_backend.stage")
    yield module
    del sys.modules["python_backend.stage"]


def test_a_numpy_that_the_stub_misreads_is_refused(stage: Any) -> None:
    stage.pb_utils.Tensor = _Misread
    with pytest.raises(stage.pb_utils.TritonModelException, match=r"numpy.*install numpy<2"):
        stage.check_environment(sys.prefix)
    stage.pb_utils.Tensor = _Faithful
    stage.check_environment(sys.prefix)
