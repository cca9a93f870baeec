"""The dashboard is one to Grafana's own model, and its queries are PromQL to Prometheus' own parser."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana import dashboard
from tests.deploy.cases import CASES, files
from tests.deploy.tools import PROMTOOL, needs_prometheus, run

PANELS = {
    "Time to first token",
    "Time between tokens",
    "Whole answer",
    "Tokens a second",
    "Requests in the engine",
    "KV cache in use",
    "How answers end",
}


def lost(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """What of ours the model does not have, by its path."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [line for key, value in ours.items() for line in lost(value, theirs.get(key), f"{where}.{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [line for at, pair in pairs for line in lost(*pair, f"{where}[{at}]")]
    return [] if ours == theirs else [where]


@pytest.mark.parametrize("case", CASES)
def test_grafana_knows_every_field(case: str) -> None:
    register_default_plugins()
    ours = json.loads(files(case)["grafana/dashboards/conch.json"])
    theirs = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(ours)))
    assert lost(ours, theirs) == []


def test_a_field_that_grafana_has_not_is_found() -> None:
    register_default_plugins()
    ours = dashboard(gateway=True, gpus=True)
    ours["panels"][1]["fieldConfig"]["defaults"]["units"] = "s"
    ours["panels"][1]["targets"][0]["expression"] = "up"
    theirs = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(ours)))
    assert lost(ours, theirs) == [".panels[1].fieldConfig.defaults.units", ".panels[1].targets[0].expression"]


def test_it_shows_what_an_operator_looks_for() -> None:
    plain, whole = dashboard(gateway=False, gpus=False), dashboard(gateway=True, gpus=True)
    assert {panel["title"] for panel in plain["panels"]} >= PANELS
    further = {panel["title"] for panel in whole["panels"]} - {panel["title"] for panel in plain["panels"]}
    assert {"GPU use", "GPU memory in use", "Requests by status"} <= further
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in whole["panels"]]
    assert len(set(places)) == len(places)


@needs_prometheus
def test_its_queries_are_promql(tmp_path: Path) -> None:
    queries = [
        target["expr"] for panel in dashboard(gateway=True, gpus=True)["panels"] for target in panel.get("targets", [])
    ]
    rules = [{"record": f"query:{at}", "expr": query} for at, query in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = run(PROMTOOL, "check", "rules", path)
    assert checked.returncode == 0, checked.stderr
