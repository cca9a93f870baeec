"""The double is what the recording says: names, arguments, types and defaults, and 1.2.1's traps."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from contract.engines.trtllm.api import recorded
from contract.engines.trtllm.calls import find
from tests.trtllm.conftest import OPENVINO
from tests.trtllm.contract_dump import differences, dump

PROMPT = [504, 3575, 282, 4649, 314]  # The capital of France is
EOS = 2


@pytest.fixture(scope="module")
def llm(engine: Path) -> Iterator[Any]:
    from tensorrt_llm._tensorrt_engine import LLM

    with LLM(model=str(engine / "trtllm"), skip_tokenizer_init=True) as made:
        yield made


@pytest.fixture(scope="module")
def torch_llm(engine: Path) -> Iterator[Any]:
    from tensorrt_llm import LLM

    with LLM(model=str(OPENVINO), enable_iter_perf_stats=True) as made:
        yield made


def params(**given: Any) -> Any:
    from tensorrt_llm import SamplingParams

    return SamplingParams(**{"max_tokens": 8, "end_id": EOS} | given)


def answer(llm: Any, sampling: Any, streaming: bool = True) -> Any:
    async def ask() -> Any:
        return await llm.generate_async(inputs=PROMPT, sampling_params=sampling, streaming=streaming).aresult()

    return asyncio.run(ask())


def test_the_double_is_the_recording(doubles: None) -> None:
    assert list(differences(dump())) == []


def test_names_are_where_they_were_recorded(doubles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nowhere else: llmapi exports no PeftCacheConfig. What is not there does not end a dump."""
    import tensorrt_llm.llmapi
    import tensorrt_llm.llmapi.llm_args

    for name in recorded()["places"]:
        assert find(name)
        assert not hasattr(tensorrt_llm.llmapi, name)
    monkeypatch.delattr(tensorrt_llm.llmapi.llm_args, "PeftCacheConfig")
    assert list(differences(dump())) == ["tensorrt_llm.llmapi.llm_args.PeftCacheConfig: recorded, and not there"]


