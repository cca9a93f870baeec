"""What depends on the CPU, on this one and on one with AVX2 alone."""

import json
import os
import subprocess
import sys

import pytest

from build.openvino import BF16
from contract.manifest import load_manifest, this_machine
from tests.build import avx2
from tests.build.conftest import CODE, Site, refused

ASK = """
import json, openvino
from contract.manifest import this_machine
print(json.dumps([openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), this_machine().instruction_sets]))
"""


@pytest.fixture(scope="module")
def less(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a CPU with AVX2 alone."""
    return avx2.environment(tmp_path_factory.mktemp("avx2"))


def asked(environment: dict[str, str]) -> tuple[list[str], list[str]]:
    """What OpenVINO says that it is good at, and the instruction sets that we find."""
    run = subprocess.run(
        [sys.executable, "-c", ASK], cwd=CODE, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    capabilities, instruction_sets = json.loads(run.stdout)
    return capabilities, instruction_sets


def test_our_flag_is_openvinos_condition(less: dict[str, str]) -> None:
    for environment in ({}, less):
        capabilities, instruction_sets = asked(environment)
        assert ("BF16" in capabilities) == (BF16 in instruction_sets)
    assert "avx2" in instruction_sets and not [name for name in instruction_sets if name.startswith(("avx512", "amx"))]


def test_bf16_is_refused_before_anything_is_fetched(site: Site, less: dict[str, str]) -> None:
    site.change(engine={"precision": "bf16"})
    said = refused(site.run(None, **less))
    assert said.startswith(f"engine.precision is bf16, and {this_machine().cpu} has no avx512_bf16")
    assert "Use fp32, int8 or int4" in said
    assert site.steps() == site.engines() == []


@pytest.mark.long
def test_an_engine_of_a_lesser_cpu_is_right_and_is_for_every_greater_one(site: Site, less: dict[str, str]) -> None:
    """fp32, whose figures no rounding of weights hides: as right as this CPU's own."""
    site.change(verify={"min_top1_agreement": 0.999, "max_perplexity_ratio": 1.001})
    run = site.run(None, **less)
    assert run.returncode == 0, run.stderr
    manifest = load_manifest(site.home / "current")
    assert set(manifest.built_for.instruction_sets) <= {"avx2", "fma", "f16c"}
    assert manifest.measured and manifest.measured.greedy_agreement == 1
