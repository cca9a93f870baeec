"""A stand-in for tritonserver: the same ports, the same signals, and a fault on demand.

``standin.py GRPC_PORT METRICS_PORT BEHAVIOUR [NUMBER]``
"""

import http.server
import signal
import sys
import threading
import time
from concurrent import futures
from types import FrameType
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

GRPC_PORT, METRICS_PORT, BEHAVIOUR = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
NUMBER = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
BEGAN = time.monotonic()
counted = 0


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def ModelStreamInfer(self, requests: Any, context: grpc.ServicerContext) -> Any:
        for _ in requests:
            if BEHAVIOUR == "slow" and time.monotonic() - BEGAN > 1:
                time.sleep(NUMBER)
            if BEHAVIOUR == "wrong" and time.monotonic() - BEGAN > 1:
                yield service_pb2.ModelStreamInferResponse(error_message="[engine_failed] it is broken")
            else:
                yield service_pb2.ModelStreamInferResponse(infer_response=service_pb2.ModelInferResponse())


class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        global counted
        counted += 1
        page = 'conch_requests_active{model="x"} 0\n'
        page += f"conch_engine_steps_total {counted}\nconch_stream_deltas_total {counted}\n"
        page += f'nv_inference_request_success{{model="standin_preprocess",version="1"}} {counted}\n'
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_: object) -> None:
        pass


def leave(number: int, frame: FrameType | None) -> None:
    if BEHAVIOUR != "stubborn":
        sys.exit(int(NUMBER) if BEHAVIOUR == "code" else 0)


signal.signal(signal.SIGTERM, leave)
print("I1124 04:17:55.000000 1 standin.cc:1] starting", flush=True)
if BEHAVIOUR == "mute":
    time.sleep(60)
server = grpc.server(futures.ThreadPoolExecutor(8))
service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
server.add_insecure_port(f"127.0.0.1:{GRPC_PORT}")
metrics = http.server.ThreadingHTTPServer(("127.0.0.1", METRICS_PORT), Metrics)
threading.Thread(target=metrics.serve_forever, daemon=True).start()
server.start()
if BEHAVIOUR == "crashes":
    time.sleep(NUMBER)
    signal.raise_signal(signal.SIGKILL)
while True:
    time.sleep(0.05)
