"""A real Prometheus, as rendered, before a real server and gateway: it finds both, and every metric that is named."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from clients.grpc import Client
from contract.address import free_ports
from contract.spec import Deployment
from deploy.render import render
from deploy.site import Site
from tests.deploy.cases import CODE, TORCH
from tests.deploy.tools import PROMETHEUS, needs_prometheus, write
from tests.e2e.servers import synthetic

# Which the synthetic engine has none of.
OF_ENGINES = ("conch_kv_cache_usage_ratio", "conch_draft_tokens_total", "conch_draft_tokens_accepted_total")
METRIC = re.compile(r"(?<![\w:])(?:conch|nv)_[a-z0-9_]+")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with synthetic(tmp_path_factory.mktemp("watched"), gateway={}) as server:
        address = f"127.0.0.1:{server.spec.ports.grpc}"
        with Client(address) as client:
            client.generate("the sea", max_tokens=8)
        body = {"model": server.spec.name, "prompt": "the sea", "max_tokens": 8}
        url = f"http://127.0.0.1:{server.spec.ports.gateway}/v1/completions"
        urlopen(url, data=json.dumps(body).encode(), timeout=30).read()
        yield server.spec


def rendered(spec: Deployment, folder: Path) -> Path:
    """Its files, for the whole of which there is a place under ``folder``."""
    where = Site(CODE, folder, "1000:1000")
    return write(folder, render(spec, where, "configs/synthetic.yaml", engine="docker", torch=TORCH))


def test_every_metric_that_is_named_is_published(deployment: Deployment, tmp_path: Path) -> None:
    folder = rendered(deployment, tmp_path)
    named: set[str] = set()
    for name in ("prometheus/rules.yml", "grafana/dashboards/conch.json"):
        named |= set(METRIC.findall((folder / name).read_text()))
    assert len(named) >= 15
    declared = (CODE / "python_backend/metrics.py").read_text()
    for name in OF_ENGINES:
        named.remove(name)
        assert f'"{name}"' in declared
    deadline = time.monotonic() + 10  # the stages hand over once a second
    while (missing := named - published(deployment)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert missing == set()


def published(spec: Deployment) -> set[str]:
    """The names on the pages of the server and the gateway."""
    names: set[str] = set()
    for port in (spec.ports.metrics, spec.ports.gateway):
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            names |= set(re.findall(r"^(\w+)\{", page.read().decode(), re.MULTILINE))
    return names


@needs_prometheus
def test_prometheus_reads_both_and_evaluates_every_rule(deployment: Deployment, tmp_path: Path) -> None:
    settings = rendered(deployment, tmp_path) / "prometheus" / "prometheus.yml"
    # As rendered, but quicker: the test shall not wait for a quarter of a minute.
    quicker = yaml.safe_load(settings.read_text())
    quicker["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s", "scrape_timeout": "500ms"}
    settings.write_text(yaml.safe_dump(quicker))
    (port,) = free_ports(1)
    command = [f"--config.file={settings}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    prometheus = subprocess.Popen([str(PROMETHEUS), *command])
    try:
        latency = 'model:conch_time_to_first_token_seconds:p95{model="synthetic"}'
        eventually(port, latency)
        assert eventually(port, "up").keys() == {"conch-server", "conch-gateway"}
        assert set(eventually(port, "up").values()) == {1.0}
        with urlopen(f"http://127.0.0.1:{port}/api/v1/rules", timeout=5) as page:
            groups = json.load(page)["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert {rule["health"] for rule in rules} == {"ok"}
        assert not [rule for rule in rules if rule.get("state") == "firing"]
    finally:
        prometheus.terminate()
        prometheus.wait(timeout=20)


def eventually(port: int, query: str) -> dict[str, float]:
    """A query's samples by their job, as soon as there are any."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urlopen(f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': query})}", timeout=5) as page:
                found = json.load(page)["data"]["result"]
        except OSError:
            found = []
        if found:
            return {sample["metric"].get("job", ""): float(sample["value"][1]) for sample in found}
        time.sleep(0.2)
    raise AssertionError(f"Prometheus has nothing for {query}")
