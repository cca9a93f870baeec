"""A gateway of several processes is one gateway: its limits, its figures, its end, and what a death of one costs."""

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from contract.address import free_ports
from contract.sections import Gateway
from contract.spec import Deployment
from gateway import processes
from serving.supervisor import Running
from tests.gateway.conftest import CHAT, TEXT, active, gateway, gauge, streaming, until, user
from tests.gateway.test_ending import LONG
from tests.gateway.test_keys import new_key

ENDLESS: dict[str, Any] = LONG | {"max_tokens": 4000}
SHORT: dict[str, Any] = {"model": "synthetic", "prompt": "x", "max_tokens": 2}


@dataclass
class Double:
    """A gateway of two workers, and a client whose connection is with the one, and with the other."""

    desk: subprocess.Popen[bytes]
    url: str
    stack: ExitStack

    def workers(self) -> dict[int, psutil.Process]:
        """By process id."""
        return {each.pid: each for each in psutil.Process(self.desk.pid).children()}

    def clients(self, **headers: str) -> list[httpx.Client]:
        """One of each worker; both answer."""
        until(lambda: len(self.workers()) == 2, 20)
        found: dict[int, httpx.Client] = {}

        def search() -> bool:
            new = self.stack.enter_context(httpx.Client(base_url=self.url, timeout=30, headers=headers))
            answer = new.get("/health/live")
            port = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
            for pid, worker in self.workers().items():
                peers = {each.raddr.port for each in worker.net_connections("tcp") if each.raddr}
                if port in peers:
                    found.setdefault(pid, new)
            return len(found) == 2

        until(search, 30)
        return list(found.values())


@contextmanager
def double(server: Running, tmp_path: Path, *words: str, **door: Any) -> Iterator[Double]:
    with gateway(server, tmp_path, *words, processes=2, **door) as (desk, http), ExitStack() as stack:
        yield Double(desk, str(http.base_url), stack)


def total(http: httpx.Client, name: str) -> float:
    return gauge(http, f"{name}_total")


def ask(http: httpx.Client, **more: Any) -> int:
    return http.post(TEXT, json=SHORT | more).status_code


def test_what_may_be_in_flight_is_counted_once(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path, max_requests=3, max_queue_s=60) as door:
        pair = door.clients()
        crowd = [*pair, *(door.stack.enter_context(httpx.Client(base_url=door.url, timeout=60)) for _ in range(10))]
        with ThreadPoolExecutor(12) as pool:
            answers = [pool.submit(ask, http, max_tokens=60) for http in crowd]
            seen, waited = [], []
            while not all(each.done() for each in answers):
                seen.append(active(behind))
                waited += [gauge(http, "conch_gateway_requests_waiting") for http in pair]
        assert [each.result() for each in answers] == [200] * 12
        assert max(seen) == 3
        assert max(waited) > 3


def test_a_full_queue_is_everybodys(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path, max_requests=1, max_queue_size=1) as door, ThreadPoolExecutor(1) as pool:
        one, other = door.clients()
        with streaming(one, ENDLESS):
            waiting = pool.submit(ask, other)
            until(lambda: gauge(one, "conch_gateway_requests_waiting") == 1)
            refused = httpx.post(door.url + TEXT, json=SHORT)
            assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
            assert "1 requests are in flight and 1 requests wait already" in refused.json()["error"]["message"]
            assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert waiting.result() == 200


