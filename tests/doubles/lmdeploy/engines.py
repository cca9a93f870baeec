"""What LMDeploy 0.18's two engines share towards a caller below its tokenizer: handles, and messages with new ids."""

import json
from collections.abc import AsyncIterator
from typing import Any

from behind import Behind, check_call

from contract.sampling import SamplingParams as Sampling
from lmdeploy.messages import EngineOutput, ResponseType, ScheduleMetrics


class Engine:
    """Either engine."""

    handle = ""  # the recorded class of its handles

    def __init__(self, engine_config: Any) -> None:
        assert engine_config.dtype in ("auto", "float16", "bfloat16")
        assert engine_config.cache_max_entry_count > 0
        self.engine_config = engine_config
        self.behind = Behind(engine_config.max_batch_size)

    def create_instance(self, cuda_stream_id: int = 0) -> "Handle":
        """A handle."""
        return Handle(self)

    def check_ready(self) -> None:
        """Whether it steps."""

    def get_schedule_metrics(self) -> Any:
        """The scheduler's count."""
        stats = self.behind.stats()
        return ScheduleMetrics(active_seqs=stats.active, waiting_seqs=stats.waiting, cache_usage=stats.kv_cache_usage)

    def close(self) -> None:
        """Release the model."""
        self.behind.stop()


class Handle:
    """It serves one request at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._key = 0

    async def async_cancel(self, session_id: int) -> None:
        """Stop what runs on it."""
        if self._key:
            self._engine.behind.abort(self._key)

    async def async_stream_infer(
        self, session_id: int, input_ids: list[int], gen_config: Any, stream_output: bool = False, **more: Any
    ) -> AsyncIterator[Any]:
        """Messages with the ids that are new; the one that ended the answer is among them."""
        check_call("lmdeploy", f"{self._engine.handle}.async_stream_infer", more)
        assert not self._key, "a handle serves one request at a time"
        assert stream_output
        self._engine.check_ready()
        if len(input_ids) >= self._engine.engine_config.session_len:
            yield EngineOutput(status=ResponseType.INPUT_LENGTH_ERROR, token_ids=[])
            return
        if gen_config.logprob_start_len >= 0:
            yield await self._scored(input_ids, gen_config)
            return
        self._key = self._engine.behind.begin(input_ids, _translated(gen_config))
        try:
            async for output in self._engine.behind.read(self._key):
                status = ResponseType.SUCCESS
                if output.finish:
                    status = ResponseType.CANCEL if output.finish == "cancelled" else ResponseType.FINISH
                told = [{token: value} for token, value in zip(output.ids, output.log_probs, strict=False)]
                yield EngineOutput(status=status, token_ids=output.ids, logprobs=told or None)
        finally:
            self._key = 0

    async def _scored(self, input_ids: list[int], config: Any) -> Any:
        """Of each token after the first its own, and the likeliest; nothing may be generated."""
        assert self._engine.handle == "EngineInstance"
        assert (config.logprob_start_len, config.max_new_tokens) == (0, 0)
        self._key = self._engine.behind.begin(input_ids, Sampling(max_tokens=1, prompt_logprobs=config.logprobs))
        told: list[dict[int, float]] = []
        try:
            async for output in self._engine.behind.read(self._key):
                told += [{token: value} for token, value in zip(input_ids[1:], output.prompt_log_probs, strict=False)]
                for entry, tops in zip(told, output.prompt_top_log_probs, strict=False):
                    entry |= {top.token_id: top.logprob for top in tops}
                if output.finish == "cancelled":
                    return EngineOutput(status=ResponseType.CANCEL, token_ids=[])
            return EngineOutput(status=ResponseType.FINISH, token_ids=[], logprobs=told or None)
        finally:
            self._key = 0


def _translated(config: Any) -> Sampling:
    """For OpenVINO. Only the tokens that are named end an answer."""
    kind, guide = _guide(config.response_format)
    ends = () if config.ignore_eos else tuple(config.stop_token_ids or ())
    greedy = config.top_k == 1
    return Sampling(
        max_tokens=config.max_new_tokens,
        min_tokens=config.min_new_tokens or 0,
        temperature=0.0 if greedy else config.temperature,
        top_k=0 if greedy else config.top_k,
        top_p=config.top_p,
        repetition_penalty=config.repetition_penalty,
        seed=(config.random_seed or 0) % 2**63,
        ignore_eos=not ends,
        end_id=ends[0] if ends else None,
        stop_token_ids=ends[1:],
        return_log_probs=bool(config.logprobs),
        guided_decoding_guide_type=kind,
        guided_decoding_guide=guide,
    )


def _guide(wanted: dict[str, Any] | None) -> tuple[str, str]:
    match wanted:
        case None:
            return "", ""
        case {"type": "json_object"}:
            return "json", ""
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return "json_schema", schema if isinstance(schema, str) else json.dumps(schema)
        case {"type": "structural_tag", "format": {"type": "grammar", "grammar": grammar}}:
            return "ebnf_grammar", grammar
        case {"type": "regex_schema", "regex_schema": pattern}:
            return "regex", pattern
    raise ValueError(f"the double has no {wanted['type']}")
