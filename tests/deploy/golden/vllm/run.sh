#!/bin/sh
set -eu
podman run --rm \
  --name conch-large-install \
  --network host \
  --init \
  --user 1000:1000 \
  --read-only \
  --cap-drop ALL \
  --security-opt no-new-privileges \
  --security-opt label=disable \
  --userns keep-id \
  --env HOME=/tmp \
  --env USER=conch \
  --env PYTHONDONTWRITEBYTECODE=1 \
  --env PYTHONUNBUFFERED=1 \
  --volume /srv/conch/deploy/rendered/large/requirements.txt:/etc/conch/requirements.txt:ro \
  --volume /srv/conch/build:/conch/build:ro \
  --volume /srv/conch/deploy/rendered/large/state/install:/state \
  --tmpfs /tmp:exec,mode=1777 \
  --workdir /conch \
  --log-driver json-file \
  --log-opt max-size=50m \
  nvcr.io/nvidia/tritonserver:26.08-vllm-python-py3 \
  python3 -m build.laid_over /state/venv --requirement /etc/conch/requirements.txt
podman run --detach --restart=unless-stopped \
  --name conch-large-server \
  --network host \
  --init \
  --stop-timeout 60 \
  --user 1000:1000 \
  --read-only \
  --cap-drop ALL \
  --security-opt no-new-privileges \
  --security-opt label=disable \
  --userns keep-id \
  --device nvidia.com/gpu=0 \
  --device nvidia.com/gpu=1 \
  --ulimit memlock=-1 \
  --ulimit stack=67108864 \
  --shm-size 16gb \
  --env HOME=/tmp \
  --env USER=conch \
  --env PYTHONDONTWRITEBYTECODE=1 \
  --env PYTHONUNBUFFERED=1 \
  --volume /srv/conch/build:/conch/build:ro \
  --volume /srv/conch/contract:/conch/contract:ro \
  --volume /srv/conch/python_backend:/conch/python_backend:ro \
  --volume /srv/conch/serving:/conch/serving:ro \
  --volume /srv/conch/deploy/rendered/large/deployment.yaml:/etc/conch/deployment.yaml:ro \
  --volume /srv/conch/deploy/rendered/large/state/install:/state:ro \
  --volume /srv/conch/engines/large:/conch/engines/large:ro \
  --tmpfs /tmp:exec,mode=1777 \
  --tmpfs /conch/.conch:exec,mode=1777 \
  --tmpfs /conch/model_repository:exec,mode=1777 \
  --health-cmd '/state/venv/bin/python -m serving status /etc/conch/deployment.yaml' \
  --health-start-period 1800s \
  --health-interval 15s \
  --health-timeout 10s \
  --health-retries 3 \
  --workdir /conch \
  --log-driver json-file \
  --log-opt max-size=50m \
  nvcr.io/nvidia/tritonserver:26.08-vllm-python-py3 \
  sh -c '/state/venv/bin/python -m build.repository /etc/conch/deployment.yaml && exec /state/venv/bin/python -m serving serve /etc/conch/deployment.yaml'
podman run --rm \
  --name conch-large-install-gateway \
  --network host \
  --init \
  --user 1000:1000 \
  --read-only \
  --cap-drop ALL \
  --security-opt no-new-privileges \
  --security-opt label=disable \
  --userns keep-id \
  --env HOME=/tmp \
  --env USER=conch \
  --env PYTHONDONTWRITEBYTECODE=1 \
  --env PYTHONUNBUFFERED=1 \
  --env UV_PROJECT_ENVIRONMENT=/state/venv \
  --env UV_CACHE_DIR=/state/cache \
  --env UV_PYTHON_DOWNLOADS=never \
  --volume /srv/conch/pyproject.toml:/conch/pyproject.toml:ro \
  --volume /srv/conch/uv.lock:/conch/uv.lock:ro \
  --volume /srv/conch/deploy/rendered/large/state/install-gateway:/state \
  --tmpfs /tmp:exec,mode=1777 \
  --workdir /conch \
  --log-driver json-file \
  --log-opt max-size=50m \
  ghcr.io/astral-sh/uv:0.12.0-python3.12-trixie-slim@sha256:837853d0f4703dbada56fd0807ea1db01eccca02db0af3b1f0cee5e902077107 \
  uv sync --frozen --no-default-groups --python python3
podman run --detach --restart=unless-stopped \
  --name conch-large-gateway \
  --network host \
  --init \
  --stop-timeout 45 \
  --user 1000:1000 \
  --read-only \
  --cap-drop ALL \
  --security-opt no-new-privileges \
  --security-opt label=disable \
  --userns keep-id \
  --env HOME=/tmp \
  --env USER=conch \
  --env PYTHONDONTWRITEBYTECODE=1 \
  --env PYTHONUNBUFFERED=1 \
  --volume /srv/conch/clients:/conch/clients:ro \
  --volume /srv/conch/contract:/conch/contract:ro \
  --volume /srv/conch/gateway:/conch/gateway:ro \
  --volume /srv/conch/deploy/rendered/large/deployment.yaml:/etc/conch/deployment.yaml:ro \
  --volume /srv/conch/deploy/rendered/large/state/install-gateway:/state:ro \
  --volume /srv/conch/engines/large:/conch/engines/large:ro \
  --volume /srv/conch/keys:/run/secrets/api_keys:ro \
  --tmpfs /tmp:exec,mode=1777 \
  --health-cmd '/state/venv/bin/python -c '"'"'from urllib.request import urlopen; urlopen("http://127.0.0.1:9000/health/ready", timeout=8)'"'"'' \
  --health-start-period 1800s \
  --health-interval 15s \
  --health-timeout 10s \
  --health-retries 3 \
  --workdir /conch \
  --log-driver json-file \
  --log-opt max-size=50m \
  ghcr.io/astral-sh/uv:0.12.0-python3.12-trixie-slim@sha256:837853d0f4703dbada56fd0807ea1db01eccca02db0af3b1f0cee5e902077107 \
  /state/venv/bin/python -m gateway /etc/conch/deployment.yaml
