"""Requests for Triton's own doors: its HTTP with its JSON and binary forms, and every method of its gRPC."""

from typing import Any

from hypothesis import strategies as st

from contract.tensors import INPUTS
from tests.fuzz.case import Case, Door
from tests.fuzz.gateway import chunks, packings
from tests.fuzz.tensors import MODELS, inputs, messages, outputs, parameters
from tests.fuzz.values import bitten, dumped, mutated

_GENERATE: list[dict[str, Any]] = [
    {"text_input": "tide", "max_tokens": 4, "stream": False},
    {"text_input": "tide", "max_tokens": 4, "stream": True, "stop_words": ["x"], "temperature": 0.5, "seed": 3},
    {"messages": '[{"role": "user", "content": "x"}]', "max_tokens": 4, "id": "7"},
    {"text_input": "tide", "max_tokens": 4, "parameters": {"temperature": 0}, "guided_decoding_guide_type": "regex"},
]
_FIELDS = [tensor.name for tensor in INPUTS] + ["id", "parameters", "priority", "timeout", "sequence_id", "model"]
_OTHERS = [
    *(
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/stats",
        "/v2/models//infer",
        "/v2/models/%00/infer",
        "/",
    ),
    *("/v2/repository/index", "/v2/repository/models/fuzzed_engine/unload", "/v2/logging", "/v2/trace/setting", "/v3"),
    *(
        "/v2/systemsharedmemory/status",
        "/v2/cudasharedmemory/region/x/register",
        "/v2/systemsharedmemory/region/x/register",
    ),
]
_METHODS = [
    *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"),
    *("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "SystemSharedMemoryStatus", "LogSettings"),
    *("SystemSharedMemoryRegister", "CudaSharedMemoryRegister", "TraceSetting", "Nope", ""),
]
_METADATA = [
    *(("triton_grpc_error", "true"), ("triton_grpc_error", "false"), ("grpc-timeout", "1n"), ("x", "y" * 6_000)),
    *(
        ("content-type", "text/html"),
        ("grpc-encoding", "gzip"),
        ("triton-grpc-protocol-conch-admin", "x"),
        ("a-bin", "b"),
    ),
]


@st.composite
def http(draw: st.DrawFn) -> Case:
    """A request for the HTTP door."""
    model = draw(st.sampled_from(MODELS))
    version = draw(st.sampled_from(["", "", "", "/versions/1", "/versions/9", "/versions/x"]))
    verb = draw(
        st.sampled_from(["generate", "generate", "generate_stream", "infer", "infer", "config", "stats", "ready", ""])
    )
    path, headers = f"/v2/models/{model}{version}/{verb}", [b"Host: x", b"Connection: close"]
    if verb == "infer":
        body, extra = draw(_infer())
        headers += extra
    else:
        body = draw(dumped(draw(mutated(draw(st.sampled_from(_GENERATE)), _FIELDS))))
    match draw(st.integers(0, 14)):
        case 0:
            path = draw(st.sampled_from(_OTHERS))
        case 1:
            body = draw(bitten(body))
        case 2:
            body, name = draw(st.sampled_from(packings(body)))
            headers.append(b"Content-Encoding: " + name)
        case 3:
            depth = draw(st.sampled_from([100, 100_000]))
            body = b'{"text_input": ' + b"[" * depth + b"]" * depth + b"}"
        case 4:
            headers.append(
                draw(
                    st.sampled_from(
                        [b"triton-request-cancel: 1", b"Expect: 100-continue", b"Accept: */*", b"X: " + b"y" * 9_000]
                    )
                )
            )
        case _:
            pass
    method = draw(st.sampled_from([b"POST"] * 12 + [b"GET", b"DELETE", b"PUT", b"HEAD"]))
    line = method + b" " + path.encode() + b" HTTP/1.1"
    if draw(st.integers(0, 9)) == 0:
        if draw(st.integers(0, 5)) == 0:
            body = b" " * 600_000
            framed = b"1\r\n \r\n" * len(body) + b"0\r\n\r\n"
            return Case(
                Door.HTTP, (b"\r\n".join([line, *headers, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n" + framed,)
            )
        return Case(Door.HTTP, (draw(chunks(line, headers, body)),))
    length = draw(st.sampled_from([len(body)] * 12 + [len(body) + 1, max(0, len(body) - 1), -1, 2**63]))
    return Case(Door.HTTP, (b"\r\n".join([line, *headers, b"Content-Length: %d" % length]) + b"\r\n\r\n" + body,))


@st.composite
def _infer(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A body of infer, its tensors as JSON or behind it as bytes, and the header that says so."""
    binary, raw, asked = draw(st.booleans()), b"", []
    for name, dtype, shape, data in draw(inputs()):
        tensor: dict[str, Any] = {"name": name, "datatype": dtype, "shape": shape}
        told = draw(parameters())
        if binary:
            told["binary_data_size"] = len(data)
            raw += data
        else:
            tensor["data"] = draw(
                st.sampled_from([["tide"], [4], [True], [0.5], [], "x", [[[1]]], [None], list(data[:50])])
            )
        asked.append(tensor | ({"parameters": told} if told else {}))
    wanted = [{"name": name, "parameters": told} for name, told in draw(outputs())]
    body: dict[str, Any] = {"inputs": asked, "outputs": wanted, "parameters": draw(parameters())}
    text = draw(dumped(draw(mutated(body, ["id", "inputs", "outputs", "parameters"]))))
    if not binary:
        return text, []
    length = draw(st.sampled_from([len(text)] * 8 + [0, 1, len(text) + len(raw) + 1, -1, 2**40]))
    return text + raw, [b"Inference-Header-Content-Length: %d" % length]


@st.composite
def grpc(draw: st.DrawFn) -> Case:
    """A call of the gRPC door."""
    metadata = tuple(draw(st.lists(st.sampled_from(_METADATA), max_size=2))) if draw(st.integers(0, 7)) == 0 else ()
    if draw(st.integers(0, 9)) == 0:
        return Case(Door.GRPC, (draw(st.binary(max_size=30)),), draw(st.sampled_from(_METHODS)), metadata)
    method = draw(st.sampled_from(["ModelStreamInfer", "ModelStreamInfer", "ModelInfer"]))
    sent = [message.SerializeToString() for message in draw(st.lists(messages(), min_size=1, max_size=3))]
    if draw(st.integers(0, 14)) == 0:
        sent = [draw(bitten(sent[0]))]
    return Case(Door.GRPC, tuple(sent if method == "ModelStreamInfer" else sent[:1]), method, metadata)


@st.composite
def raw(draw: st.DrawFn) -> Case:
    """Bytes on any port, of that port's protocol or of another's."""
    begins = [
        *(
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"SSH-2.0-x\r\n",
        ),
        b"POST /v2/models/ensemble/generate HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
        *(b"\r\n" * 500, b"A" * 200_000, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"X: y\r\n" * 9_000),
    ]
    frame = st.tuples(st.binary(min_size=3, max_size=3), st.binary(min_size=6, max_size=6), st.binary(max_size=40))
    frames = b"".join(b"".join(each) for each in draw(st.lists(frame, max_size=4)))
    return Case(
        draw(st.sampled_from(list(Door))), (draw(st.sampled_from(begins)) + frames + draw(st.binary(max_size=60)),)
    )
