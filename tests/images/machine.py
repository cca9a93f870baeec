"""What a container gets of the machine that it is on: the way into the network, the driver's files.

A real container needs none of the first where the host's network needs none. Here package indexes are reached as this
machine's own settings say, and the service's environment comes on top of them.
"""

import os
from pathlib import Path

DOUBLES = Path(__file__).resolve().parents[1] / "doubles"
_VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_DEFAULT_TIMEOUT"),
    *("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"),
)
_FILES = ("/etc/hosts", "/etc/resolv.conf")


def variables() -> dict[str, str]:
    """The environment that leads to the package indexes."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


def files() -> list[Path]:
    """What must be seen at its own place for that, and names."""
    named = [value for name, value in variables().items() if name.endswith(("_CERT", "_FILE", "_BUNDLE", "_LINKS"))]
    return sorted({path for path in map(Path, (*_FILES, *named)) if path.is_absolute() and path.exists()})


def driver() -> dict[str, Path]:
    """What the Container Toolkit puts into a container that asks for GPUs."""
    return {"/usr/bin/nvidia-smi": DOUBLES / "bin" / "nvidia-smi"}
