"""What SGLang and LMDeploy are told, against their recorded APIs; and what an adapter makes of what they say."""

import json
import queue
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from contract.engines.kinds import KINDS
from contract.engines.lmdeploy.options import LmdeployOptions
from contract.engines.sglang.options import SglangOptions
from contract.engines.vllm.arguments import engine_args as vllm_args
from contract.errors import EngineFailed, InvalidRequest, RequestError, Unavailable, UnsupportedByEngine
from contract.sampling import SamplingParams
from contract.spec import Deployment
from contract.tensors import FinishReason
from python_backend.async_engine import AsyncEngine, check_version
from python_backend.engines import features_of, make
from python_backend.features import PENALTIES
from python_backend.lmdeploy import engine as lmdeploy
from python_backend.lmdeploy.sampling import ends_of as lmdeploy_ends
from python_backend.lmdeploy.sampling import lmdeploy_sampling
from python_backend.protocol import Output
from python_backend.sglang import engine as sglang
from python_backend.sglang.sampling import ends_of, sglang_sampling
from tests.runtimes.record import API

CODE = Path(__file__).resolve().parents[2]
DOUBLES = CODE / "tests" / "doubles"
OPENVINO = CODE / "engines" / "smollm2-135m" / "current"
PROMPT = [504, 3575, 282, 4649, 314]  # The capital of France is
EOS = (2,)
LORA = {"adapters": {"moon": "/adapters/moon"}}


def recorded(package: str) -> Any:
    return json.loads((API / f"{package}.json").read_text())


def spec(runtime: str, parallel: dict[str, int] | None = None, **options: Any) -> Deployment:
    engine = {"runtime": runtime, "precision": "bf16", runtime: options, "parallel": parallel or {}}
    data = {"name": "model", "source": {"kind": "path", "path": "/"}, "engine": engine, "limits": {"max_batch_size": 8}}
    return Deployment.model_validate(data)


# Every option of each, in specs that are valid with it: one that no spec here has fails a test.
SGLANG: tuple[dict[str, Any], ...] = (
    {},
    {"mem_fraction_static": 0.5, "attention_backend": "fa3", "disable_cuda_graph": True, "quantization": "fp8"},
    {"kv_cache_dtype": "fp8_e4m3", "load_format": "dummy", "prefix_caching": False},
    {"guided_decoding": False, "deterministic": True, "lora": LORA},
    {"speculative": {"kind": "ngram", "tokens": 5, "longest_match": 8}, "lora": LORA},
    {"speculative": {"kind": "eagle3", "model": "/draft"}},
    {"speculative": {"kind": "mtp"}},
    {"trust_remote_code": True, "kt": {"weight_path": "/experts", "num_gpu_experts": 8, "cpuinfer": 60}},
)
LMDEPLOY: tuple[dict[str, Any], ...] = (
    {"cache_max_entry_count": 0.5, "quant_policy": 8, "model_format": "awq", "communicator": "cuda-ipc"},
    {"backend": "pytorch", "eager_mode": True, "prefix_caching": False, "lora": LORA},
)


def test_every_option_is_in_a_spec_here() -> None:
    for kind, specs in ((SglangOptions, SGLANG), (LmdeployOptions, LMDEPLOY)):
        assert set(kind.model_fields) == {name for each in specs for name in each}


def test_the_recordings_are_of_the_pinned_releases() -> None:
    makefile = (CODE / "Makefile").read_text()
    pinned = {name: kind.version for name, kind in KINDS.items() if kind.version}
    assert pinned.keys() == {"sglang", "lmdeploy"}
    for package, version in pinned.items():
        assert recorded(package)["version"] == version
        assert f"?= {package}=={version}\n" in makefile


@pytest.mark.parametrize("options", SGLANG)
def test_sglang_has_every_argument(options: dict[str, Any]) -> None:
    parallel = {"tensor": 2, "expert": 1 if "kt" in options else 2}
    wanted = sglang.engine_args(Path("/engine"), spec("sglang", parallel, **options), 4096)
    assert wanted.keys() <= recorded("sglang")["api"]["ServerArgs"].keys()
    assert (wanted["tp_size"], wanted["ep_size"], wanted["max_running_requests"]) == (2, parallel["expert"], 9)
    assert wanted["context_length"] == 2048 + 6


