"""``python -m gateway.webui CONFIG`` (make webui): Open WebUI before a running gateway, for a browser of this machine.

It runs in an environment of its own, which the Makefile makes, and knows nothing but what is set here.
"""

import http.client
import json
import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from contract.address import address, reachable
from contract.errors import ConchError, ServeError
from contract.spec import Deployment, load_spec

KEY = "CONCH_API_KEY"  # in the environment: one of the gateway's keys, where it asks for one
PROGRAM = Path(".venv-webui/bin/open-webui")
HOST = "127.0.0.1"

_FIRST_ANSWER_S = 5.0
# What Open WebUI asks of the model beside each chat. Its own words carry up to six whole messages: more than a small
# context holds.
_TASKS = {
    "TITLE_GENERATION_PROMPT_TEMPLATE": ("Give this conversation a title of two to four words", '{"title": "…"}'),
    "TAGS_GENERATION_PROMPT_TEMPLATE": ("Name one to three topics of this conversation", '{"tags": ["…"]}'),
    "FOLLOW_UP_GENERATION_PROMPT_TEMPLATE": (
        "Write three short messages that the user may want to send next",
        '{"follow_ups": ["…", "…", "…"]}',
    ),
}
_HISTORY = "{{MESSAGES:END:2|middletruncate:600}}"
_TASK_TOKENS = 200
_TEMPERATURE = 0.3  # a small model rambles at OpenAI's 1; each chat's Controls can change it
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")  # of our environment; its own settings are ours to give


def main(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The deployment's YAML.")],
    root: Annotated[Path, typer.Option(help="The folder of .venv-webui/ and .conch/.")] = Path(),
    port: Annotated[int, typer.Option(help="Where the browser finds it.")] = 8080,
) -> None:
    """Start Open WebUI for CONFIG's gateway; Ctrl-C ends it."""
    key = os.environ.get(KEY, "")
    program, data = (root / PROGRAM).absolute(), (root / ".conch/webui").absolute()
    try:
        spec = load_spec(config)
        check_gateway(spec, key, config)
        if not program.exists():
            raise ServeError(f"there is no {program}", fix="make webui installs it")
        check_port(port)
    except ConchError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(data)  # where it keeps the secret of its sessions
    print(f"Open WebUI for {spec.name}: http://{HOST}:{port} in some 15 s. Its first account is the administrator's.")
    sys.stdout.flush()
    command = [str(program), "serve", "--host", HOST, "--port", str(port)]
    os.execve(program, command, environment(spec, key, data, port))  # noqa: S606


def check_gateway(spec: Deployment, key: str, config: Path) -> None:
    """Refuse to start before a gateway that would not answer.

    Raises:
        ServeError: nothing listens there, it wants another key, or it does not serve this deployment.
    """
    where = address(spec.gateway.host, spec.ports.gateway)
    connection = http.client.HTTPConnection(reachable(spec.gateway.host), spec.ports.gateway, timeout=_FIRST_ANSWER_S)
    try:
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServeError(
            f"no gateway answers at {where} ({error})", fix=f"make up CONFIG={config} starts it, with the server"
        ) from None
    finally:
        connection.close()
    if status == http.HTTPStatus.UNAUTHORIZED:
        fault = f"does not know the key in {KEY}" if key else "asks for a key"
        raise ServeError(f"the gateway at {where} {fault}", fix=f"Set {KEY} in the environment to one of its keys")
    try:
        names = [model["id"] for model in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError):
        raise ServeError(f"what answers at {where} is no gateway (status {status})") from None
    if spec.name not in names:
        raise ServeError(
            f"the gateway at {where} serves {', '.join(names)}, not {spec.name}", fix="CONFIG= names what runs"
        )


def check_port(port: int) -> None:
    """Refuse a port that is taken: Open WebUI would migrate its database first, and tell afterwards.

    Raises:
        ServeError: it is.
    """
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError as error:
            raise ServeError(
                f"port {port} cannot be had: {error.strerror}",
                fix="If that is no Open WebUI of yours: python -m gateway.webui CONFIG --port N",
            ) from None


def environment(spec: Deployment, key: str, data: Path, port: int) -> dict[str, str]:
    """All that Open WebUI is told; nothing of it leaves this machine."""
    # Its built-in tools would put 7,000 tokens before each question; a model with room for them can be
    # given them under Admin Settings, Models.
    capabilities = {"builtin_tools": False, "vision": False, "usage": True}
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        "DATA_DIR": str(data),
        "OPENAI_API_BASE_URL": f"http://{address(spec.gateway.host, spec.ports.gateway)}/v1",
        "OPENAI_API_KEY": key,
        "DEFAULT_MODELS": spec.name,
        "DEFAULT_MODEL_PARAMS": json.dumps({"temperature": _TEMPERATURE}),
        "DEFAULT_MODEL_METADATA": json.dumps({"capabilities": capabilities}),
        **{
            name: f"{task}, in its language. Answer with JSON and nothing else: {form}\n\n{_HISTORY}"
            for name, (task, form) in _TASKS.items()
        },
        "TASK_MODEL_PARAMS": json.dumps({"max_tokens": _TASK_TOKENS}),
        "ENABLE_PERSISTENT_CONFIG": "False",  # else the first start's gateway would be the last one's too
        "ENABLE_OLLAMA_API": "False",
        "OFFLINE_MODE": "True",  # no look for new versions, no models of its own, no packages for plug-ins
        "ENABLE_COMMUNITY_SHARING": "False",
        "BYPASS_EMBEDDING_AND_RETRIEVAL": "True",  # a document goes whole into the prompt: nothing here embeds
        "RAG_EMBEDDING_ENGINE": "openai",  # its own would be torch's
        "CORS_ALLOW_ORIGIN": f"http://{HOST}:{port};http://localhost:{port}",
        "GLOBAL_LOG_LEVEL": "WARNING",
    }


if __name__ == "__main__":
    typer.run(main)
