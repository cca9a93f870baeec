"""LMDeploy's engines behind the engine protocol: ids in and out, below the tokenizer that its server would use.

Both engines lend handles, each of which serves one request at a time.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from contract.errors import ContextTooLong, EngineFailed, RequestError, Unavailable
from contract.lora import ADAPTERS
from contract.manifest import load_manifest
from contract.sampling import SamplingParams
from contract.spec import Deployment
from contract.tensors import FinishReason
from contract.wire import TopLogprob
from python_backend.async_engine import AsyncEngine, check_version
from python_backend.engines import features_of
from python_backend.lmdeploy.sampling import ends_of, lmdeploy_sampling
from python_backend.protocol import Output, Stats

_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def engine_args(engine: Path, spec: Deployment) -> dict[str, Any]:
    """How the engine is started: of TurbomindEngineConfig or PytorchEngineConfig."""
    options, limits, parallel = spec.engine.lmdeploy, spec.limits, spec.engine.parallel
    wanted: dict[str, Any] = {
        "dtype": _DTYPES[spec.engine.precision],
        "tp": parallel.tensor,
        "ep": parallel.expert,
        "session_len": limits.max_seq_len,
        "max_batch_size": limits.max_batch_size + 1,  # one for the supervisor's canary
        "max_prefill_token_num": limits.max_num_tokens,
        "cache_max_entry_count": options.cache_max_entry_count,
        "enable_prefix_caching": options.prefix_caching,
        "quant_policy": options.quant_policy,
        "model_format": options.model_format,
    }
    if options.backend == "turbomind":
        return wanted | {"communicator": options.communicator}
    wanted |= {"eager_mode": options.eager_mode, "logprobs_mode": "raw_logprobs"}
    if options.lora:
        wanted["adapters"] = {name: str(engine / ADAPTERS / name) for name in options.lora.names}
    return wanted


class LmdeployEngine(AsyncEngine):
    """Persistent batching on GPUs."""

    name = "lmdeploy"

    def __init__(self, engine: Path, spec: Deployment) -> None:
        super().__init__()
        self._engine = engine
        self._spec = spec
        self._handles: asyncio.Queue[Any] = asyncio.Queue()
        self._lent: dict[int, tuple[Any, int]] = {}  # key → handle and session
        self._sessions = itertools.count(1)
        self.features = features_of(spec.engine)

    def load(self) -> None:
        """Load the model.

        Raises:
            Unavailable: LMDeploy is not here, is another one, or refuses the machine.
        """
        kind = self._spec.engine.kind
        check_version(self.name, kind.version, kind.title)
        from lmdeploy.messages import GenerationConfig, ResponseType

        self._eos = load_manifest(self._engine).eos_token_ids
        self._generation_config, self._response_type = GenerationConfig, ResponseType
        try:
            self._llm = self._loaded()
        except SystemExit:
            raise Unavailable("LMDeploy's check of this machine failed", fix="The lines before this say why") from None
        for _ in range(self._spec.limits.max_batch_size + 1):
            self._handles.put_nowait(self._llm.create_instance())

    def _loaded(self) -> Any:
        arguments = engine_args(self._engine, self._spec)
        if self._spec.engine.lmdeploy.backend == "pytorch":
            from lmdeploy.messages import PytorchEngineConfig
            from lmdeploy.pytorch.engine import Engine

            return Engine.from_pretrained(str(self._engine), engine_config=PytorchEngineConfig(**arguments))
        from lmdeploy import turbomind
        from lmdeploy.messages import TurbomindEngineConfig

        if not turbomind.is_available():
            raise Unavailable(
                "LMDeploy's TurboMind cannot be loaded here", fix="Set engine.lmdeploy.backend: pytorch"
            ) from turbomind._import_error
        return turbomind.TurboMind.from_pretrained(str(self._engine), engine_config=TurbomindEngineConfig(**arguments))

    def begin(self) -> None:
        """The PyTorch engine steps on this loop; TurboMind has threads of its own."""
        if self._spec.engine.lmdeploy.backend == "pytorch":
            self._llm.start_loop()

    async def unload(self) -> None:
        """Release the model; the PyTorch engine's loop ends its own processes when it is stopped."""
        if self._spec.engine.lmdeploy.backend == "pytorch":
            self._llm.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await self._llm.wait_tasks()
        self._llm.close()

    async def leave(self, key: int) -> None:
        """Cancel it; one that waits for a handle finds out when it gets one."""
        if lent := self._lent.get(key):
            handle, session = lent
            await handle.async_cancel(session)

    def tell(self) -> Stats:
        """The scheduler's own count; who waits for a handle is waiting too."""
        told = self._llm.get_schedule_metrics()
        apart = len(self._live) - len(self._lent)
        return Stats(
            active=told.active_seqs, waiting=told.waiting_seqs + max(0, apart), kv_cache_usage=told.cache_usage
        )

    async def answer(self, key: int, input_ids: list[int], sampling: SamplingParams) -> AsyncGenerator[Output, None]:
        """One inference on a handle of its own; where the prompt is to be scored, one before it."""
        ends = ends_of(sampling, self._eos)
        config = self._generation_config(**lmdeploy_sampling(sampling, ends, secrets.randbits(63)))
        adapter: dict[str, str] = {"adapter_name": sampling.lora_name} if sampling.lora_name else {}
        handle = await self._handles.get()
        try:
            if key not in self._live:
                return
            if sampling.prompt_logprobs is not None and len(input_ids) > 1:
                yield await self._scored(key, handle, input_ids, sampling.prompt_logprobs, adapter)
                if key not in self._live:
                    return
            session = next(self._sessions)
            self._lent[key] = handle, session
            async for came in handle.async_stream_infer(
                session, input_ids, gen_config=config, stream_output=True, **adapter
            ):
                yield self._read(key, came, sampling, ends)
        finally:
            self._lent.pop(key, None)
            self._handles.put_nowait(handle)

    async def _scored(
        self, key: int, handle: Any, input_ids: list[int], alternatives: int, adapter: dict[str, str]
    ) -> Output:
        """The prompt's log probabilities, which LMDeploy tells where nothing is generated.

        Raises:
            RequestError: it told none of a token.
        """
        config = self._generation_config(max_new_tokens=0, logprobs=alternatives, logprob_start_len=0)
        session = next(self._sessions)
        self._lent[key] = handle, session
        scored = Output(key, input_ids[1:])
        told: list[dict[int, float]] = []
        async for came in handle.async_stream_infer(
            session, input_ids, gen_config=config, stream_output=True, **adapter
        ):
            told += came.logprobs or []
            if came.status not in (self._response_type.SUCCESS, self._response_type.FINISH):
                if key not in self._live:  # it was left
                    return Output(key)
                raise _failure(came.status.name)
        add_log_probs(scored, told, alternatives)
        return Output(key, prompt_log_probs=scored.log_probs, prompt_top_log_probs=scored.top_log_probs)

    def _read(self, key: int, came: Any, sampling: SamplingParams, ends: list[int]) -> Output:
        """What one message of the engine's brings.

        Raises:
            RequestError: the engine failed the request.
        """
        output = Output(key, list(came.token_ids))
        if (sampling.return_log_probs or sampling.logprobs) and output.ids:
            add_log_probs(output, came.logprobs or [], sampling.logprobs)
        if came.status is self._response_type.FINISH:
            # Why it ended is not told: the last token of the answer tells.
            output.finish = FinishReason.STOP if output.ids and output.ids[-1] in ends else FinishReason.LENGTH
        elif came.status is self._response_type.CANCEL:
            output.finish = FinishReason.CANCELLED
        elif came.status is not self._response_type.SUCCESS:
            raise _failure(came.status.name)
        return output


def add_log_probs(output: Output, told: list[dict[int, float]], most: int) -> None:
    """Of each token its own, and of the most likely ones where asked for.

    Raises:
        EngineFailed: LMDeploy told nothing of a token.
    """
    if len(told) < len(output.ids) or any(token not in entry for token, entry in zip(output.ids, told, strict=False)):
        raise EngineFailed("LMDeploy told no log probability of a token")
    for token, entry in zip(output.ids, told, strict=False):
        output.log_probs.append(float(entry[token]))
        if most:
            ranked = sorted(entry.items(), key=lambda item: -item[1])[:most]
            output.top_log_probs.append([TopLogprob(int(other), float(value)) for other, value in ranked])


def _failure(status: str) -> RequestError:
    if status == "INPUT_LENGTH_ERROR":
        return ContextTooLong("the prompt does not fit the engine's KV cache", field="input_ids")
    if status == "OUT_OF_MEMORY":
        return EngineFailed("the KV cache is too small for this request", fix="Raise lmdeploy.cache_max_entry_count")
    return EngineFailed(f"LMDeploy ended the request: {status}")


create = LmdeployEngine
