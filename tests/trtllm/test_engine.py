"""python_backend/trtllm behind the engine protocol, over the double: both backends."""

import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from contract.sampling import SamplingParams, check_supported
from contract.spec import Deployment
from contract.tensors import FinishReason
from python_backend.engines import features_of
from python_backend.protocol import Output, Stats
from python_backend.trtllm.engine import TrtllmEngine, UnknownLogProbs, add_log_probs, read_stats
from python_backend.trtllm.sampling import sampling_call
from tests.serving.stream import until
from tests.trtllm.specs import spec

PROMPT = [504, 3575, 282, 4649, 314]
LIMITS = {"max_seq_len": 2048, "max_input_len": 1536, "max_num_tokens": 512, "max_batch_size": 32}


class Bench:
    """An engine that runs, and what it put out."""

    def __init__(self, engine: TrtllmEngine, patience_s: float = 120) -> None:
        self.engine = engine
        self.patience_s = patience_s
        self.steps: list[int] = []
        self._outputs: dict[int, queue.Queue[Output]] = {}
        self._keys = iter(range(1, 10_000))

    def sink(self, outputs: Sequence[Output]) -> None:
        self.steps.append(len(outputs))
        for output in outputs:
            self._outputs[output.key].put(output)

    def begin(self, prompt: list[int] = PROMPT, **sampling: Any) -> int:
        key = next(self._keys)
        self._outputs[key] = queue.Queue()
        self.engine.submit(key, prompt, SamplingParams(**{"max_tokens": 12} | sampling))
        return key

    def next(self, key: int) -> Output:
        return self._outputs[key].get(timeout=self.patience_s)

    def rest(self, key: int) -> list[Output]:
        found = [self.next(key)]
        while not found[-1].finish:
            found.append(self.next(key))
        return found

    def ask(self, prompt: list[int] = PROMPT, **sampling: Any) -> list[Output]:
        return self.rest(self.begin(prompt, **sampling))


def ids(outputs: list[Output]) -> list[int]:
    return [token for output in outputs for token in output.ids]


def deployment(backend: str, **options: Any) -> Deployment:
    return spec({"backend": backend, "log_probs": backend == "tensorrt"} | options, limits=LIMITS)


