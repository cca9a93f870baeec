"""Requests that no client should send, each with the input that its refusal must name; over gRPC and over HTTP."""

import json
import math
import struct
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from contract.errors import RequestError, from_wire
from contract.sampling import BOUNDS
from contract.tensors import ENSEMBLE_ALIAS, INPUT_BY_NAME
from serving.supervisor import Running

HANG_S = 30
MIB = 2**20
_CODES = {"INT32": "i", "UINT64": "Q", "FP32": "f", "BOOL": "?", "INT64": "q", "FP64": "d"}


@dataclass(frozen=True)
class Raw:
    """One input tensor as it goes over the wire, sound or not."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Hostile:
    """A bad request, and what its refusal must say."""

    tensors: tuple[Raw, ...]
    field: str
    said: str = ""


def tensor(name: str, *values: Any, dtype: str = "", shape: tuple[int, ...] | None = None) -> Raw:
    """A tensor as the contract has it but for what is given."""
    dtype = dtype or INPUT_BY_NAME[name].dtype
    if dtype == "BYTES":
        encoded = [value.encode() if isinstance(value, str) else value for value in values]
        data = b"".join(struct.pack("<I", len(each)) + each for each in encoded)
    else:
        data = struct.pack(f"<{len(values)}{_CODES[dtype]}", *values)
    return Raw(name, dtype, (1, len(values)) if shape is None else shape, data)


PROMPT = tensor("text_input", "tide")
CHAT = tensor("messages", '[{"role": "user", "content": "x"}]')


def _messages(value: str) -> Hostile:
    return Hostile((tensor("messages", value),), "messages")


def _out_of_bounds() -> dict[str, Hostile]:
    cases = {}
    for field, (low, high, inclusive) in BOUNDS.items():
        dtype = INPUT_BY_NAME[field].dtype
        beyond: list[float] = [low - 1 if inclusive else low, high + 1]
        if dtype == "FP32":
            beyond += [math.nan, math.inf, -math.inf]
        lowest, highest = {"INT32": (-(2**31), 2**31 - 1), "UINT64": (0, 2**64 - 1)}.get(dtype, (-math.inf, math.inf))
        for value in beyond:
            if not lowest <= value <= highest and not math.isnan(value):
                continue  # the dtype itself cannot say it
            if (field in ("top_k", "top_p") and value <= 0) or (field, value) in (("end_id", -1), ("beam_width", 0)):
                continue  # NVIDIA's clients say "not given" so
            said = f"must be in {'[' if inclusive else '('}{low}, {high}]"
            cases[f"{field} {value}"] = Hostile((PROMPT, tensor(field, value)), field, said)
    return cases


def _wrong_tensors() -> dict[str, Hostile]:
    """Wrong dtypes, shapes and lengths, which Triton itself refuses."""
    cases = {
        f"{name} as {dtype}": Hostile((*before, tensor(name, value, dtype=dtype)), name, "data-type")
        for before, name, dtype, value in [
            ((), "text_input", "INT32", 5),
            ((PROMPT,), "max_tokens", "INT64", 5),
            ((PROMPT,), "max_tokens", "BYTES", "5"),
            ((PROMPT,), "temperature", "FP64", 0.5),
            ((PROMPT,), "stream", "INT32", 1),
            ((PROMPT,), "seed", "INT32", 1),
            ((PROMPT,), "stop_words", "INT32", 1),
            ((), "input_ids", "INT64", 5),
        ]
    }
    for name, values in {"text_input": ("a", "b"), "max_tokens": (5, 5), "temperature": (0.5, 0.5)}.items():
        before = () if name == "text_input" else (PROMPT,)
        for shape, count in {(1,): 1, (1, 2): 2, (2, 1): 2, (1, 0): 0, (): 1, (1, -1): 1, (1, 1, 1): 1}.items():
            wrong = tensor(name, *values[:count], shape=shape)
            blamed = "text_input" if shape == (2, 1) else name  # a batch; or none, and then Triton names what has one
            cases[f"{name} shaped {list(shape)}"] = Hostile((*before, wrong), blamed)
    cases |= {
        f"text_input of bytes {data!r}": Hostile((Raw("text_input", "BYTES", (1, 1), data),), "text_input")
        for data in (b"", b"\x02", b"\xff\xff\xff\x7fabc", struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b")
    }
    cases |= {
        f"max_tokens of {size} bytes": Hostile((PROMPT, Raw("max_tokens", "INT32", (1, 1), bytes(size))), "max_tokens")
        for size in (0, 1, 12)
    }
    cases["no such dtype"] = Hostile((PROMPT, Raw("max_tokens", "COMPLEX", (1, 1), bytes(4))), "max_tokens")
    cases["no such tensor"] = Hostile((PROMPT, Raw("max_tokns", "INT32", (1, 1), bytes(4))), "max_tokns")
    cases["text_input twice"] = Hostile((PROMPT, PROMPT), "text_input")
    return cases


_DEEP = "[" * 100_000 + "]" * 100_000

HOSTILE: dict[str, Hostile] = {
    "text that is not UTF-8": Hostile((tensor("text_input", b"\xff\xfehi"),), "text_input", "not UTF-8: byte 0xff"),
    "empty text": Hostile((tensor("text_input", ""),), "text_input", "is empty"),
    "1 MiB of text": Hostile((tensor("text_input", "a" * MIB),), "text_input", "maximum context length"),
    "1 MiB of emoji": Hostile(
        (tensor("text_input", "\U0001fae8" * (MIB // 4)),), "text_input", "maximum context length"
    ),
    "1 MiB of messages": Hostile(
        (tensor("messages", json.dumps([{"role": "user", "content": "a" * MIB}])),),
        "messages",
        "maximum context length",
    ),
    "no input at all": Hostile((), "text_input"),
    "no prompt": Hostile((tensor("max_tokens", 5),), "text_input", "got none"),
    "two prompts": Hostile((PROMPT, CHAT), "messages", "got text_input and messages"),
    "three prompts": Hostile((PROMPT, CHAT, tensor("input_ids", 1)), "messages"),
    "no ids": Hostile((tensor("input_ids"),), "input_ids", "is empty"),
    "unknown id": Hostile((tensor("input_ids", 1, 2**31 - 1),), "input_ids", "token ids below"),
    "negative id": Hostile((tensor("input_ids", -1),), "input_ids", "token ids below"),
    "too many ids": Hostile((tensor("input_ids", *range(200), *[1] * 100_000),), "input_ids", "Shorten it by"),
    "messages that are not JSON": _messages("{"),
    "messages that are an object": _messages("{}"),
    "messages that are empty": _messages("[]"),
    "messages that are numbers": _messages("[1, 2]"),
    "message without a role": _messages('[{"content": "x"}]'),
    "message without content": _messages('[{"role": "user"}]'),
    "message with a number for content": _messages('[{"role": "user", "content": 5}]'),
    "message with half a surrogate pair": _messages('[{"role": "user", "content": "\\ud800"}]'),
    "messages as deep as a well": _messages(_DEEP),
    "messages that are not UTF-8": Hostile((tensor("messages", b"[\xff]"),), "messages", "not UTF-8"),
    "tools that are not JSON": Hostile((CHAT, tensor("tools", "nope")), "tools"),
    "tools that are an object": Hostile((CHAT, tensor("tools", "{}")), "tools"),
    "tools that are numbers": Hostile((CHAT, tensor("tools", "[1]")), "tools"),
    "template variables that are a list": Hostile((CHAT, tensor("chat_template_kwargs", "[]")), "chat_template_kwargs"),
    "a template of the client's own": Hostile(
        (CHAT, tensor("chat_template_kwargs", '{"chat_template": "{{ 1 / 0 }}"}')), "chat_template_kwargs"
    ),
    "tokenize as a template variable": Hostile(
        (CHAT, tensor("chat_template_kwargs", '{"tokenize": true}')), "chat_template_kwargs"
    ),
    "more tokens than the context": Hostile((PROMPT, tensor("max_tokens", 10**6)), "max_tokens", "Ask for at most"),
    "more least tokens than most": Hostile((PROMPT, tensor("max_tokens", 2), tensor("min_tokens", 3)), "min_tokens"),
    "stop word that is not UTF-8": Hostile((PROMPT, tensor("stop_words", "a", b"\xc3")), "stop_words", "not UTF-8"),
    "unknown stop token": Hostile((PROMPT, tensor("stop_token_ids", 2**31 - 1)), "stop_token_ids"),
    "negative stop token": Hostile((PROMPT, tensor("stop_token_ids", -1)), "stop_token_ids"),
    "unknown guide": Hostile((PROMPT, tensor("guided_decoding_guide_type", "poem")), "guided_decoding_guide_type"),
    "guide without its type": Hostile((PROMPT, tensor("guided_decoding_guide", "a+")), "guided_decoding_guide_type"),
    "type without its guide": Hostile((PROMPT, tensor("guided_decoding_guide_type", "regex")), "guided_decoding_guide"),
    "bias that is no number": Hostile((PROMPT, tensor("logit_bias", '{"1": "x"}')), "logit_bias"),
    "bias of no token": Hostile((PROMPT, tensor("logit_bias", '{"99999999": 1}')), "logit_bias"),
    "negative interval": Hostile((PROMPT, tensor("stream_interval_ms", -1)), "stream_interval_ms"),
    "negative timeout": Hostile((PROMPT, tensor("timeout_ms", -1)), "timeout_ms"),
    "two answers": Hostile((PROMPT, tensor("num_return_sequences", 2)), "num_return_sequences"),
    "an end below the first token": Hostile((PROMPT, tensor("end_id", -2)), "end_id", "must be in [0"),
    "two seeds": Hostile((PROMPT, tensor("seed", 1), tensor("random_seed", 2)), "random_seed", "must agree with seed"),
    "an adapter by its number": Hostile((PROMPT, tensor("lora_task_id", 3)), "lora_task_id", "lora_name"),
    "a draft": Hostile((PROMPT, tensor("num_draft_tokens", 3)), "num_draft_tokens"),
    "words without weights": Hostile((PROMPT, tensor("embedding_bias_words", "x")), "embedding_bias_weights"),
    "context logits": Hostile((PROMPT, tensor("return_context_logits", True)), "return_context_logits"),
    "generation logits": Hostile((PROMPT, tensor("return_generation_logits", True)), "return_generation_logits"),
    "cache statistics": Hostile((PROMPT, tensor("return_kv_cache_reuse_stats", True)), "return_kv_cache_reuse_stats"),
    "beams": Hostile((PROMPT, tensor("beam_width", 2)), "beam_width", "not supported by the"),
    "bad words": Hostile((PROMPT, tensor("bad_words", "x")), "bad_words", "not supported by the"),
    **_out_of_bounds(),
    **_wrong_tensors(),
}

# What Triton's HTTP front end hands on; the field that the refusal names.
HOSTILE_HTTP: dict[str, str] = {
    '{"text_input": ""}': "text_input",
    "{}": "text_input",
    '{"max_tokens": 5}': "text_input",
    '{"text_input": "a", "messages": "[]"}': "messages",
    '{"messages": "{"}': "messages",
    '{"text_input": "a", "temperature": NaN}': "temperature",
    '{"text_input": "a", "temperature": 9}': "temperature",
    '{"text_input": "a", "max_tokens": -1}': "max_tokens",
    '{"text_input": "a", "max_token": 5}': "max_token",
    '{"text_input": "a", "stop_word": "x"}': "stop_word",
    '{"text_input": "a", "unknown": [1]}': "unknown",
    '{"text_input": "a", "unknown": 1}': "unknown",
    '{"text_input": "a", "parameters": {"temprature": 1}}': "temprature",
    '{"text_input": "a", "priority": 1}': "priority",
    '{"text_input": "a", "sequence_id": 5}': "sequence_id",
    '{"text_input": "a", "model": "another"}': "model",
    '{"text_input": "a", "timeout": "5"}': "timeout",
    '{"text_input": "a", "image_url_input": "x"}': "image_url_input",
    json.dumps({"text_input": "a" * MIB}): "text_input",
}
# What it refuses itself, naming no field: it must still be an error, and the client's.
REFUSED_BY_TRITON = (
    "not json",
    "",
    '{"text_input": 5}',
    '{"text_input": "\\ud800"}',
    '{"text_input": "a", "max_tokens": "x"}',
    '{"text_input": "a", "max_tokens": 2.5}',
    '{"text_input": "a", "max_tokens": 1e99}',
    '{"text_input": ["a", "b"], "max_tokens": 2}',
)


def ask(server: Running, tensors: tuple[Raw, ...], *, patient: bool = True, request_id: str = "") -> str | RequestError:
    """One request over gRPC: the joined text, or the error; who is not patient leaves at the error, before the end."""
    message = service_pb2.ModelInferRequest(model_name=ENSEMBLE_ALIAS, id=request_id)
    for each in tensors:
        message.inputs.add(name=each.name, datatype=each.dtype, shape=each.shape)
        message.raw_input_contents.append(each.data)
    message.outputs.add(name="text_output")
    text, error = "", None
    with grpc.insecure_channel(f"127.0.0.1:{server.spec.ports.grpc}", options=_CHANNEL) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            for response in stub.ModelStreamInfer(iter([message]), timeout=HANG_S):
                if response.error_message:
                    error = from_wire(response.error_message)
                    if not patient:
                        break
                text += b"".join(raw[4:] for raw in response.infer_response.raw_output_contents).decode()
        except grpc.RpcError as refused:  # by the filter, before Triton
            if refused.code() != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            error = from_wire(refused.details())
    return error or text


def post(server: Running, endpoint: str, body: str) -> tuple[int, str]:
    """One request over HTTP: the status and what came back."""
    url = f"http://127.0.0.1:{server.spec.ports.http}/v2/models/{ENSEMBLE_ALIAS}/{endpoint}"
    try:
        with urlopen(Request(url, body.encode(), method="POST"), timeout=HANG_S) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


_CHANNEL = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
