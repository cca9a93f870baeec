"""The Grafana dashboard and what provisions it, as data in Grafana's own JSON model."""

from typing import Any

from deploy.prometheus import HISTOGRAMS, QUANTILES, recorded

UID = "conch"
_SOURCE = {"type": "prometheus", "uid": "conch-prometheus"}
_WIDTH, _HEIGHT = 8, 8  # three panels a row, of Grafana's 24 columns

Series = dict[str, str]  # legend -> PromQL


def dashboard(*, gateway: bool, gpus: bool) -> dict[str, Any]:
    """The dashboard of a deployment."""
    rows: list[tuple[str, list[tuple[str, str, Series]]]] = [("Latency", _latency()), ("Load", _load())]
    if gateway:
        rows.append(("Gateway", _gateway()))
    if gpus:
        rows.append(("GPUs", _gpus()))
    panels: list[dict[str, Any]] = []
    top = 0
    for title, graphs in rows:
        panels.append(_row(len(panels) + 1, title, top))
        for place, (name, unit, series) in enumerate(graphs):
            line, column = divmod(place, 24 // _WIDTH)
            panels.append(
                _graph(name, unit, series, number=len(panels) + 1, left=column * _WIDTH, top=top + 1 + line * _HEIGHT)
            )
        top += 1 + -(-len(graphs) // (24 // _WIDTH)) * _HEIGHT
    return {
        "uid": UID,
        "title": "Conch",
        "tags": ["conch"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,  # one cross-hair through all panels
        "refresh": "10s",
        "schemaVersion": 41,
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_models()]},
        "panels": panels,
    }


def datasources(url: str) -> dict[str, Any]:
    """Grafana's provisioning of the Prometheus at ``url``."""
    source = {"name": "Prometheus", **_SOURCE, "url": url, "access": "proxy", "isDefault": True}
    return {"apiVersion": 1, "datasources": [source | {"jsonData": {"timeInterval": "5s"}}]}


def providers(folder: str) -> dict[str, Any]:
    """Grafana's provisioning of the dashboards in ``folder``."""
    return {"apiVersion": 1, "providers": [{"name": "conch", "type": "file", "options": {"path": folder}}]}


def _latency() -> list[tuple[str, str, Series]]:
    titles = {"ttft": "Time to first token", "itl": "Time between tokens", "e2e": "Whole answer"}
    return [
        (titles[short], "s", {name: f"{recorded(short, name)}{_OF_MODEL}" for name in QUANTILES})
        for short in HISTOGRAMS
    ]


def _load() -> list[tuple[str, str, Series]]:
    return [
        (
            "Tokens a second",
            "short",
            {
                "generated": f"model:conch_generated_tokens_total:rate1m{_OF_MODEL}",
                "prompt": f"model:conch_prompt_tokens_total:rate1m{_OF_MODEL}",
            },
        ),
        (
            "Requests in the engine",
            "short",
            {"active": f"conch_requests_active{_OF_MODEL}", "waiting": f"conch_requests_waiting{_OF_MODEL}"},
        ),
        ("KV cache in use", "percentunit", {"{{model}}": f"conch_kv_cache_usage_ratio{_OF_MODEL}"}),
        (
            "Guessed tokens taken",
            "percentunit",
            {
                "{{model}}": f"rate(conch_draft_tokens_accepted_total{_OF_MODEL}[1m])"
                f" / rate(conch_draft_tokens_total{_OF_MODEL}[1m])"
            },
        ),
        (
            "How answers end",
            "reqps",
            {"{{finish_reason}}": f"sum by (finish_reason) (rate(conch_requests_total{_OF_MODEL}[1m]))"},
        ),
        ("Engine steps a second", "short", {"{{model}}": f"rate(conch_engine_steps_total{_OF_MODEL}[1m])"}),
        (
            "Waiting in Triton",
            "short",
            {"{{model}}": 'sum by (model) (nv_inference_pending_request_count{model=~"$model.*"})'},
        ),
    ]


def _gateway() -> list[tuple[str, str, Series]]:
    return [
        (
            "Requests by status",
            "reqps",
            {"{{status}}": f"sum by (status) (rate(conch_gateway_requests_total{_OF_MODEL}[1m]))"},
        ),
        (
            "Waiting for admission, p95",
            "s",
            {
                "{{model}}": "histogram_quantile(0.95, sum by (model, le) "
                f"(rate(conch_gateway_queue_seconds_bucket{_OF_MODEL}[5m])))"
            },
        ),
        (
            "Prompts in the prefix cache",
            "percentunit",
            {
                name: f"rate(conch_gateway_prompt_tokens_{counter}_total{_OF_MODEL}[5m])"
                f" / rate(conch_gateway_prompt_tokens_total{_OF_MODEL}[5m])"
                for name, counter in (("expected", "expected_cached"), ("true", "cached"))
            },
        ),
        ("Tokens in flight", "short", {"{{model}}": f"conch_gateway_tokens_active{_OF_MODEL}"}),
    ]


def _gpus() -> list[tuple[str, str, Series]]:
    return [
        ("GPU use", "percent", {"GPU {{gpu}}": "DCGM_FI_DEV_GPU_UTIL"}),
        ("GPU memory in use", "decmbytes", {"GPU {{gpu}}": "DCGM_FI_DEV_FB_USED"}),
        ("GPU power", "watt", {"GPU {{gpu}}": "DCGM_FI_DEV_POWER_USAGE"}),
    ]


_OF_MODEL = '{model=~"$model"}'


def _models() -> dict[str, Any]:
    return {
        "name": "model",
        "type": "query",
        "label": "Deployment",
        "datasource": _SOURCE,
        "query": "label_values(conch_requests_active, model)",
        "refresh": 2,  # whenever the time range changes
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _row(number: int, title: str, top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "w": 24, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _graph(title: str, unit: str, series: Series, *, number: int, left: int, top: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "gridPos": {"x": left, "y": top, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for at, (legend, expression) in enumerate(series.items())
        ],
    }