@pytest.fixture(scope="module", params=["tensorrt", "pytorch"])
def bench(request: pytest.FixtureRequest, engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = engine
    if request.param == "pytorch":
        from tests.trtllm.conftest import OPENVINO

        folder = tmp_path_factory.mktemp("pytorch")
        for file in engine.iterdir():
            if file.is_file():
                (folder / file.name).symlink_to(file)
        (folder / "trtllm").symlink_to(OPENVINO)
    made = TrtllmEngine(folder, deployment(request.param))
    running = Bench(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", "7")  # a node of Slurm, whose job MPI must not take for its own
        made.start(running.sink)
    yield running
    made.stop()


def test_deltas_are_what_was_asked_for(bench: Bench) -> None:
    outputs = bench.ask()
    assert len(ids(outputs)) == 12
    assert len(outputs) > 6  # streamed, and not one lump
    assert [output.finish for output in outputs[:-1]] == [None] * (len(outputs) - 1)
    assert outputs[-1].finish is FinishReason.LENGTH
    assert ids(bench.ask()) == ids(outputs)


def test_many_requests_in_one_process(bench: Bench) -> None:
    """Each gets its own, in one message a step."""
    alone = ids(bench.ask())
    bench.steps.clear()
    keys = [bench.begin() for _ in range(16)]
    assert all(ids(bench.rest(key)) == alone for key in keys)
    assert max(bench.steps) >= 4


def test_the_end_of_sequence_is_among_the_ids(bench: Bench) -> None:
    free = ids(bench.ask(ignore_eos=True))
    end = free[5]
    for sampling in ({"end_id": end}, {"stop_token_ids": (end,)}):
        outputs = bench.ask(**sampling)
        assert ids(outputs) == free[: free.index(end) + 1]
        assert outputs[-1].finish is FinishReason.STOP
    assert ids(bench.ask(end_id=end, ignore_eos=True)) == free


def test_an_abort_ends_it_once(bench: Bench) -> None:
    key = bench.begin(max_tokens=1000, ignore_eos=True)
    bench.next(key)
    bench.engine.abort(key)
    assert bench.rest(key)[-1].finish is FinishReason.CANCELLED
    bench.engine.abort(key)  # not known any more: no error
    assert ids(bench.ask())
    assert (bench.engine.stats().active, bench.engine.stats().waiting) == (0, 0)


def test_seeds(bench: Bench) -> None:
    if "seed" not in bench.engine.features:
        pytest.skip("1.2's PyTorch path has no seed of each request")
    sampling: dict[str, Any] = {"temperature": 1.0, "seed": 7}
    assert ids(bench.ask(**sampling)) == ids(bench.ask(**sampling))
    others = {tuple(ids(bench.ask(temperature=1.5))) for _ in range(4)}
    assert len(others) > 1  # without a seed each request has its own


def test_log_probs(bench: Bench) -> None:
    if "return_log_probs" not in bench.engine.features:
        pytest.skip("built without")
    outputs = bench.ask(return_log_probs=True, logprobs=1)
    values = [value for output in outputs for value in output.log_probs]
    tops = [top for output in outputs for top in output.top_log_probs]
    assert len(values) == len(tops) == len(ids(outputs))
    assert all(value <= 0 for value in values)
    assert [top[0].token_id for top in tops] == ids(outputs)


def test_log_probs_as_either_backend_tells_them(doubles: None) -> None:
    from tensorrt_llm._results import Logprob

    output = Output(1, [7, 8])
    add_log_probs(output, [{9: Logprob(-0.1), 7: Logprob(-0.5), 5: Logprob(-3.0)}, -0.25], most=2)
    assert output.log_probs == [-0.5, -0.25]
    assert [[top.token_id for top in tops] for tops in output.top_log_probs] == [[9, 7]]
    with pytest.raises(UnknownLogProbs, match="token 7"):
        add_log_probs(Output(1, [7]), [{9: Logprob(-0.1)}], most=0)


def test_guides(bench: Bench) -> None:
    guide: dict[str, Any] = {"guided_decoding_guide_type": "regex", "guided_decoding_guide": "yes"}
    outputs = bench.ask(**guide)
    assert outputs[-1].finish is FinishReason.STOP
    assert ids(outputs)[-1] == 2


def test_what_tensorrt_llm_refuses_is_that_requests_error(bench: Bench) -> None:
    outputs = bench.ask(guided_decoding_guide_type="structural_tag", guided_decoding_guide="x")
    assert outputs[-1].finish is FinishReason.ERROR
    assert "structural tags" in outputs[-1].error
    assert ids(bench.ask())


def test_statistics_reach_the_stage(bench: Bench) -> None:
    """But an engine of one GPU that keeps its logits computes in the asking process, and tells none."""
    tells = not bench.engine._llm.args.gather_generation_logits
    key = bench.begin(max_tokens=1500, ignore_eos=True)
    bench.next(key)
    stats = bench.engine.stats()
    assert stats.active + stats.waiting == 1  # how the GPU takes it is as of the last poll
    if not tells:
        assert bench.engine._llm.get_stats(timeout=0.2) == []
    for _ in until(60, "a poll"):
        stats = bench.engine.stats()
        if not tells or stats.kv_cache_usage is not None:
            break
    assert stats.steps > 0
    assert (stats.kv_cache_usage is None) == (not tells)
    bench.engine.abort(key)
    bench.rest(key)


def test_statistics_that_never_come_hold_up_nothing(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 is asked, and says nothing more: as an idle one until the timeout, as a dead one for ever.

    A request that comes then is begun, answered and aborted, and the engine stopped, before it says anything.
    """
    from tensorrt_llm._ranks import Ranks

    asked, answer = threading.Event(), threading.Event()

    def silent(*_: object) -> list[Any]:
        asked.set()
        answer.wait()
        return []

    monkeypatch.setattr(Ranks, "fetch_stats", silent)
    made = TrtllmEngine(engine, deployment("tensorrt", log_probs=False))
    bench = Bench(made, patience_s=30)
    made.start(bench.sink)
    try:
        assert asked.wait(60)
        assert len(ids(bench.ask())) == 12
        key = bench.begin(max_tokens=1000, ignore_eos=True)
        bench.next(key)
        made.abort(key)
        assert bench.rest(key)[-1].finish is FinishReason.CANCELLED
        made.stop()
        assert not answer.is_set()
    finally:
        answer.set()


def test_statistics_of_any_shape() -> None:
    told = {"iter": 9, "numQueuedRequests": 2, "kvCacheStats": {"usedNumBlocks": 1, "maxNumBlocks": 4}}
    assert read_stats(told) == Stats(waiting=2, kv_cache_usage=0.25)
    for strange in ({}, {"kvCacheStats": None}, {"iter": None, "kvCacheStats": {"maxNumBlocks": 0}}):
        assert read_stats(strange) == Stats()


def test_features_are_those_of_the_deployment() -> None:
    assert "seed" in features_of(deployment("tensorrt").engine)
    torch = features_of(deployment("pytorch").engine)
    assert not torch & {"seed", "min_tokens", "repetition_penalty", "return_log_probs", "lora_name"}
    assert "prompt_logprobs" not in torch | features_of(deployment("tensorrt").engine)  # it needs a prompt's logits
    bare = features_of(deployment("tensorrt", guided_decoding=False, lora={"adapters": {"a": "/a"}}).engine)
    assert "lora_name" in bare
    assert not any(feature.startswith("guided") for feature in bare)
    check_supported(SamplingParams(seed=1), features_of(deployment("tensorrt").engine), "trtllm")


def test_sampling_is_said_whole() -> None:
    """A temperature alone would be greedy, and a seed left out the same for every request."""
    call = sampling_call(SamplingParams(max_tokens=3, temperature=0.5), (2, 7), seed=11)
    assert {name: call.arguments[name] for name in ("temperature", "top_p", "top_k", "seed")} == {
        "temperature": 0.5,
        "top_p": 1.0,
        "top_k": 0,
        "seed": 11,
    }
    assert (call.arguments["end_id"], call.arguments["stop_token_ids"]) == (2, [7])
    assert "temperature" not in sampling_call(SamplingParams(max_tokens=3), (2,), seed=1).arguments


def test_without_tensorrt_llm_the_way_out_is_told(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contract.errors import Unavailable

    monkeypatch.setattr(sys, "path", [path for path in sys.path if not path.endswith("doubles")])
    for name in [name for name in sys.modules if name.startswith("tensorrt_llm")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        Unavailable, match=r"cannot be imported here .*Serve inside nvcr\.io/nvidia/tritonserver:26\.07"
    ):
        TrtllmEngine(engine, deployment("tensorrt")).start(lambda _: None)


def test_an_engine_is_replayed_for_its_verification(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy answers, and the most likely token after every fourth prefix, by the builder's script in place."""
    from build.replay import Script
    from build.trtllm.builder import replay
    from tests.trtllm.conftest import DOUBLES

    monkeypatch.setenv("PYTHONPATH", str(DOUBLES))
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # as above
    answer = [7042, 30, 198, 198]  # to PROMPT, greedily
    wanted = deployment("tensorrt", log_probs=False)
    found = replay(engine / "no.yaml", wanted, engine, Script([PROMPT + answer], [PROMPT], 4))
    assert found.loss is None
    assert found.greedy == [answer]
    assert found.top1[0].keys() == {0, 4, 8}
    assert found.top1[0][4] == answer[0]