@pytest.mark.parametrize(
    ("speculative", "told"),
    [
        ({"kind": "ngram", "tokens": 5, "longest_match": 8}, ("NGRAM", 6, 13, None, None)),
        ({"kind": "eagle3", "model": "/draft"}, ("EAGLE3", 4, None, "/engine/draft", 3)),
        ({"kind": "mtp"}, ("NEXTN", 2, None, None, 1)),
    ],
)
def test_how_sglang_guesses(speculative: dict[str, Any], told: tuple[Any, ...]) -> None:
    wanted = sglang.engine_args(Path("/engine"), spec("sglang", speculative=speculative), 4096)
    names = ("algorithm", "num_draft_tokens", "ngram_max_trie_depth", "draft_model_path", "num_steps")
    assert tuple(wanted.get(f"speculative_{name}") for name in names) == told


@pytest.mark.parametrize(
    ("speculative", "told"),
    [
        ({"kind": "ngram"}, {"num_speculative_tokens": 4, "prompt_lookup_min": 2, "prompt_lookup_max": 4}),
        ({"kind": "eagle", "model": "/draft"}, {"num_speculative_tokens": 3, "model": "/engine/draft"}),
        ({"kind": "mtp"}, {"num_speculative_tokens": 1}),
    ],
)
def test_how_vllm_guesses(speculative: dict[str, Any], told: dict[str, Any]) -> None:
    wanted = vllm_args(Path("/engine"), spec("vllm", speculative=speculative))
    assert wanted["speculative_config"] == {"method": speculative["kind"], **told}


@pytest.mark.parametrize("runtime", ["sglang", "vllm"])
def test_what_guessing_would_change_is_no_feature(runtime: str) -> None:
    gone = {"vllm": {"min_p", "logit_bias"}, "sglang": {"min_p", "min_tokens"} | PENALTIES}[runtime]
    plain = features_of(spec(runtime).engine)
    assert plain - features_of(spec(runtime, speculative={"kind": "ngram"}).engine) == gone


def test_sglang_is_given_no_more_context_than_the_model_has() -> None:
    assert sglang.engine_args(Path("/engine"), spec("sglang"), 2048)["context_length"] == 2048


@pytest.mark.parametrize("options", LMDEPLOY)
def test_lmdeploy_has_every_argument(options: dict[str, Any]) -> None:
    wanted = lmdeploy.engine_args(Path("/engine"), spec("lmdeploy", {"tensor": 4}, **options))
    kind = "PytorchEngineConfig" if options.get("backend") == "pytorch" else "TurbomindEngineConfig"
    assert wanted.keys() <= recorded("lmdeploy")["api"][kind].keys()
    assert (wanted["tp"], wanted["max_batch_size"], wanted["session_len"]) == (4, 9, 2048)


# Together every parameter that one of the two has.
SAMPLING: tuple[SamplingParams, ...] = (
    SamplingParams(max_tokens=8),
    SamplingParams(max_tokens=8, temperature=0.5, top_k=5, top_p=0.9, seed=2**64 - 1, min_tokens=3),
    SamplingParams(max_tokens=8, repetition_penalty=1.1, presence_penalty=0.5, frequency_penalty=0.5),
    SamplingParams(max_tokens=8, logit_bias={5: -1.0}, stop_token_ids=(7,), return_log_probs=True, logprobs=4),
    SamplingParams(max_tokens=8, guided_decoding_guide_type="json"),
    SamplingParams(max_tokens=8, guided_decoding_guide_type="json_schema", guided_decoding_guide="{}"),
    SamplingParams(max_tokens=8, guided_decoding_guide_type="regex", guided_decoding_guide="a"),
    SamplingParams(max_tokens=8, guided_decoding_guide_type="ebnf_grammar", guided_decoding_guide='root ::= "a"'),
    SamplingParams(max_tokens=8, guided_decoding_guide_type="structural_tag", guided_decoding_guide='{"format": {}}'),
)