def test_a_keys_limit_is_one(behind: Running, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    mine, yours = new_key(file, "me"), new_key(file, "you")
    with double(behind, tmp_path, keys=file, max_requests_per_key=1, max_queue_size=0) as door:
        one, other = door.clients(authorization=f"Bearer {mine}")
        with streaming(one, ENDLESS):
            assert ask(other) == 429
            assert other.post(TEXT, json=SHORT, headers={"authorization": f"Bearer {yours}"}).status_code == 200
        until(lambda: ask(other) == 200)


def test_who_leaves_the_queue_is_forgotten(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path, max_requests=1) as door:
        one, other = door.clients()
        with streaming(one, ENDLESS):
            with pytest.raises(httpx.ReadTimeout):
                other.post(TEXT, json=SHORT, timeout=0.3)
            until(lambda: gauge(one, "conch_gateway_requests_waiting") == 0)
            late = httpx.post(door.url + TEXT, json=SHORT, headers={"x-request-timeout": "0.3"})
            assert late.status_code in (408, 429)


def test_every_worker_tells_of_all(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path) as door:
        one, other = door.clients()
        assert [ask(http) for http in (one, other, other)] == [200] * 3
        assert one.post(CHAT, json={"model": "nobody", "messages": user("x")}).status_code == 404
        answered = 'conch_gateway_requests_total{finish_reason="length",model="synthetic",route="/v1/completions",'
        for http in (one, other):
            until(lambda http=http: f'{answered}status="200"}} 3.0' in http.get("/metrics").text)  # type: ignore[misc]
            assert total(http, "conch_gateway_generated_tokens") == 6
            assert gauge(http, "conch_gateway_e2e_seconds_count") == 3
        with streaming(one, ENDLESS), streaming(other, ENDLESS):
            for http in (httpx.Client(base_url=door.url), *door.clients()):
                assert gauge(http, "conch_gateway_requests_active") == 2
        assert other.get("/health/ready").json() == {"synthetic": "ready"}


def test_all_know_which_servers_are_live(behind: Running, tmp_path: Path) -> None:
    addresses = tuple(f"127.0.0.1:{port}" for port in (behind.spec.ports.grpc, *free_ports(1)))
    with double(behind, tmp_path, replicas=addresses) as door:
        one, other = door.clients()
        until(lambda: gauge(one, "conch_gateway_replica_up") == 1)
        assert [ask(http) for http in (one, other) * 4] == [200] * 8


def test_a_death_costs_one_workers_streams(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path, max_requests=2) as door:
        one, other = door.clients()
        assert ask(one) == 200
        before = door.workers()
        victim = next(pid for pid, worker in before.items() if _speaks(worker, one))
        with streaming(other, LONG | {"max_tokens": 300}) as whole:
            with pytest.raises(httpx.TransportError), streaming(one, ENDLESS) as cut:
                os.kill(victim, signal.SIGKILL)
                list(cut)
            until(lambda: gauge(other, "conch_gateway_requests_active") == 1)
            until(lambda: active(behind) == 1)
            assert httpx.post(door.url + TEXT, json=SHORT, timeout=30).status_code == 200  # the place is free
            assert "".join(whole).endswith("data: [DONE]\n\n")
        until(lambda: len(door.workers()) == 2 and victim not in door.workers(), 20)
        for http in door.clients():
            assert ask(http) == 200
            assert total(http, "conch_gateway_requests") >= 3  # those of the dead too
        until(lambda: gauge(other, "conch_gateway_requests_active") == 0)


def test_a_hang_ends_a_worker_and_nothing_else(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path) as door:
        one, other = door.clients()
        victim = next(pid for pid, worker in door.workers().items() if _speaks(worker, one))
        os.kill(victim, signal.SIGSTOP)
        for _ in range(20):
            assert httpx.post(door.url + TEXT, json=SHORT).status_code == 200
        until(lambda: not psutil.pid_exists(victim), 30)
        until(lambda: len(door.workers()) == 2, 10)
        assert ask(other) == 200


def test_a_desk_that_hangs_makes_the_gateway_not_live(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path) as door:
        one, _ = door.clients()
        door.desk.send_signal(signal.SIGSTOP)
        assert one.get("/health/live").status_code == 503
        door.desk.send_signal(signal.SIGCONT)
        until(lambda: one.get("/health/live").status_code == 200)
        assert ask(one) == 200


def test_a_killed_desk_leaves_nobody(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path) as door:
        one, _ = door.clients()
        workers = door.workers()
        with pytest.raises(httpx.TransportError), streaming(one, ENDLESS) as cut:
            door.desk.kill()
            list(cut)
        assert psutil.wait_procs(workers.values(), timeout=5)[1] == []
        until(lambda: active(behind) == 0, 3)


def test_what_runs_on_any_of_them_may_finish(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path) as door:
        one, other = door.clients()
        with streaming(one, LONG | {"max_tokens": 100}) as ones, streaming(other, LONG | {"max_tokens": 300}) as others:
            for pid in (*door.workers(), door.desk.pid):  # as a terminal's Ctrl-C
                os.kill(pid, signal.SIGINT)
            assert "".join(ones).endswith("data: [DONE]\n\n")
            for _ in range(6):
                with httpx.Client(base_url=door.url) as new:
                    until(lambda new=new: new.get("/health/ready").status_code == 503, 5)  # type: ignore[misc]
                    assert new.post(TEXT, json=SHORT).json()["error"]["code"] == "service_unavailable"
            assert "".join(others).endswith("data: [DONE]\n\n")
        workers = door.workers()
        assert door.desk.wait(timeout=5) == 0
        assert not any(map(psutil.pid_exists, workers))


def test_what_takes_too_long_is_told_so(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path, "--drain-s", "0.5") as door:
        one, other = door.clients()
        with streaming(one, ENDLESS) as ones, streaming(other, ENDLESS) as others:
            door.desk.terminate()
            rests = ["".join(each) for each in (ones, others)]
        assert all('"code":"service_unavailable"' in rest.split("data: ")[-1] for rest in rests)
        assert door.desk.wait(timeout=5) == 0
    until(lambda: active(behind) == 0, 3)


def test_a_second_signal_ends_all_at_once(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path) as door:
        one, other = door.clients()
        workers = door.workers()
        with streaming(other, ENDLESS):
            door.desk.terminate()
            until(lambda: one.get("/health/ready").status_code == 503, 5)
            door.desk.terminate()
            door.desk.wait(timeout=5)
            assert not any(map(psutil.pid_exists, workers))
    until(lambda: active(behind) == 0, 3)


def test_a_taken_port_is_said(behind: Running, tmp_path: Path) -> None:
    with double(behind, tmp_path):
        again = (*psutil.Process(os.getpid()).cmdline()[:1], "-m", "gateway", str(tmp_path / "config.yaml"))
        second = subprocess.run(again, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert "address already in use" in second.stderr


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (7, 1), (8, 2), (12, 3), (16, 4), (128, 4)])
def test_auto_goes_by_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int, expected: int) -> None:
    monkeypatch.setattr(processes, "cores", lambda: cores)
    spec = Deployment.model_validate({"name": "x", "engine": {"runtime": "synthetic"}})
    assert processes.process_count(spec) == expected
    fixed = spec.model_copy(update={"gateway": Gateway(processes=3)})
    assert processes.process_count(fixed) == 3


def _speaks(worker: psutil.Process, http: httpx.Client) -> bool:
    """Whether a client's connection is with this worker."""
    port = http.get("/health/live").extensions["network_stream"].get_extra_info("client_addr")[1]
    return port in {each.raddr.port for each in worker.net_connections("tcp") if each.raddr}
