"""SGLang's Engine behind the engine protocol: ids in and out, its scheduler in a process of its own."""

from collections.abc import AsyncGenerator, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from contract.engines.sglang.arguments import server_args
from contract.errors import EngineFailed, InvalidRequest, RequestError
from contract.manifest import load_manifest
from contract.sampling import SamplingParams
from contract.spec import Deployment
from contract.tensors import FinishReason
from contract.wire import TopLogprob
from python_backend.async_engine import AsyncEngine, check_version
from python_backend.engines import features_of
from python_backend.protocol import Output, Stats
from python_backend.sglang.sampling import Ends, ends_of, sglang_sampling

_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "abort": FinishReason.CANCELLED}
_BAD_REQUEST = 400


def engine_args(engine: Path, spec: Deployment, positions: int) -> dict[str, Any]:
    """How SGLang is started (its ServerArgs).

    Args:
        positions: those that the model has.
    """
    return server_args(engine, spec, positions) | {
        "sampling_defaults": "openai",  # a request's parameters are the contract's, not the checkpoint's
        "incremental_streaming_output": True,
        "batch_notify_size": spec.limits.max_batch_size + 1,  # a step is one wake-up of every stream
        "log_level": "warning",
    }


class SglangEngine(AsyncEngine):
    """Continuous batching with a radix cache, on GPUs."""

    name = "sglang"

    def __init__(self, engine: Path, spec: Deployment) -> None:
        super().__init__()
        self._engine = engine
        self._spec = spec
        self.features = features_of(spec.engine)
        self._drafted = self._accepted = 0

    def load(self) -> None:
        """Start SGLang's processes and wait until the model is loaded.

        Raises:
            Unavailable: SGLang is not here, or is another one.
        """
        kind = self._spec.engine.kind
        check_version(self.name, kind.version, kind.title)
        from sglang.srt.entrypoints.engine import Engine

        manifest = load_manifest(self._engine)
        self._eos = manifest.eos_token_ids
        self._llm = Engine(**engine_args(self._engine, self._spec, manifest.max_position_embeddings))

    async def unload(self) -> None:
        """End SGLang's processes."""
        self._llm.shutdown()

    async def leave(self, key: int) -> None:
        """Abort it, whether it waits or runs."""
        self._llm.tokenizer_manager.abort_request(str(key))

    def tell(self) -> Stats | None:
        """The scheduler's last snapshot."""
        loads = self._llm.tokenizer_manager.load_snapshot_reader.read_all()
        if not loads:
            return None
        return Stats(
            active=sum(load.num_running_reqs for load in loads),
            waiting=sum(load.num_waiting_reqs for load in loads),
            kv_cache_usage=max(load.token_usage for load in loads),
            drafted=self._drafted,
            accepted=self._accepted,
        )

    async def answer(self, key: int, input_ids: list[int], sampling: SamplingParams) -> AsyncGenerator[Output, None]:
        """One generate request."""
        ends = ends_of(sampling, self._eos)
        wanted = sglang_sampling(sampling, ends)
        scored = sampling.prompt_logprobs is not None
        try:
            stream = await self._llm.async_generate(
                input_ids=input_ids,
                sampling_params=wanted,
                return_logprob=sampling.return_log_probs or bool(sampling.logprobs) or scored,
                logprob_start_len=0 if scored else -1,
                top_logprobs_num=max(sampling.logprobs, sampling.prompt_logprobs or 0),
                lora_path=sampling.lora_name or None,
                rid=str(key),
                stream=True,
            )
            async for came in stream:
                if key not in self._live:  # an abort's echo
                    continue
                output = read(key, came, sampling)
                if scored:
                    add_prompt_log_probs(output, came["meta_info"], sampling.prompt_logprobs or 0)
                    scored = False
                output = cut(output, ends)
                yield output
                self._drafted += came["meta_info"].get("spec_num_proposed_drafts", 0)  # of a finished answer, in all
                self._accepted += came["meta_info"].get("spec_num_correct_drafts", 0)
                if output.finish and not came["meta_info"]["finish_reason"]:
                    await self.leave(key)
        except ValueError as refusal:  # what its tokenizer manager refuses
            raise _refused(str(refusal), sampling) from None


def read(key: int, came: dict[str, Any], sampling: SamplingParams) -> Output:
    """What one message of SGLang's brings.

    Raises:
        RequestError: the scheduler refused or failed the request.
    """
    about = came["meta_info"]
    output = Output(key, list(came["output_ids"]), cached_tokens=about.get("cached_tokens"))
    if sampling.return_log_probs or sampling.logprobs:
        output.log_probs = [float(entry[0]) for entry in about["output_token_logprobs"]]
        if sampling.logprobs:
            output.top_log_probs = [_best(ranked or (), sampling.logprobs) for ranked in about["output_top_logprobs"]]
    if reason := about["finish_reason"]:
        if reason["type"] == "abort" and reason.get("status_code") == _BAD_REQUEST:
            raise _refused(str(reason["message"]), sampling)
        if reason["type"] == "abort" and reason.get("status_code"):
            raise EngineFailed(f"SGLang ended the request: {reason['message']}")
        output.finish = _FINISH[reason["type"]]
    return output


def add_prompt_log_probs(output: Output, about: dict[str, Any], alternatives: int) -> None:
    """Of the prompt's tokens but the first, as every message of SGLang's has them."""
    output.prompt_log_probs = [float(value) for value, _, _ in about["input_token_logprobs"][1:]]
    if alternatives:
        output.prompt_top_log_probs = [_best(ranked, alternatives) for ranked in about["input_top_logprobs"][1:]]


def _best(ranked: Iterable[tuple[float, int, Any]], most: int) -> list[TopLogprob]:
    """The likeliest tokens, which SGLang has in their order."""
    return [TopLogprob(int(token), float(value)) for value, token, _ in islice(ranked, most)]


def cut(output: Output, ends: Ends) -> Output:
    """An output up to the first token that ends the answer, which SGLang has not seen."""
    at = next((at for at, token in enumerate(output.ids, 1) if token in ends.watched), None)
    if at is None:
        return output
    return Output(
        output.key,
        output.ids[:at],
        output.log_probs[:at],
        output.top_log_probs[:at],
        output.prompt_log_probs,
        output.prompt_top_log_probs,
        finish=FinishReason.STOP,
        cached_tokens=output.cached_tokens,
    )


def _refused(reason: str, sampling: SamplingParams) -> RequestError:
    at_fault = "guided_decoding_guide" if "grammar" in reason and sampling.guided_decoding_guide_type else ""
    if at_fault:
        return InvalidRequest(reason, field=at_fault)
    return EngineFailed(f"the engine refused the request: {reason}")


create = SglangEngine
