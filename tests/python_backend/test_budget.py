"""The budget of responses: it follows what one costs here, and a deployment that names its own keeps it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from contract.engines.kinds import KINDS
from contract.sections import Streaming
from python_backend.budget import ENGINES_CORES, IDLE_CORES, LEAST_PER_CORE, STAGE_CORE, Budget, Usage


class Machine:
    """CPU time as it is told."""

    def __init__(self) -> None:
        self.all_s = self.stage_s = 0.0

    def __call__(self) -> tuple[float, float]:
        return self.all_s, self.stage_s


def after(machine: Machine, budget: Budget, *, cost_s: float, in_stage_s: float, looks: int = 200) -> float:
    """Responses a second, once so many looks have seen what one costs."""
    for look in range(1, looks + 1):
        machine.all_s += 50 * cost_s
        machine.stage_s += 50 * in_stage_s
        budget.look(50 * look)
    return budget.responses_per_s


@pytest.mark.parametrize("count", [2, 16])
def test_an_engine_on_the_cores_gives_responses_a_share_of_them(count: int) -> None:
    machine = Machine()
    budget = Budget(Streaming(), KINDS["openvino"], machine, count)
    spent = after(machine, budget, cost_s=0.0003, in_stage_s=0.0001)
    assert spent * 0.0003 == pytest.approx(ENGINES_CORES * count, rel=0.01)
    assert budget.cost_s == pytest.approx(0.0003, rel=0.01)
    machine = Machine()
    dear = Budget(Streaming(), KINDS["openvino"], machine, count)
    assert after(machine, dear, cost_s=0.0019, in_stage_s=0.0003) == LEAST_PER_CORE * count


def test_one_on_a_gpu_leaves_them_the_cores_but_no_more_than_one_process_carries() -> None:
    machine = Machine()
    many = after(machine, Budget(Streaming(), KINDS["vllm"], machine, 64), cost_s=0.0003, in_stage_s=0.0001)
    assert many == pytest.approx(STAGE_CORE / 0.0001, rel=0.01)
    machine = Machine()
    few = after(machine, Budget(Streaming(), KINDS["vllm"], machine, 2), cost_s=0.0003, in_stage_s=0.0001)
    assert few == pytest.approx(2 * IDLE_CORES / 0.0003, rel=0.01)


def test_it_follows_what_changes_and_not_what_no_response_cost() -> None:
    machine = Machine()
    budget = Budget(Streaming(), KINDS["openvino"], machine, 2)
    dear = after(machine, budget, cost_s=0.0004, in_stage_s=0.0002)
    machine.all_s += 100  # of a server that answered nobody, or a canary
    budget.look(50 * 200)
    budget.look(50 * 200 + 1)
    assert budget.responses_per_s == dear
    for look in range(201, 401):
        machine.all_s += 50 * 0.0001
        budget.look(50 * look + 1)
    assert budget.responses_per_s == pytest.approx(4 * dear, rel=0.01)


def test_no_response_is_taken_for_a_prompt() -> None:
    machine = Machine()
    budget = Budget(Streaming(), KINDS["openvino"], machine, 2)
    after(machine, budget, cost_s=0.5, in_stage_s=0.5)
    assert budget.cost_s == pytest.approx(0.002, rel=0.01)


def test_a_deployments_own_is_kept() -> None:
    machine = Machine()
    budget = Budget(Streaming(max_responses_per_s=7), KINDS["openvino"], machine, 2)
    assert after(machine, budget, cost_s=0.01, in_stage_s=0.01) == 7


def test_the_usage_is_of_the_parent_and_its_children() -> None:
    """As Triton is the parent of its stages: a busy one beside this process counts, its own children do not."""
    program = (
        "import os, sys, time; from python_backend.budget import Usage\n"
        "usage = Usage(); before = usage(); time.sleep(float(sys.argv[1])); after = usage()\n"
        "print(after[0] - before[0], after[1] - before[1])"
    )
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        asked = subprocess.run(
            [sys.executable, "-c", program, "1"], capture_output=True, text=True, check=True, cwd=Path.cwd()
        )
    finally:
        busy.kill()
        busy.wait()
    everyone, own = map(float, asked.stdout.split())
    assert own < everyone
    assert everyone - own > 0.1


def test_it_counts_its_own_process() -> None:
    usage = Usage()
    before = usage()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    after_ = usage()
    assert after_[1] - before[1] >= 0.05
    assert after_[0] - before[0] >= 0.05
