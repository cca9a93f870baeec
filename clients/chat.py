"""``python -m clients.chat CONFIG`` (make chat): talk to a running deployment in the terminal.

Ctrl-C stops the answer, not the program; what was said of it stays in the conversation.
"""

import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from clients.grpc import Client
from contract.errors import ConchError, ContextTooLong
from contract.spec import load_spec

HELP = "/new starts over · /system TEXT sets the system message · /help · /quit · Ctrl-C stops an answer"


@dataclass
class Conversation:
    """What the model is told each time."""

    messages: list[dict[str, str]] = field(default_factory=list)

    def restart(self, system: str | None = None) -> None:
        """Forget everything, but for the system message or with another one."""
        kept = [message for message in self.messages if message["role"] == "system"]
        self.messages = [{"role": "system", "content": system}] if system else kept


def answer(client: Client, conversation: Conversation, console: Console) -> None:
    """Stream one answer to the terminal and into the conversation; Ctrl-C ends it early."""
    text, tokens, prompt_tokens, reason = "", 0, 0, "cancelled"
    begun = time.monotonic()
    first = 0.0
    with closing(client.stream(messages=conversation.messages)) as deltas:
        try:
            for delta in deltas:
                first = first or time.monotonic()
                console.out(delta.text, end="", highlight=False)
                text += delta.text
                tokens += len(delta.output_ids)
                prompt_tokens = delta.num_input_tokens
                reason = delta.finish_reason or reason
        except KeyboardInterrupt:
            pass
    console.print()
    conversation.messages.append({"role": "assistant", "content": text})
    spent = time.monotonic() - first
    speed = f"{(tokens - 1) / spent:.0f} tokens/s · " if tokens > 1 else ""
    context = f" after {prompt_tokens}" if prompt_tokens else ""
    wait = f"first token {1000 * (first - begun):.0f} ms · " if first else ""
    console.print(f"[dim]{speed}{wait}{tokens} tokens{context} · {reason}[/dim]")


def command(line: str, conversation: Conversation, console: Console) -> bool:
    """Carry out a line that starts with a slash; False when it ends the program."""
    name, _, rest = line.partition(" ")
    match name:
        case "/quit" | "/exit":
            return False
        case "/new":
            conversation.restart()
        case "/system":
            conversation.restart(rest.strip())
        case _:
            console.print(f"[dim]{HELP}[/dim]")
    return True


def talk(client: Client, console: Console) -> None:
    """Read lines and answer them until the input ends."""
    conversation = Conversation()
    while True:
        try:
            line = console.input("[bold cyan]› [/bold cyan]" if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # pressed once more, it would kill a program that is ending
            return
        if line.startswith("/"):
            if not command(line, conversation, console):
                return
        elif line:
            conversation.messages.append({"role": "user", "content": line})
            try:
                answer(client, conversation, console)
            except ConchError as refusal:
                conversation.messages.pop()
                console.print(f"[red]{refusal}[/red]", highlight=False)
                if isinstance(refusal, ContextTooLong):
                    console.print("[dim]the conversation is full: /new starts over[/dim]")


def main(config: Annotated[Path, typer.Argument(help="the deployment's spec")]) -> None:
    """Talk to a running deployment."""
    console = Console(highlight=False)
    try:
        spec = load_spec(config)
        address = f"{spec.ports.host}:{spec.ports.grpc}"
        with Client(address, spec.name, direct=True) as client:
            if not client.ready():
                console.print(f"[red]no server at {address}: start it with make serve CONFIG={config}[/red]")
                raise typer.Exit(1)
            if sys.stdin.isatty():
                console.print(f"[bold]{spec.name}[/bold] [dim]{HELP}[/dim]")
            talk(client, console)
    except ConchError as refusal:
        console.print(f"[red]{refusal}[/red]")
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
