"""One gRPC call: whether it may begin, and whether each of its messages may pass."""

import re
import time
from collections.abc import Container

from contract import http2
from contract.errors import InvalidRequest, RequestError
from contract.stage import ABORT_KEY, new_abort_key
from serving.filter.relay import MOST_BYTES
from serving.filter.tensors import check_message, too_large, unpack
from serving.triton import ADMIN_METADATA

_METHOD = re.compile(rb"/[A-Za-z0-9_.]{1,100}/[A-Za-z0-9_]{1,100}")
_TIMEOUT = re.compile(rb"\d{1,8}[HMSmun]")
_UNARY, _STREAM = (b"/inference.GRPCInferenceService/" + name for name in (b"ModelInfer", b"ModelStreamInfer"))
_PASSED = (b"grpc-timeout", b"grpc-encoding", ADMIN_METADATA.encode())
_ALWAYS = ((b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"localhost"), (b"te", b"trailers"))


class Call:
    """One call, until either side has reset it or Triton has answered it."""

    def __init__(self, method: bytes, encoding: str, streaming: Container[str]) -> None:
        self.encoding, self.infers = encoding, method in (_UNARY, _STREAM)
        self._streaming = streaming
        self._streams: bool | None = None  # whether what it asked for answers by several responses
        # Triton 2.51 dies where a unary inference is cancelled as it ends: the engine is told to stop instead, by this
        # key, and the call sees its end. 0: it may be cancelled.
        self.key = new_abort_key() if method == _UNARY else 0
        self.asked = False  # a whole message has passed
        self.left = False  # its client has, and the end is awaited
        self.partial = bytearray()  # of a message
        self.began: float | None = None
        self.open = True  # the client may send more
        self.begun = False  # Triton has sent the first headers of its answer
        self.refused: RequestError | None = None  # the client is to be told

    def take(self, data: bytes) -> None:
        """Read a piece of its messages.

        Raises:
            InvalidRequest: it completes one that may not pass.
        """
        self.partial += data
        while len(self.partial) >= 5:
            end = 5 + int.from_bytes(self.partial[1:5])
            if end > MOST_BYTES:
                raise too_large("")
            if len(self.partial) < end:
                break
            packed, message = self.partial[0], bytes(self.partial[5:end])
            del self.partial[:end]
            self.began = None
            if packed:
                message = unpack(message, self.encoding)
            if self.infers:
                self._check(message)
            self.asked = True
        self.began = (self.began or time.monotonic()) if self.partial else None

    def _check(self, message: bytes) -> None:
        request = check_message(message)
        streams = request.model_version in ("", "1") and request.model_name in self._streaming
        if self._streams not in (None, streams):
            raise InvalidRequest(
                f"{request.model_name} and what this call asked before answer in different ways, or one is not there",
                field="model_name",
                fix="Begin another call for it",
            )
        self._streams = streams


def admit(headers: dict[bytes, bytes], streaming: Container[str]) -> tuple[Call, bytes]:
    """A call that may begin, and the header block that begins it at Triton's: what matters, and nothing else.

    Args:
        streaming: the models that answer by several responses (models.py).

    Raises:
        InvalidRequest: it may not.
    """
    method = _METHOD.fullmatch(headers.get(b":path", b""))
    if not method or headers.get(b":method") != b"POST":
        raise InvalidRequest("this is no method of gRPC", field=":path")
    if headers.get(b"triton_grpc_error", b"false").lower() != b"false":
        raise InvalidRequest("Triton 2.51 dies of it", field="triton_grpc_error", fix="Read error_message instead")
    if b"grpc-timeout" in headers and not _TIMEOUT.fullmatch(headers[b"grpc-timeout"]):
        raise InvalidRequest("must be digits and one of H, M, S, m, u, n", field="grpc-timeout")
    encoding = headers.get(b"grpc-encoding", b"identity").decode("latin-1")
    if encoding not in ("identity", "gzip", "deflate"):
        raise InvalidRequest("must be gzip, deflate or identity", field="grpc-encoding")
    call = Call(method[0], encoding, streaming)
    passed = [(name, headers[name]) for name in _PASSED if name in headers]
    if call.key:  # its client's deadline is a cancellation too
        passed = [(name, value) for name, value in passed if name != b"grpc-timeout"]
        passed.append((ABORT_KEY.encode(), b"%d" % call.key))
    return call, http2.literals([*_ALWAYS, (b":path", method[0]), (b"content-type", b"application/grpc"), *passed])
