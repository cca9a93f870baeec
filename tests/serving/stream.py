"""A client of the tests: one request as a gRPC stream, with what came back and how it ended."""

import queue
import struct
import threading
import time
from collections.abc import Iterator

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from contract.spec import Deployment


class Stream:
    """One request in flight. ``error`` is what ended it, '' for a regular end; ``tokens`` came back so far."""

    def __init__(self, spec: Deployment, max_tokens: int, timeout_s: float = 60) -> None:
        self.tokens = 0
        self.error = ""
        self.ended_at = 0.0
        self._ended = threading.Event()
        self._answers: queue.Queue[None] = queue.Queue()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{spec.ports.grpc}")
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._call = stub.ModelStreamInfer(iter([request(spec, max_tokens)]), timeout=timeout_s)
        threading.Thread(target=self._read, daemon=True).start()

    def first_answer(self, timeout_s: float = 10) -> "Stream":
        """Return once something came back."""
        self._answers.get(timeout=timeout_s)
        return self

    def end(self, timeout_s: float) -> str:
        """Wait for the end; its error, '' for none."""
        assert self._ended.wait(timeout_s), f"still no end after {timeout_s} s: silence"
        return self.error

    def _read(self) -> None:
        try:
            for response in self._call:
                if response.error_message:
                    self.error = response.error_message
                else:
                    self.tokens += _token_count(response.infer_response)
                self._answers.put(None)
        except grpc.RpcError as error:
            self.error = f"{error.code().name}: {error.details()}"
        self.ended_at = time.monotonic()
        self._answers.put(None)
        self._ended.set()
        self._channel.close()


def _token_count(response: service_pb2.ModelInferResponse) -> int:
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if output.name == "output_ids":
            return len(raw) // 4
    return 0


def request(spec: Deployment, max_tokens: int) -> service_pb2.ModelInferRequest:
    """A streaming request for ``max_tokens`` tokens."""
    message = service_pb2.ModelInferRequest(model_name=spec.name, id="test")
    for name, datatype, data in (
        ("input_ids", "INT32", struct.pack("<i", 5)),
        ("max_tokens", "INT32", struct.pack("<i", max_tokens)),
        ("stream", "BOOL", b"\x01"),
        ("ignore_eos", "BOOL", b"\x01"),
    ):
        message.inputs.add(name=name, datatype=datatype, shape=[1, 1])
        message.raw_input_contents.append(data)
    return message


def until(deadline_s: float, what: str) -> Iterator[float]:
    """Poll: yields the seconds gone by, until the caller breaks or ``deadline_s`` passes, which fails the test."""
    began = time.monotonic()
    while (gone := time.monotonic() - began) < deadline_s:
        yield gone
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {deadline_s:g} s")
