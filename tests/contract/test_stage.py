"""A stage is told exactly what the deployment says."""

from pathlib import Path

import pytest

from contract.spec import load_spec
from contract.stage import StageConfig
from tests.contract.test_spec import CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("engine", [None, Path("/engines/é/current")])
def test_stage_config_comes_back(path: Path, engine: Path | None) -> None:
    sent = StageConfig(load_spec(path), engine, Path("/run/it"), "/usr")
    assert StageConfig.from_json(sent.to_json()) == sent


def test_the_stages_meet_in_the_run_folder() -> None:
    config = StageConfig(load_spec(CONFIGS[0]), None, Path("/run/it"), "/usr")
    assert config.backchannel.parent == config.draining.parent == config.run_dir
