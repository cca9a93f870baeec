"""What Prometheus reads and computes: its configuration, the rules that condense, and the alerts."""

from typing import Any

from contract.spec import Deployment

# Our histograms, by the short name of what they measure.
HISTOGRAMS = {
    "ttft": "conch_time_to_first_token_seconds",
    "itl": "conch_inter_token_latency_seconds",
    "e2e": "conch_e2e_seconds",
}
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
RULES_FILE = "rules.yml"

_WINDOW = "5m"


def configuration(targets: dict[str, str]) -> dict[str, Any]:
    """prometheus.yml.

    Args:
        targets: job -> host:port.
    """
    return {
        "global": {"scrape_interval": "5s", "evaluation_interval": "15s"},
        "rule_files": [RULES_FILE],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
        ],
    }


def recorded(short: str, quantile: str) -> str:
    """The name under which a quantile is recorded."""
    return f"model:{HISTOGRAMS[short]}:{quantile}"


def rules(spec: Deployment, *, gpus: bool) -> dict[str, Any]:
    """rules.yml."""
    alerts = _alerts(spec) + (_gateway_alerts() if spec.gateway.enabled else []) + (_gpu_alerts() if gpus else [])
    return {
        "groups": [
            {"name": "conch-recorded", "rules": _recordings(gateway=spec.gateway.enabled)},
            {"name": "conch-alerts", "rules": alerts},
        ]
    }


def _recordings(*, gateway: bool) -> list[dict[str, Any]]:
    found = [
        {
            "record": recorded(short, name),
            "expr": f"histogram_quantile({quantile}, sum by (model, le) (rate({histogram}_bucket[{_WINDOW}])))",
        }
        for short, histogram in HISTOGRAMS.items()
        for name, quantile in QUANTILES.items()
    ]
    found += [
        {"record": f"model:{counter}:rate1m", "expr": f"sum by (model) (rate({counter}[1m]))"}
        for counter in ("conch_generated_tokens_total", "conch_prompt_tokens_total")
    ]
    if gateway:
        found += [
            {"record": f"model:conch_gateway_requests_{name}:ratio5m", "expr": _share(which)}
            for name, which in (("failed", 'status=~"5.."'), ("refused", 'status="429", finish_reason!="over_quota"'))
        ]
    return found


def _share(which: str) -> str:
    """Which part of a deployment's requests ended like this."""
    total = f"sum by (model) (rate(conch_gateway_requests_total[{_WINDOW}]))"
    return f"sum by (model) (rate(conch_gateway_requests_total{{{which}}}[{_WINDOW}])) / {total}"


def _alerts(spec: Deployment) -> list[dict[str, Any]]:
    found = [
        _alert(
            "ServerDown",
            'up{job="conch-server"} == 0',
            "1m",
            "critical",
            "Triton does not answer at {{ $labels.instance }}",
        ),
        _alert(
            "EngineStalled",
            "conch_requests_active > 0 and on (model) rate(conch_engine_steps_total[2m]) == 0",
            "1m",
            "critical",
            "{{ $labels.model }} has requests and makes no step",
        ),
        _alert(
            "AnswersFail",
            f'sum by (model) (rate(conch_requests_total{{finish_reason="error"}}[{_WINDOW}])) > 0',
            "5m",
            "warning",
            "the engine of {{ $labels.model }} ends answers with errors",
        ),
        _alert(
            "StageFails",
            f'sum by (model) (rate(nv_inference_request_failure{{reason=~"BACKEND|OTHER"}}[{_WINDOW}])) > 1',
            "10m",
            "warning",
            "Triton's model {{ $labels.model }} ends more than one request a second with an error",
        ),
        _alert(
            "KvCacheFull",
            "conch_kv_cache_usage_ratio > 0.95",
            "10m",
            "warning",
            "{{ $labels.model }} has no KV cache left: raise limits.kv_cache_gib or lower limits.max_batch_size",
        ),
        _alert(
            "SlowFirstToken",
            f"{recorded('ttft', 'p95')} > 5",
            "10m",
            "warning",
            "{{ $labels.model }}: one first token in twenty takes {{ $value | humanizeDuration }}",
        ),
        _alert(
            "SlowTokens",
            f"{recorded('itl', 'p95')} > 0.25",
            "10m",
            "warning",
            "{{ $labels.model }}: one token in twenty takes {{ $value | humanizeDuration }}",
        ),
    ]
    if spec.limits.max_queue_size:
        found.append(
            _alert(
                "QueueFull",
                f"conch_requests_waiting >= {0.8 * spec.limits.max_queue_size:g}",
                "5m",
                "warning",
                f"{{{{ $labels.model }}}}: {{{{ $value }}}} requests wait, limits.max_queue_size is "
                f"{spec.limits.max_queue_size}",
            )
        )
    return found


def _gateway_alerts() -> list[dict[str, Any]]:
    return [
        _alert(
            "GatewayDown",
            'up{job="conch-gateway"} == 0',
            "1m",
            "critical",
            "the gateway does not answer at {{ $labels.instance }}",
        ),
        _alert(
            "RequestsFail",
            "model:conch_gateway_requests_failed:ratio5m > 0.05",
            "5m",
            "critical",
            "{{ $labels.model }}: {{ $value | humanizePercentage }} of the requests end with a 5xx",
        ),
        _alert(
            "Overloaded",
            "model:conch_gateway_requests_refused:ratio5m > 0.1",
            "10m",
            "warning",
            "{{ $labels.model }}: {{ $value | humanizePercentage }} of the requests find no room: 429",
        ),
    ]


def _gpu_alerts() -> list[dict[str, Any]]:
    return [
        _alert(
            "GpuFault",
            "DCGM_FI_DEV_XID_ERRORS > 0",
            "0m",
            "critical",
            "GPU {{ $labels.gpu }} of {{ $labels.Hostname }}: XID {{ $value }}",
        ),
        _alert("GpuHot", "DCGM_FI_DEV_GPU_TEMP > 88", "5m", "warning", "GPU {{ $labels.gpu }} has {{ $value }} °C"),
        _alert(
            "ExporterDown",
            'up{job="dcgm"} == 0',
            "5m",
            "warning",
            "nothing tells of the GPUs: dcgm-exporter does not answer",
        ),
    ]


def _alert(name: str, expression: str, lasting: str, severity: str, summary: str) -> dict[str, Any]:
    return {
        "alert": f"Conch{name}",
        "expr": expression,
        "for": lasting,
        "labels": {"severity": severity},
        "annotations": {"summary": summary},
    }
