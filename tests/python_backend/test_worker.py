"""The engine in its own process: the real model's outputs come through, and its death ends every request."""

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import psutil
import pytest

from contract.errors import Unavailable, from_wire
from contract.sampling import SamplingParams
from contract.spec import Deployment, load_spec
from contract.stage import StageConfig
from contract.tensors import FinishReason
from python_backend import worker as worker_module
from python_backend.protocol import Output
from python_backend.worker import EngineWorker
from tests.e2e.servers import CODE, DEFAULT

HANG_S = 60
PROMPT = [504, 3575, 282]
ENGINE = CODE / "engines" / "smollm2-135m" / "current"


class Heard:
    """What came out of the engine, by request."""

    def __init__(self) -> None:
        self._outputs: queue.Queue[Output] = queue.Queue()
        self.ids: dict[int, list[int]] = {}
        self.ends: dict[int, Output] = {}

    def sink(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self._outputs.put(output)

    def wait(self, *, begun: Set[int] = frozenset(), ended: Set[int] = frozenset()) -> None:
        """Until these requests have a token, and those their end."""
        while not (begun <= self.ids.keys() and ended <= self.ends.keys()):
            output = self._outputs.get(timeout=HANG_S)
            assert output.key not in self.ends, "an output after the end"
            if output.ids:
                self.ids.setdefault(output.key, []).extend(output.ids)
            if output.finish:
                self.ends[output.key] = output


@pytest.fixture(scope="module")
def spec() -> Deployment:
    return load_spec(DEFAULT)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def worker(spec: Deployment, heard: Heard, tmp_path: Path) -> Iterator[EngineWorker]:
    engine = EngineWorker(StageConfig(spec, ENGINE, tmp_path, ""))
    engine.start(heard.sink)
    yield engine
    engine.stop()
    assert engine._process.poll() is not None


def greedy(max_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, ignore_eos=True)


def test_requests_end_and_leave_nothing(worker: EngineWorker, heard: Heard) -> None:
    assert worker.name == "openvino"
    assert "guided_decoding_guide_type:json_schema" in worker.features
    worker.submit(1, PROMPT, greedy(8))
    worker.submit(2, PROMPT, greedy(8))
    worker.submit(3, PROMPT, greedy(500))
    heard.wait(begun={1, 2, 3})
    worker.abort(3)
    worker.abort(3)
    worker.abort(99)
    heard.wait(ended={1, 2, 3})
    assert heard.ids[1] == heard.ids[2]
    assert len(heard.ids[1]) == 8
    assert {key: end.finish for key, end in heard.ends.items()} == {1: "length", 2: "length", 3: "cancelled"}
    assert not worker._in_flight
    assert (worker.stats().active, worker.stats().waiting) == (0, 0)
    assert worker.stats().kv_cache_usage is not None


def test_its_death_ends_every_request_with_an_error(worker: EngineWorker, heard: Heard) -> None:
    keys = {1, 2, 3}
    for key in keys:
        worker.submit(key, PROMPT, greedy(1000))
    heard.wait(begun=keys)
    os.kill(worker._process.pid, signal.SIGKILL)
    heard.wait(ended=keys)
    assert {end.finish for end in heard.ends.values()} == {FinishReason.ERROR}
    (told,) = {end.error for end in heard.ends.values()}
    assert isinstance(from_wire(told), Unavailable), "as a new request is told"
    assert not worker._in_flight
    with pytest.raises(Unavailable, match="process died"):
        worker.submit(4, PROMPT, greedy(8))
    worker.abort(1)


def test_an_engine_that_does_not_load_says_why(spec: Deployment, heard: Heard, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"could not be loaded: no engine at {tmp_path}"):
        EngineWorker(StageConfig(spec, tmp_path, tmp_path, "")).start(heard.sink)


def test_a_broken_engine_says_why(spec: Deployment, heard: Heard, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").symlink_to(ENGINE / "manifest.json")
    with pytest.raises(Unavailable, match="could not be loaded: RuntimeError: "):
        EngineWorker(StageConfig(spec, tmp_path, tmp_path, "")).start(heard.sink)


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageConfig:
    """A deployment of vLLM whose worker runs in this environment, which has none."""
    monkeypatch.setattr(worker_module, "interpreter", lambda _: Path(sys.executable))
    return StageConfig(load_spec(CODE / "configs" / "smollm2-135m-vllm.yaml"), ENGINE, tmp_path, "")


def test_an_engine_that_is_not_installed(vllm: StageConfig, heard: Heard) -> None:
    with pytest.raises(Unavailable, match=r"vLLM is not installed here. Run make vllm"):
        EngineWorker(vllm).start(heard.sink)


def test_an_engine_that_cannot_be_imported_says_why_and_leaves_no_process(
    vllm: StageConfig, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vllm.py").write_text(
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "raise RuntimeError(f'Cannot find library: libxgrammar.so, {child.pid}')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Unavailable, match="could not be loaded: RuntimeError: Cannot find library") as refusal:
        EngineWorker(vllm).start(heard.sink)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(str(refusal.value).rsplit(", ")[-1])).wait(HANG_S)
    assert "Traceback" not in capfd.readouterr().err


def test_what_waits_for_its_guide_is_in_flight(worker: EngineWorker, heard: Heard) -> None:
    """No step tells of it, and a server that drains must know."""
    worker.submit(1, PROMPT, SamplingParams(max_tokens=1))
    heard.wait(ended={1})
    slow = SamplingParams(
        max_tokens=1, guided_decoding_guide_type="regex", guided_decoding_guide="((a{0,300}){0,300})c"
    )
    worker.submit(2, PROMPT, slow)
    assert worker.stats().waiting == 1
    worker.abort(2)
    heard.wait(ended={2})
    assert worker.stats().waiting == worker.stats().active == 0


def test_what_a_step_waits_for_its_stage_is_known(spec: Deployment, heard: Heard, tmp_path: Path) -> None:
    """A stage that is slower than its engine has a queue before it that nobody else sees."""
    waits, release = threading.Event(), threading.Event()

    def sink(outputs: Sequence[Output]) -> None:
        waits.set()
        release.wait(HANG_S)
        heard.sink(outputs)

    engine = EngineWorker(StageConfig(spec, ENGINE, tmp_path, ""))
    engine.start(sink)
    try:
        engine.submit(1, PROMPT, greedy(8))
        assert waits.wait(HANG_S)
        time.sleep(1)
        release.set()
        heard.wait(ended={1})
        assert engine.stats().lag_s > 0.2
    finally:
        engine.stop()
