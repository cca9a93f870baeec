"""promtool reads the configuration and the rules, and each alert comes when it should and not before."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.cases import CASES, files
from tests.deploy.tools import PROMTOOL, needs_prometheus, run, write

pytestmark = needs_prometheus

# alert -> (series, their values from minute 0 on, the minute at which it must stand); before it nothing may.
FIRES: dict[str, tuple[dict[str, str], int]] = {
    "ConchServerDown": ({'up{job="conch-server", instance="a"}': "1 0x10"}, 3),
    "ConchGatewayDown": ({'up{job="conch-gateway", instance="a"}': "1 0x10"}, 3),
    "ConchEngineStalled": (
        {'conch_requests_active{model="m"}': "3x20", 'conch_engine_steps_total{model="m"}': "0+100x5 500x15"},
        9,
    ),
    "ConchAnswersFail": ({'conch_requests_total{model="m", finish_reason="error"}': "0x3 0+5x20"}, 12),
    "ConchStageFails": ({'nv_inference_request_failure{model="m", reason="BACKEND"}': "0x3 0+300x30"}, 18),
    "ConchKvCacheFull": ({'conch_kv_cache_usage_ratio{model="m"}': "0.5 0.99x20"}, 13),
    "ConchQueueFull": ({'conch_requests_waiting{model="m"}': "0 60x20"}, 8),
    "ConchSlowFirstToken": (
        {
            'conch_time_to_first_token_seconds_bucket{model="m", le="5.0"}': "0x30",
            'conch_time_to_first_token_seconds_bucket{model="m", le="10.0"}': "0+60x30",
            'conch_time_to_first_token_seconds_bucket{model="m", le="+Inf"}': "0+60x30",
        },
        14,
    ),
    "ConchSlowTokens": (
        {
            'conch_inter_token_latency_seconds_bucket{model="m", le="0.25"}': "0x30",
            'conch_inter_token_latency_seconds_bucket{model="m", le="0.5"}': "0+600x30",
            'conch_inter_token_latency_seconds_bucket{model="m", le="+Inf"}': "0+600x30",
        },
        14,
    ),
    "ConchRequestsFail": (
        {
            'conch_gateway_requests_total{model="m", status="200"}': "0+90x20",
            'conch_gateway_requests_total{model="m", status="503"}': "0+10x20",
        },
        8,
    ),
    "ConchOverloaded": (
        {
            'conch_gateway_requests_total{model="m", status="200"}': "0+80x20",
            'conch_gateway_requests_total{model="m", status="429"}': "0+20x20",
        },
        14,
    ),
    "ConchGpuFault": ({'DCGM_FI_DEV_XID_ERRORS{gpu="0", Hostname="h"}': "0 31x10"}, 2),
    "ConchGpuHot": ({'DCGM_FI_DEV_GPU_TEMP{gpu="0", Hostname="h"}': "60 95x10"}, 8),
    "ConchExporterDown": ({'up{job="dcgm", instance="a"}': "1 0x10"}, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_promtool_accepts_them(case: str, tmp_path: Path) -> None:
    write(tmp_path, files(case))
    checked = run(PROMTOOL, "check", "config", tmp_path / "prometheus" / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rules found" in checked.stdout


def test_every_alert_has_a_story() -> None:
    alerts = [it["alert"] for group in rules()["groups"] for it in group["rules"] if "alert" in it]
    assert set(alerts) == set(FIRES)


def test_each_alert_fires_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, {"rules.yml": files("trtllm")["prometheus/rules.yml"]})
    checks = [story(name, series, at) for name, (series, at) in FIRES.items()]
    path = tmp_path / "stories.yml"
    path.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": checks}))
    tested = run(PROMTOOL, "test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_key_beyond_its_quota_is_no_overload(tmp_path: Path) -> None:
    write(tmp_path, {"rules.yml": files("trtllm")["prometheus/rules.yml"]})
    series, at = FIRES["ConchOverloaded"]
    refused = {label.replace('"429"', '"429", finish_reason="over_quota"'): values for label, values in series.items()}
    check = {
        "interval": "1m",
        "input_series": [{"series": label, "values": values} for label, values in refused.items()],
        "alert_rule_test": [{"eval_time": f"{at}m", "alertname": name} for name in FIRES],
    }
    path = tmp_path / "stories.yml"
    path.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [check]}))
    tested = run(PROMTOOL, "test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def story(name: str, series: dict[str, str], at: int) -> dict[str, Any]:
    """One alert as a unit test of promtool's: silent at first, there at its minute, and no other with it."""
    rule = next(it for group in rules()["groups"] for it in group["rules"] if it.get("alert") == name)
    samples = [{"series": label, "values": values} for label, values in series.items()]
    quiet = [{"eval_time": "30s", "alertname": name}]
    others = [{"eval_time": f"{at}m", "alertname": other} for other in FIRES if other != name]
    seen = {"expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}})', "eval_time": f"{at}m"}
    severity = rule["labels"]["severity"]
    return {
        "interval": "1m",
        "input_series": samples,
        "alert_rule_test": quiet + others,
        "promql_expr_test": [
            seen | {"exp_samples": [{"value": 1}]},
            {
                "expr": f'count(ALERTS{{alertname="{name}", severity="{severity}"}})',
                "eval_time": f"{at}m",
                "exp_samples": [{"value": 1}],
            },
        ],
    }


def rules() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(files("trtllm")["prometheus/rules.yml"])
    return found
