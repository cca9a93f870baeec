"""The containers beside a deployment: Prometheus, Grafana, the GPUs' exporter, Open WebUI. All on loopback."""

import json

from contract.address import address
from contract.spec import Deployment
from deploy import images
from deploy.service import SECRETS, Health, Mount, Service
from deploy.services import on_gpus
from deploy.site import Site

DASHBOARDS = "/etc/grafana/dashboards"
LOOPBACK = "127.0.0.1"
PROMETHEUS = f"{LOOPBACK}:9090"
DCGM = f"{LOOPBACK}:9400"

_GRAFANA_PORT = "3000"
_WEBUI_PORT = "8080"
_CAPABILITIES = {"builtin_tools": False, "vision": False, "usage": True}  # its tools would fill a small context


def watching(spec: Deployment, site: Site) -> list[Service]:
    """Prometheus and Grafana; with GPUs, their exporter; Open WebUI before the gateway."""
    services = [_prometheus(site), _grafana(site)]
    if on_gpus(spec):
        services.append(_dcgm())
    if spec.gateway.enabled:
        services.append(_webui(spec, site))
    return services


def scrape_targets(spec: Deployment) -> dict[str, str]:
    """Prometheus' jobs, and where each answers."""
    targets = {"conch-server": address(spec.ports.host, spec.ports.metrics)}
    if spec.gateway.enabled:
        targets["conch-gateway"] = address(spec.gateway.host, spec.ports.gateway)
    if on_gpus(spec):
        targets["dcgm"] = DCGM
    return targets


def _prometheus(site: Site) -> Service:
    return Service(
        name="prometheus",
        image=images.PROMETHEUS.reference,
        command=(
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=15d",
            f"--web.listen-address={PROMETHEUS}",
        ),
        mounts=(
            Mount(site.folder / "prometheus", "/etc/prometheus"),
            Mount("prometheus", "/prometheus", writable=True),
        ),
        health=Health(("promtool", "check", "healthy", f"--url=http://{PROMETHEUS}"), start_s=60),
        profile="monitoring",
    )


def _grafana(site: Site) -> Service:
    return Service(
        name="grafana",
        image=images.GRAFANA.reference,
        environment={
            "GF_SERVER_HTTP_ADDR": LOOPBACK,
            "GF_SERVER_HTTP_PORT": _GRAFANA_PORT,
            "GF_SECURITY_ADMIN_PASSWORD__FILE": f"{SECRETS}/grafana_password",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
            "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        },
        mounts=(
            Mount(site.folder / "grafana" / "provisioning", "/etc/grafana/provisioning"),
            Mount(site.folder / "grafana" / "dashboards", DASHBOARDS),
            Mount("grafana", "/var/lib/grafana", writable=True),
        ),
        scratch=("/tmp",),  # noqa: S108
        secrets={"grafana_password": site.folder / "secrets" / "grafana_password"},
        user=site.user,  # whose file the password is
        health=Health(("wget", "-q", "--spider", f"http://{LOOPBACK}:{_GRAFANA_PORT}/api/health"), start_s=60),
        after={"prometheus": "service_started"},
        profile="monitoring",
    )


def _dcgm() -> Service:
    return Service(
        name="dcgm-exporter",
        image=images.DCGM.reference,
        environment={"DCGM_EXPORTER_LISTEN": DCGM},
        capabilities=("SYS_ADMIN",),  # without it, no profiling counters
        unconfined=True,
        gpus=-1,
        profile="monitoring",
    )


def _webui(spec: Deployment, site: Site) -> Service:
    """It asks nobody but the gateway. Its key is a file, which it cannot read itself."""
    secrets = {"webui_key": site.folder / "secrets" / "webui_key"} if spec.gateway.keys else {}
    key = f'export OPENAI_API_KEY="$(cat {SECRETS}/webui_key)" && ' if secrets else ""
    return Service(
        name="open-webui",
        image=images.WEBUI.reference,
        command=("sh", "-c", f"{key}exec bash start.sh"),
        environment={
            "HOST": LOOPBACK,
            "PORT": _WEBUI_PORT,
            "OPENAI_API_BASE_URL": f"http://{address(spec.gateway.host, spec.ports.gateway)}/v1",
            "DEFAULT_MODELS": spec.name,
            "DEFAULT_MODEL_METADATA": json.dumps({"capabilities": _CAPABILITIES}),
            "ENABLE_TAGS_GENERATION": "False",  # each message would make a further request of it
            "ENABLE_FOLLOW_UP_GENERATION": "False",
            "ENABLE_OLLAMA_API": "False",
            "ENABLE_PERSISTENT_CONFIG": "False",
            "OFFLINE_MODE": "True",
            "BYPASS_EMBEDDING_AND_RETRIEVAL": "True",
        },
        mounts=(Mount("open-webui", "/app/backend/data", writable=True),),
        secrets=secrets,
        unconfined=True,
        after={"gateway": "service_healthy"},
        profile="webui",
    )