@pytest.mark.parametrize("sampling", SAMPLING)
def test_requests_have_recorded_names(sampling: SamplingParams) -> None:
    wanted = sglang_sampling(sampling, ends_of(sampling, EOS))
    assert wanted.keys() <= recorded("sglang")["api"]["SamplingParams"].keys()
    assert 0 <= wanted.get("sampling_seed", 0) < 2**63
    if sampling.guided_decoding_guide_type != "ebnf_grammar":
        wanted = lmdeploy_sampling(sampling, lmdeploy_ends(sampling, EOS), seed=1)
        assert wanted.keys() <= recorded("lmdeploy")["api"]["GenerationConfig"].keys()
        assert (wanted["top_k"] == 1) == sampling.greedy


@pytest.mark.parametrize(
    ("asked", "watched", "told", "lmdeploys"),
    [
        ({}, set(), (2,), [2]),
        ({"stop_token_ids": (7,)}, set(), (2, 7), [2, 7]),
        ({"end_id": 2}, set(), (2,), [2]),
        ({"end_id": 9}, {9}, (), [9]),
        ({"ignore_eos": True}, set(), (), []),
        ({"ignore_eos": True, "stop_token_ids": (7,)}, {7}, (), [7]),
        ({"ignore_eos": True, "guided_decoding_guide_type": "json"}, set(), (), [2]),
    ],
)
def test_who_sees_the_end(
    asked: dict[str, Any], watched: set[int], told: tuple[int, ...], lmdeploys: list[int]
) -> None:
    sampling = SamplingParams(max_tokens=8, **asked)
    ends = ends_of(sampling, EOS)
    assert (set(ends.watched), ends.told) == (watched, told)
    assert sglang_sampling(sampling, ends)["ignore_eos"] == (not told)
    assert lmdeploy_ends(sampling, EOS) == lmdeploys


def test_what_sglang_does_not_see_cannot_be_held_back() -> None:
    sampling = SamplingParams(max_tokens=8, min_tokens=4, end_id=9)
    with pytest.raises(UnsupportedByEngine, match=r"min_tokens: goes with the model's own end of sequence only"):
        sglang_sampling(sampling, ends_of(sampling, EOS))


def test_a_structural_tag_is_an_object() -> None:
    sampling = SamplingParams(max_tokens=8, guided_decoding_guide_type="structural_tag", guided_decoding_guide="[]")
    with pytest.raises(InvalidRequest, match="guided_decoding_guide: must be a JSON object"):
        lmdeploy_sampling(sampling, [2], seed=1)


@pytest.mark.parametrize(
    ("reason", "kind", "field"),
    [
        (
            {"type": "abort", "message": "Invalid grammar request", "status_code": 400},
            InvalidRequest,
            "guided_decoding_guide",
        ),
        ({"type": "abort", "message": "out of memory", "status_code": 500}, EngineFailed, ""),
    ],
)
def test_what_sglangs_scheduler_refuses(reason: dict[str, Any], kind: type[RequestError], field: str) -> None:
    sampling = SamplingParams(max_tokens=8, guided_decoding_guide_type="json")
    with pytest.raises(kind) as refused:
        sglang.read(1, {"output_ids": [], "meta_info": {"finish_reason": reason}}, sampling)
    assert refused.value.field == field


def test_lmdeploy_tells_each_tokens_probability_or_fails() -> None:
    output = Output(1, [5, 6])
    lmdeploy.add_log_probs(output, [{5: -0.5, 9: -1.0}, {6: -0.25}], most=1)
    assert output.log_probs == [-0.5, -0.25]
    assert [[each.token_id for each in ranked] for ranked in output.top_log_probs] == [[5], [6]]
    with pytest.raises(EngineFailed, match="no log probability"):
        lmdeploy.add_log_probs(Output(1, [5]), [{9: -1.0}], most=0)


def test_an_engine_that_is_not_here_or_is_another() -> None:
    with pytest.raises(Unavailable, match=r"SGLang is not installed here\. Run make sglang"):
        check_version("sglang", "0.5.17", "SGLang")
    with pytest.raises(Unavailable, match=r"Numpy 1\..* is installed here, and Numpy 0\.1 is wanted\. Run make numpy"):
        check_version("numpy", "0.1", "Numpy")