def test_one_gpu_has_a_process_of_its_own(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which another launcher's job hinders; TensorRT-LLM's own way out tells no statistics."""
    from tensorrt_llm._tensorrt_engine import LLM

    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(RuntimeError, match="MPI_ERR_SPAWN"):
        LLM(model=str(engine / "trtllm"), skip_tokenizer_init=True)
    monkeypatch.setenv("TLLM_WORKER_USE_SINGLE_PROCESS", "1")
    with LLM(model=str(engine / "trtllm"), skip_tokenizer_init=True) as made:
        assert answer(made, params(max_tokens=2)).finished
        assert made.get_stats(timeout=0.1) == []


def test_statistics_are_asked_for_before_their_result_is_there(llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """get_stats_async is no coroutine: the loop has waited for rank 0 before there is anything to await."""
    from tensorrt_llm._ranks import Ranks

    asked = count(1)
    monkeypatch.setattr(Ranks, "fetch_stats", lambda *_: [{"iter": next(asked)}])
    result = llm.get_stats_async(timeout=0)
    assert next(asked) == 2

    async def read() -> list[dict[str, Any]]:
        return [told async for told in result]

    assert asyncio.run(read()) == [{"iter": 1}]
    assert llm.get_stats() == [{"iter": 3}]


def test_results_have_what_was_recorded(llm: Any) -> None:
    result = answer(llm, params())
    assert all(hasattr(result, name) for name in recorded()["results"]["RequestOutput"])
    part = result.outputs[0]
    names = [*recorded()["results"]["CompletionOutput"], *recorded()["results"]["CompletionOutput_properties"]]
    assert all(hasattr(part, name) for name in names)


def test_another_api_is_told(doubles: None) -> None:
    """What make contract-dump would say of an image that differs."""
    found = dump()
    fields = found["calls"]["KvCacheConfig"]
    del fields["onboard_blocks"]
    fields["colour"] = {"type": "str", "default": "red"}
    fields["max_tokens"]["type"] = "int"
    fields["event_buffer_max_size"]["default"] = 7
    found["enums"]["BatchingType"].append("ROLLING")
    del found["calls"]["PeftCacheConfig"], found["enums"]["QuantAlgo"]
    assert list(differences(found)) == [
        "KvCacheConfig.onboard_blocks: recorded, and not there",
        "KvCacheConfig.colour: there, and not recorded",
        "KvCacheConfig.event_buffer_max_size: default recorded as 0, is 7",
        "KvCacheConfig.max_tokens: recorded as Optional[int], is int",
        "tensorrt_llm.llmapi.llm_args.PeftCacheConfig: recorded, and not there",
        "tensorrt_llm.llmapi.QuantAlgo: recorded, and not there",
        "BatchingType: recorded as STATIC, INFLIGHT, is STATIC, INFLIGHT, ROLLING",
    ]


def test_arguments_come_by_their_recorded_names(doubles: None) -> None:
    from tensorrt_llm._tensorrt_engine import LLM

    names = list(inspect.signature(LLM.__init__).parameters)[1:-1]
    assert set(names) <= recorded()["calls"]["TensorRtLlm"].keys()


def test_unknown_arguments_are_refused(doubles: None) -> None:
    from tensorrt_llm import SamplingParams
    from tensorrt_llm._tensorrt_engine import LLM
    from tensorrt_llm.llmapi import KvCacheConfig, QuantConfig

    with pytest.raises(ValueError, match="got invalid argument: tensor_parallel"):
        LLM(model=str(OPENVINO), tensor_parallel=2)
    with pytest.raises(ValidationError, match="Extra inputs"):
        KvCacheConfig(enable_blok_reuse=True)
    for dataclass in (QuantConfig, SamplingParams):
        with pytest.raises(TypeError, match="unexpected keyword"):
            dataclass(colour="red")


def test_what_1_2_1_refuses(engine: Path, llm: Any, torch_llm: Any) -> None:
    from tensorrt_llm import LLM as TorchLLM
    from tensorrt_llm._tensorrt_engine import LLM
    from tensorrt_llm.llmapi import (
        EagleDecodingConfig,
        GuidedDecodingParams,
        KvCacheConfig,
        LookaheadDecodingConfig,
        LoRARequest,
    )

    built = str(engine / "trtllm")
    refused: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("Only one guide", lambda: GuidedDecodingParams(json="{}", regex="a")),
        ("does not exist", lambda: LoRARequest("a", 1, "/nowhere")),
        ("not consistent with the engine's tp_size 1", lambda: LLM(model=built, tensor_parallel_size=2)),
        ("vocabulary", lambda: LLM(model=built, skip_tokenizer_init=True, guided_decoding_backend="xgrammar")),
        ("Unsupported guided decoding", lambda: LLM(model=built, guided_decoding_backend="llguidance")),
        ("EAGLE", lambda: LLM(model=built, speculative_config=EagleDecodingConfig())),
        ("PyTorch", lambda: TorchLLM(model=str(OPENVINO), speculative_config=LookaheadDecodingConfig())),
        ("end_id must be provided", lambda: llm.generate_async(PROMPT, params(end_id=None))),
        ("exceeds 2048", lambda: llm.generate_async(PROMPT, params(max_tokens=2048))),
        ("gather_generation_logits", lambda: llm.generate_async(PROMPT, params(logprobs=1))),
    )
    for said, make in refused:
        with pytest.raises(ValueError, match=said):
            make()
    with pytest.raises(AssertionError, match="must be auto"):
        LLM(model=built, kv_cache_config=KvCacheConfig(dtype="fp8"))


def test_streaming_by_position_is_an_adapter(llm: Any) -> None:
    """The trap in NVIDIA's own model.py: the third position is lora_request."""
    with pytest.raises(TypeError, match="lora_request"):
        llm.generate_async(PROMPT, params(), True)


def test_one_object_that_changes_and_ids_that_cumulate(llm: Any) -> None:
    async def read() -> list[tuple[int, list[int]]]:
        seen = []
        async for current in llm.generate_async(inputs=PROMPT, sampling_params=params(), streaming=True):
            part = current.outputs[0]
            seen.append((id(current), list(part.token_ids)))
            assert part.token_ids_diff == part.token_ids[-len(part.token_ids_diff) :]
        return seen

    seen = asyncio.run(read())
    assert len({identity for identity, _ in seen}) == 1
    assert [len(ids) for _, ids in seen] == list(range(1, 9))


def test_a_result_made_outside_a_loop_cannot_be_awaited(llm: Any) -> None:
    result = llm.generate_async(inputs=PROMPT, sampling_params=params(), streaming=True)
    with pytest.raises(AssertionError, match="event loop was not present"):
        asyncio.run(result.aresult())
    assert result.result(timeout=0.000001).finished  # and a timeout is not one


def test_the_end_of_sequence_is_kept_by_pytorch_only(llm: Any, torch_llm: Any) -> None:
    free = answer(llm, params(end_id=-1)).outputs[0].token_ids
    end = free[3]
    for made, ids in ((llm, free[: free.index(end)]), (torch_llm, free[: free.index(end) + 1])):
        part = answer(made, params(end_id=end)).outputs[0]
        assert (part.finish_reason, part.stop_reason, part.token_ids) == ("stop", None, ids)


def test_stop_ids_are_taken_back(llm: Any) -> None:
    free = answer(llm, params()).outputs[0].token_ids
    at = free.index(free[4])
    part = answer(llm, params(stop_token_ids=[free[4]])).outputs[0]
    assert (part.finish_reason, part.stop_reason, part.token_ids) == ("stop", free[4], free[:at])
    part = answer(llm, params(stop_token_ids=[free[4]], include_stop_str_in_output=True)).outputs[0]
    assert part.token_ids == free[: at + 1]


def test_an_aborted_request_answers_once_more(llm: Any) -> None:
    async def leave() -> str:
        result = llm.generate_async(inputs=PROMPT, sampling_params=params(max_tokens=500), streaming=True)
        async for _ in result:
            if not result.aborted():
                result.abort()
        return str(result.outputs[0].finish_reason)

    assert asyncio.run(leave()) == "cancelled"


def test_a_stop_string_does_not_stop_the_engine(torch_llm: Any) -> None:
    async def stop() -> tuple[str, int]:
        sampling = params(max_tokens=400, stop=" ", ignore_eos=True)
        result = await torch_llm.generate_async(inputs=PROMPT, sampling_params=sampling, streaming=True).aresult()
        active = [told["numActiveRequests"] async for told in torch_llm.get_stats_async(timeout=0.1)]
        result.abort()
        return result.outputs[0].stop_reason, active[0]

    assert asyncio.run(stop()) == (" ", 1)
