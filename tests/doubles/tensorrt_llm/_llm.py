"""The LLM classes: arguments checked as 1.2.1 checks them, tokens from the OpenVINO engine that the tests name."""

import json
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from contract.engines.trtllm.api import version
from contract.spec import Deployment
from python_backend.protocol import Engine, Output
from tensorrt_llm import _lora
from tensorrt_llm._classes import named
from tensorrt_llm._ranks import Ranks, iterate
from tensorrt_llm._results import RequestError, RequestOutput
from tensorrt_llm._sampling import translated

ENGINE = "TRTLLM_DOUBLE_ENGINE"  # the OpenVINO engine's folder
_SUPPORTED = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM")
_WITHOUT_A_TOKENIZER = "Either tokenizer or end_id must be provided"


class BaseLLM:
    """What both backends share."""

    _args = ""
    _keeps_the_end = True

    def __init__(
        self,
        model: str | Path,
        tokenizer: Any = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        args = named(self._args)
        for key in kwargs:
            if key not in args.model_fields and key != "_mpi_session":
                raise ValueError(f"{type(self).__name__} got invalid argument: {key}")
        self.args = args(
            model=model,
            tokenizer=tokenizer,
            tokenizer_mode=tokenizer_mode,
            skip_tokenizer_init=skip_tokenizer_init,
            trust_remote_code=trust_remote_code,
            tensor_parallel_size=tensor_parallel_size,
            dtype=dtype,
            revision=revision,
            tokenizer_revision=tokenizer_revision,
            **kwargs,
        )
        self.llm_id = f"double-{os.getpid()}"
        self._model = Path(model)
        self._adapted: list[str] = []  # the modules that a request's adapter may change
        self._config = json.loads((self._model / "config.json").read_text())
        self._check()
        self.tokenizer = self._load_tokenizer()
        self._results: dict[int, RequestOutput] = {}
        self._keys = count(1)
        self._executor: Engine | None = None
        world_size = self.args.tensor_parallel_size * self.args.pipeline_parallel_size
        self._ranks = Ranks(world_size, self.args.gather_generation_logits)
        self._start()

    def __enter__(self) -> "BaseLLM":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def generate_async(
        self,
        inputs: Any,
        sampling_params: Any = None,
        lora_request: Any = None,
        prompt_adapter_request: Any = None,
        streaming: bool = False,
        kv_cache_retention_config: Any = None,
        disaggregated_params: Any = None,
        trace_headers: Any = None,
        _postproc_params: Any = None,
        scheduling_params: Any = None,
        cache_salt: str | None = None,
    ) -> RequestOutput:
        """Queue a request; the result is filled as the engine goes."""
        if self._executor is None:
            raise RuntimeError("LLM is shutting down")
        params = sampling_params if sampling_params is not None else named("SamplingParams")()
        if lora_request is not None and not isinstance(lora_request, named("LoRARequest")):
            raise TypeError(f"lora_request must be a LoRARequest, got {lora_request!r}")  # streaming, put by position
        ids = self.tokenizer.encode(inputs).ids if self.tokenizer and isinstance(inputs, str) else list(inputs)
        if params.end_id is None and self.tokenizer is None:
            raise ValueError(_WITHOUT_A_TOKENIZER)
        self._check_request(ids, params)
        if lora_request and (why := _lora.refused(lora_request.lora_path, self._adapted)):
            raise RequestError(why)
        key = next(self._keys)
        result = RequestOutput(
            key,
            ids,
            params,
            streaming=streaming,
            keeps_the_end=self._keeps_the_end,
            cancel=self._executor.abort,
            decode=self.tokenizer.decode if self.tokenizer else None,
        )
        self._results[key] = result
        self._executor.submit(key, ids, translated(params))
        return result

    def get_stats(self, timeout: float | None = 2) -> list[dict[str, Any]]:
        """The iterations since the last question; waits for one."""
        told: list[dict[str, Any]] = self._ranks.ask(self._executor if self._tells_stats() else None, timeout)
        return told

    def get_stats_async(self, timeout: float | None = 2) -> AsyncIterator[dict[str, Any]]:
        """The same in an async loop, whose turn this call holds up for as long."""
        results: AsyncIterator[dict[str, Any]] = iterate(self.get_stats(timeout), timeout)
        return results

    def shutdown(self) -> None:
        """Release the engine; without it a process of several GPUs would not end."""
        if self._executor:
            self._executor.stop()
            self._executor = None

    def _check(self) -> None:
        pass

    def _tells_stats(self) -> bool:
        return True

    def _check_request(self, ids: list[int], params: Any) -> None:
        if params.guided_decoding is not None and self.args.guided_decoding_backend is None:
            raise ValueError("guided decoding needs guided_decoding_backend")

    def _load_tokenizer(self) -> Tokenizer | None:
        if self.args.skip_tokenizer_init:
            return None
        folder = Path(self.args.tokenizer or self._model)
        return Tokenizer.from_file(str(folder / "tokenizer.json"))

    def _start(self) -> None:
        from python_backend.openvino.engine import OpenVinoEngine  # seconds, which a build does not need

        if self.args.guided_decoding_backend and self.tokenizer is None:
            raise ValueError("guided decoding reads the vocabulary of a tokenizer, and skip_tokenizer_init is set")
        limits = {"max_batch_size": self.args.max_batch_size or 64, "max_seq_len": 2048, "max_num_tokens": 512}
        spec = Deployment.model_validate(
            {
                "name": "double",
                "source": {"kind": "path", "path": "/"},
                "engine": {"precision": "int8"},
                "limits": limits,
            }
        )
        self._executor = OpenVinoEngine(Path(os.environ[ENGINE]).resolve(), spec)
        self._executor.start(self._respond)

    def _respond(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            result = self._results.get(output.key)
            if result:
                if output.finish:
                    del self._results[output.key]
                result.respond(output)


class TorchLLM(BaseLLM):
    """``tensorrt_llm.LLM``."""

    _args = "TorchLlm"

    def _check(self) -> None:
        if type(self.args.speculative_config).__name__ in ("LookaheadDecodingConfig", "MedusaDecodingConfig"):
            raise ValueError("the speculative decoding is not supported by the PyTorch backend")
        if self.args.lora_config is not None:
            _lora.load_torch(self.args.lora_config)
            self._adapted = self.args.lora_config.lora_target_modules

    def _tells_stats(self) -> bool:
        return bool(self.args.enable_iter_perf_stats)

    def _start(self) -> None:
        # As its executor's import of tensorrt_llm.serve does.
        from openai.types.responses.response_content_part_added_event import PartReasoningText  # noqa: F401

        super()._start()


class TensorRtLLM(BaseLLM):
    """``tensorrt_llm._tensorrt_engine.LLM``: a checkpoint becomes an engine, which can be saved."""

    _args = "TensorRtLlm"
    _keeps_the_end = False

    def save(self, engine_dir: str) -> None:
        """Write what was built."""
        folder = Path(engine_dir)
        folder.mkdir(parents=True)
        mapping = {"tp_size": self.args.tensor_parallel_size, "pp_size": self.args.pipeline_parallel_size}
        config = {
            "version": version(),
            "pretrained_config": {"architecture": self._config["architectures"][0], "mapping": mapping},
            "build_config": self._built.model_dump(mode="json", exclude={"dry_run", "visualize_network"}),
        }
        (folder / "config.json").write_text(json.dumps(config))
        for rank in range(mapping["tp_size"] * mapping["pp_size"]):
            (folder / f"rank{rank}.engine").write_bytes(b"the double's engine")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(self._model / name, folder / name)

    def _check(self) -> None:
        assert self.args.kv_cache_config.dtype == "auto", "kv_cache_config.dtype must be auto on the TensorRT backend"
        if self.args.guided_decoding_backend not in (None, "xgrammar"):
            raise ValueError(f"Unsupported guided decoding backend {self.args.guided_decoding_backend}")
        speculative = self.args.speculative_config
        if type(speculative).__name__ == "EagleDecodingConfig" and not (
            speculative.speculative_model and (speculative.max_draft_len or 0) > 0
        ):
            raise ValueError("EAGLE needs speculative_model and max_draft_len > 0")
        if "pretrained_config" in self._config:
            self._check_engine()
            return
        architecture = self._config["architectures"][0]
        if architecture not in _SUPPORTED:
            raise NotImplementedError(
                f"The given huggingface model architecture {architecture} is not supported in TRT-LLM yet"
            )
        if self._config.get("quantization_config"):
            raise NotImplementedError("Unsupported quantization_config")
        self._built = self.args.build_config or named("BuildConfig")()
        if self.args.enable_lora:
            self._built.plugin_config.lora_plugin = "auto"
            if self.args.lora_config is not None:
                self._built.lora_config.max_lora_rank = self.args.lora_config.max_lora_rank
            _lora.load(self._built.lora_config)
        Path(self._built.output_timing_cache).write_bytes(b"the double's timing cache")

    def _check_engine(self) -> None:
        built = self._config["pretrained_config"]["mapping"]["tp_size"]
        if self.args.tensor_parallel_size not in (1, built):
            raise ValueError(
                f"tp_size {self.args.tensor_parallel_size} is not consistent with the engine's tp_size {built}"
            )
        build_config = self._config["build_config"]
        if build_config["plugin_config"]["lora_plugin"]:
            self._adapted = build_config["lora_config"]["lora_target_modules"]
        if self.args.lora_config is not None:  # for these alone the cache of adapters has room
            room = _lora.whole(self.args.lora_config.lora_target_modules)
            self._adapted = [name for name in self._adapted if name in room]
        read = {name: build_config[name] for name in ("max_seq_len", "gather_context_logits")}
        self._built = named("BuildConfig")(**read)

    def _start(self) -> None:
        if "pretrained_config" in self._config:  # a checkpoint is only built, never asked anything by the tests
            super()._start()

    def _check_request(self, ids: list[int], params: Any) -> None:
        super()._check_request(ids, params)
        longest = self._built.max_seq_len
        if longest and len(ids) + params.max_tokens > longest and not self.args.enable_chunked_prefill:
            raise ValueError(f"prompt length ({len(ids)}) plus max_tokens ({params.max_tokens}) exceeds {longest}")
        if params.logprobs and not self.args.gather_generation_logits:
            raise ValueError("logprobs need gather_generation_logits=True")
        if params.prompt_logprobs and not self._built.gather_context_logits:
            raise ValueError("prompt_logprobs need BuildConfig.gather_context_logits=True")
