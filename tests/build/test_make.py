"""The Makefile's own decisions, by what make would run or over programs that only say that they ran."""

import os
import subprocess
from pathlib import Path

import pytest

from contract.laid_over import GATEWAY, SERVER, requirements
from tests.build.conftest import CODE


def make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | environment
    return subprocess.run(["make", *words], cwd=CODE, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("first", "second", "code"), [(0, 0, 0), (1, 0, 2), (0, 1, 2), (1, 1, 2)])
def test_both_halves_of_the_tests_run_and_a_failure_is_the_end(
    first: int, second: int, code: int, tmp_path: Path
) -> None:
    for name, ends in (("build", first), ("serve", second)):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name}\nexit {ends}\n")
        (tmp_path / name).chmod(0o755)
    ready = ("-o", "engine", "-o", ".venv/.ready", "-o", ".tools/usr/bin/promtool")
    run = make("test", *ready, f"BUILD_PY={tmp_path}/build", f"PY={tmp_path}/serve")
    assert sorted(run.stdout.split()) == ["build", "serve"]
    assert run.returncode == code  # make's own for a recipe that failed


@pytest.mark.parametrize("there", [True, False])
def test_torch_is_the_cpu_build_or_where_none_is_for_this_python_pypis_with_what_it_needs(
    there: bool, tmp_path: Path
) -> None:
    asked, ready, uv = tmp_path / "asked", tmp_path / ".ready", tmp_path / "uv"
    refuses = "" if there else 'case "$*" in *+cpu) echo no wheel >&2; exit 1;; esac\n'
    uv.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n{refuses}')
    uv.chmod(0o755)
    run = make(str(ready), f"BUILD={ready}", f"UV={uv}")
    torch = [line.split() for line in asked.read_text().splitlines() if "torch" in line]
    assert run.returncode == 0 and ready.exists()
    assert torch[0][-1].endswith("+cpu") and "--no-deps" in torch[0]
    assert len(torch) == (1 if there else 2) and ("No CPU build of torch" in run.stdout) is not there
    assert there or (torch[1][-1] == torch[0][-1].removesuffix("+cpu") and "--no-deps" not in torch[1])


def test_where_tensorrt_llm_is_the_environment_is_made_over_it_and_not_from_the_lock() -> None:
    there = make("--dry-run", "serve", "engine", PYTHONPATH=str(CODE / "tests" / "doubles")).stdout
    assert "-m build.laid_over .venv-image" in there
    assert ".venv-image/bin/python -m serving" in there and ".venv-image/bin/python -m build " in there
    assert " sync " not in there
    here = make("--dry-run", "serve", "engine").stdout
    assert ".venv/bin/python -m serving" in here and ".venv-build/bin/python -m build " in here


def test_what_is_laid_over_is_the_projects_and_hides_nothing_of_the_images() -> None:
    names = (*SERVER, *GATEWAY)
    found = requirements(CODE / "pyproject.toml", names)
    assert len(found) == len(names)
    run = subprocess.run(["python3", "-m", "contract.laid_over"], cwd=CODE, capture_output=True, text=True, check=True)
    over = run.stdout.split()
    assert set(found) <= set(over)
    assert not [line for line in over if line.startswith(("numpy", "transformers", "torch", "huggingface", "openvino"))]
