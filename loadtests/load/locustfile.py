"""Locust's way in: ``locust -f loadtests/load/locustfile.py``, alone, as master or as worker, with a web page or none.

It joins Locust's events to a :class:`Director` where the run is owned and to a :class:`Worker` where load is sent;
alone, one process is both.
"""

from collections.abc import Callable
from typing import Any

import gevent
import msgspec
from locust import User, events, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.load.director import Director
from loadtests.load.options import add_arguments
from loadtests.load.rows import Row
from loadtests.load.tab import add_tab
from loadtests.load.worker import Go, Worker

GO, DONE = "conch-go", "conch-done"
ROWS, CPU = "conch_rows", "conch_cpu"


class Load(User):
    """Lends its greenlet to the process's worker."""

    worker: Worker

    @task
    def work(self) -> None:
        """All of a run."""
        self.worker.work()


def _joined(environment: Environment, runner: Any, web_ui: Any = None, **_: Any) -> None:
    if isinstance(runner, WorkerRunner):
        _join_worker(environment, runner)
    elif isinstance(runner, MasterRunner):
        _join_master(environment, runner, web_ui)
    else:
        _join_alone(environment, runner, web_ui)


def _join_alone(environment: Environment, runner: Any, web_ui: Any) -> None:
    def emit(row: Row) -> None:
        director.take([row])

    def done() -> None:
        director.take_cpu(0, worker.cpu)
        director.done()

    def send_go(begins: float) -> int:
        worker.go(Go(begins, 0, 1))
        return 1

    worker = Load.worker = Worker(environment, emit, done)
    director = Director(environment, send_go, _ender(environment, runner, web_ui))
    _on(environment.events.test_start, lambda **_: director.begin())
    _on(environment.events.test_stop, lambda **_: director.stopped())
    _on(environment.events.test_stop, lambda **_: worker.reset())
    if web_ui:
        add_tab(web_ui, director)


def _join_master(environment: Environment, runner: MasterRunner, web_ui: Any) -> None:
    def send_go(begins: float) -> int:
        names = sorted(client.id for client in runner.clients.values() if client.state != "missing")
        for number, name in enumerate(names):
            runner.send_message(GO, {"begins": begins, "worker": number, "workers": len(names)}, client_id=name)
        return len(names)

    def report(client_id: str, data: dict[str, Any]) -> None:
        director.take(msgspec.convert(data.get(ROWS, []), list[Row]))
        for worker, samples in data.get(CPU, []):
            director.take_cpu(worker, [(at, percent) for at, percent in samples])

    def done(environment: Environment, msg: Any, **_: Any) -> None:
        report(msg.node_id, msg.data)
        director.done()

    director = Director(environment, send_go, _ender(environment, runner, web_ui))
    runner.register_message(DONE, done)
    _on(environment.events.worker_report, report)
    _on(environment.events.test_start, lambda **_: director.begin())
    _on(environment.events.test_stop, lambda **_: director.stopped())
    if web_ui:
        add_tab(web_ui, director)


def _join_worker(environment: Environment, runner: WorkerRunner) -> None:
    rows: list[Row] = []
    number = 0

    def packed() -> dict[str, Any]:
        taken = msgspec.to_builtins(rows)
        rows.clear()
        samples, worker.cpu = worker.cpu, []
        return {ROWS: taken, CPU: [(number, samples)]}

    def begin(environment: Environment, msg: Any, **_: Any) -> None:
        nonlocal number
        number = msg.data["worker"]
        worker.go(Go(**msg.data))

    def done() -> None:
        runner.send_message(DONE, packed())

    worker = Load.worker = Worker(environment, rows.append, done)
    runner.register_message(GO, begin)
    _on(environment.events.report_to_master, lambda client_id, data: data.update(packed()))
    _on(environment.events.test_stop, lambda **_: worker.reset())


def _ender(environment: Environment, runner: Any, web_ui: Any) -> Callable[[int, str], None]:
    """How a run that is judged ends: the page stays for the next one, a headless process exits with the verdict."""

    def end(code: int, verdict: str) -> None:
        if web_ui:
            print(verdict, flush=True)
            gevent.spawn(runner.stop)
            return
        _on(environment.events.quit, lambda **_: print(verdict, flush=True))  # after Locust's own table
        environment.process_exit_code = code
        gevent.spawn_later(0.1, runner.quit)

    return end


def _on(hook: Any, listener: Callable[..., None]) -> None:
    """Listen; Locust's hooks have no types."""
    hook.add_listener(listener)


_on(events.init_command_line_parser, add_arguments)
_on(events.init, _joined)