class Bench:
    """An engine over its double, and what it put out."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.outputs: queue.Queue[Output] = queue.Queue()
        self.keys = iter(range(1, 1000))

    def sink(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self.outputs.put(output)

    def begin(self, **sampling: Any) -> int:
        key = next(self.keys)
        self.engine.submit(key, PROMPT, SamplingParams(**{"max_tokens": 12} | sampling))
        return key

    def rest(self) -> Output:
        """Its outputs, joined."""
        whole = Output(0)
        while not whole.finish:
            output = self.outputs.get(timeout=60)
            whole.ids += output.ids
            whole.log_probs += output.log_probs
            whole.prompt_log_probs += output.prompt_log_probs
            whole.prompt_top_log_probs += output.prompt_top_log_probs
            whole.finish, whole.error = output.finish, output.error
        return whole

    def ask(self, **sampling: Any) -> Output:
        self.begin(**sampling)
        return self.rest()


@contextmanager
def over_doubles(runtime: str, **options: Any) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOUBLES))
        patch.setenv("DOUBLE_ENGINE", str(OPENVINO))
        engine = make(OPENVINO, spec(runtime, **options))
        assert isinstance(engine, AsyncEngine)
        made = Bench(engine)
        engine.start(made.sink)
        yield made
        engine.stop()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("sglang", "lmdeploy", "behind")]:
        del sys.modules[name]


@pytest.fixture(scope="module", params=["sglang", "lmdeploy", "lmdeploy-pytorch"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    runtime, _, backend = request.param.partition("-")
    with over_doubles(runtime, **({"backend": backend} if backend else {})) as made:
        yield made


def test_answers_end_where_they_should(bench: Bench) -> None:
    free = bench.ask(ignore_eos=True, return_log_probs=True)
    assert (len(free.ids), len(free.log_probs), free.finish) == (12, 12, FinishReason.LENGTH)
    token = free.ids[5]
    cut = free.ids[: free.ids.index(token) + 1]
    for asked in ({"end_id": token}, {"stop_token_ids": (token,)}, {"stop_token_ids": (token,), "ignore_eos": True}):
        ended = bench.ask(**asked)
        assert (ended.ids, ended.finish) == (cut, FinishReason.STOP), asked


def test_what_was_guessed_and_taken_is_counted() -> None:
    with over_doubles("sglang", speculative={"kind": "ngram"}) as bench:
        assert len(bench.ask(ignore_eos=True).ids) == 12
        told = bench.engine.tell()
    assert told and (told.drafted, told.accepted) == (44, 1)  # 11 steps of four guesses, of which the double takes one


def test_a_prompt_is_scored_once(bench: Bench) -> None:
    if "prompt_logprobs" not in bench.engine.features:
        pytest.skip("TurboMind's answers have none of a prompt's")
    scored = bench.ask(max_tokens=3, prompt_logprobs=2, ignore_eos=True)
    assert (len(scored.ids), len(scored.prompt_log_probs), scored.finish) == (3, 4, FinishReason.LENGTH)
    assert [len(tops) for tops in scored.prompt_top_log_probs] == [2] * 4
    for own, tops in zip(scored.prompt_log_probs, scored.prompt_top_log_probs, strict=True):
        assert own <= tops[0].logprob and tops[1].logprob <= tops[0].logprob
    assert bench.ask(prompt_logprobs=0).prompt_top_log_probs == []


def test_an_aborted_answer_says_so_once(bench: Bench) -> None:
    key = bench.begin(max_tokens=900, ignore_eos=True)
    bench.outputs.get(timeout=60)
    bench.engine.abort(key)
    bench.engine.abort(key)
    assert bench.rest().finish == FinishReason.CANCELLED
    assert bench.ask(max_tokens=2, ignore_eos=True).finish == FinishReason.LENGTH
    assert bench.outputs.empty()


def test_one_that_leaves_before_its_turn(bench: Bench) -> None:
    keys = [bench.begin(max_tokens=40, ignore_eos=True) for _ in range(12)]  # more than the batch holds
    bench.engine.abort(keys[-1])
    ended = Counter(bench.rest().finish for _ in keys)
    assert ended == {FinishReason.CANCELLED: 1, FinishReason.LENGTH: 11}


def test_doubles_take_what_was_recorded_and_nothing_else(bench: Bench) -> None:
    if bench.engine.name == "sglang":
        from sglang.srt.entrypoints.engine import ServerArgs as Config
    else:
        from lmdeploy.messages import GenerationConfig as Config
    assert {field.name for field in fields(Config)}
    with pytest.raises(TypeError, match="unexpected keyword"):
        Config(colour="red")
