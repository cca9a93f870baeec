"""SGLang's Engine, as 0.5.17 behaves towards a caller that has ids and wants ids, its traps included."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
from behind import Behind, check_call, made

from contract.sampling import SamplingParams as Sampling
from python_backend.protocol import Output

ServerArgs = made("sglang", "ServerArgs")
SamplingParams = made("sglang", "SamplingParams")
LoadSnapshot = made("sglang", "LoadSnapshot")
_BAD_REQUEST = 400


class TokenizerManager:
    """What of it a caller of the Engine reaches for."""

    def __init__(self, behind: Behind) -> None:
        self._behind = behind
        self.running: dict[str, int] = {}  # request id → key behind
        self.load_snapshot_reader = SimpleNamespace(read_all=self._loads)

    def abort_request(self, rid: str = "", abort_all: bool = False) -> None:
        """Unknown ids are no error."""
        if rid in self.running:
            self._behind.abort(self.running[rid])

    def _loads(self) -> list[Any]:
        stats = self._behind.stats()
        told = {"num_running_reqs": stats.active, "num_waiting_reqs": stats.waiting}
        return [LoadSnapshot(token_usage=stats.kv_cache_usage, **told)]


class Engine:
    """ServerArgs by keyword."""

    def __init__(self, **kwargs: Any) -> None:
        self.server_args = ServerArgs(**kwargs)
        self._behind = Behind(self.server_args.max_running_requests)
        self.tokenizer_manager = TokenizerManager(self._behind)

    def shutdown(self) -> None:
        """End the processes."""
        self._behind.stop()

    async def async_generate(self, **kwargs: Any) -> AsyncIterator[dict[str, Any]]:
        """A stream of dicts; this one knows only ``stream=True``."""
        check_call("sglang", "Engine.async_generate", kwargs)
        assert kwargs["stream"] is True
        stream: AsyncIterator[dict[str, Any]] = self._stream(**kwargs)
        return stream

    async def _stream(self, input_ids: list[int], sampling_params: dict[str, Any], rid: str, **more: Any) -> Any:
        args = self.server_args
        params = SamplingParams(**sampling_params)
        if len(input_ids) + params.max_new_tokens > args.context_length:
            raise ValueError(
                f"Requested token count exceeds the model's maximum context length of {args.context_length}"
            )
        guide = next((each for each in ("json_schema", "regex", "ebnf", "structural_tag") if getattr(params, each)), "")
        if args.skip_tokenizer_init and params.min_new_tokens:
            raise ValueError("min_new_tokens is unavailable when skip_tokenizer_init=True")
        if args.skip_tokenizer_init and guide:
            yield _abort(rid, [], f"Grammar-based generation ({guide}) is not supported", _BAD_REQUEST)
            return
        # Five tokens and more of the context are its own.
        most = min(params.max_new_tokens, args.context_length - 2 - len(input_ids))
        sampling = self._translated(params, most, guide, more["return_logprob"])
        if scored := more["return_logprob"] and more["logprob_start_len"] == 0:
            asked = more["top_logprobs_num"]
            of_the_answer = asked if most == 1 and not sampling.temperature else 0  # of more OpenVINO has none
            sampling = msgspec.structs.replace(sampling, prompt_logprobs=asked, logprobs=of_the_answer)
        key = self._behind.begin(input_ids, sampling)
        self.tokenizer_manager.running[rid] = key
        said: list[int] = []
        of_the_prompt: dict[str, Any] = {}
        async for output in self._behind.read(key):
            said += output.ids
            if output.prompt_log_probs:
                of_the_prompt = _of_the_prompt(input_ids, output)
            if not (output.ids or output.finish):
                continue
            if output.finish == "cancelled":
                yield _abort(rid, said[-1:], "Abort in waiting queue")  # the last id once more, and no probabilities
                break
            matched = output.finish and {"type": str(output.finish), "matched": output.ids[-1:]}
            about: dict[str, Any] = {"id": rid, "finish_reason": matched or None}
            if matched and args.speculative_algorithm and len(said) > 1:  # one guess was right, as if
                steps = len(said) - 1
                about |= {"spec_num_proposed_drafts": steps * (args.speculative_num_draft_tokens - 1)}
                about |= {"spec_num_correct_drafts": 1, "spec_verify_ct": steps}
            if scored:  # once more with each message
                about |= of_the_prompt or _of_the_prompt(input_ids[:1], Output(0))
            if more["return_logprob"]:
                told = list(zip(output.log_probs, output.ids, strict=True))
                about["output_token_logprobs"] = [(value, token, None) for value, token in told]
                if more["top_logprobs_num"]:
                    ranked = [[(top.logprob, top.token_id, None) for top in tops] for tops in output.top_log_probs]
                    about["output_top_logprobs"] = ranked or [[(value, token, None)] for value, token in told]
            yield {"text": "", "output_ids": output.ids, "meta_info": about}
        self.tokenizer_manager.running.pop(rid, None)

    def _translated(self, params: Any, most: int, guide: str, log_probs: bool) -> Sampling:
        """For OpenVINO. ``ignore_eos`` ends at nothing; without it the model's own ends count, named or not."""
        greedy = params.temperature == 0 or params.top_k == 1
        return Sampling(
            max_tokens=most,
            min_tokens=params.min_new_tokens,
            temperature=0.0 if greedy else params.temperature,
            top_k=0 if params.top_k is None or params.top_k < 0 else params.top_k,
            top_p=params.top_p,
            repetition_penalty=params.repetition_penalty,
            presence_penalty=params.presence_penalty,
            frequency_penalty=params.frequency_penalty,
            seed=params.sampling_seed if self.server_args.enable_deterministic_inference else None,
            ignore_eos=params.ignore_eos,
            stop_token_ids=() if params.ignore_eos else tuple(params.stop_token_ids or ()),
            return_log_probs=log_probs,
            guided_decoding_guide_type={"ebnf": "ebnf_grammar"}.get(guide, guide),
            guided_decoding_guide=getattr(params, guide) if guide else "",
        )


def _of_the_prompt(ids: list[int], output: Output) -> dict[str, Any]:
    """Of the first token there is none."""
    told = zip(output.prompt_log_probs, ids[1:], strict=True)
    about: dict[str, Any] = {
        "input_token_logprobs": [(None, ids[0], None), *((value, token, None) for value, token in told)]
    }
    ranked = [[(top.logprob, top.token_id, None) for top in tops] for tops in output.prompt_top_log_probs]
    return about | {"input_top_logprobs": [None, *ranked]}


def _abort(rid: str, ids: list[int], message: str, code: int | None = None) -> dict[str, Any]:
    reason = {"type": "abort", "message": message} | ({"status_code": code} if code else {})
    return {"text": "", "output_ids": ids, "meta_info": {"id": rid, "finish_reason": reason}}
