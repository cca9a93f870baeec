"""In the replicas of the engines' own images: the environments that are rendered for them see what each image has."""

import json
from pathlib import Path

import pytest
import yaml

from tests.deploy.cases import gpu
from tests.images.project import Project
from tests.images.rendered import checkout, deploy
from tests.images.replicas import missing, replica

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.long]

_ASK = "import importlib.metadata as m, json, numpy; print(json.dumps([numpy.__version__, m.version({!r})]))"


@pytest.mark.parametrize(("runtime", "version"), [("sglang", "0.5.17"), ("lmdeploy", "0.18.0")])
def test_both_environments_see_the_image(runtime: str, version: str, tmp_path: Path) -> None:
    """The worker's numpy is the image's; Triton's stages, whose stub is the wheel's, have numpy 1."""
    file = deploy(gpu(runtime), checkout(tmp_path)) / "compose.yaml"
    rendered = yaml.safe_load(file.read_text())
    with Project(file, replica, tmp_path) as project:
        code, told = project.run("install")
        assert code == 0, told
        for python, numpy in (("/state/venv", "1."), ("/state/worker", "2.")):
            rendered["services"]["server"]["entrypoint"] = [f"{python}/bin/python", "-c", _ASK.format(runtime)]
            file.write_text(yaml.safe_dump(rendered))
            code, told = project.run("server")
            assert code == 0, told
            found = json.loads(told.splitlines()[-1])
            assert found[0].startswith(numpy)
            assert found[1] == version
