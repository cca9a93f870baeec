"""What the user sees in the terminal: our own lines, and of the server's only those that matter."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from contract.errors import ConchError

REFUSAL = "error: "  # begins what a user is refused with


class _Console(Console):
    """A console that goes silent when its reader leaves: ``make up`` stops reading once the server is ready."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Screen:
    """A terminal, a pipe or a file."""

    def __init__(self) -> None:
        self._console = _Console(soft_wrap=True, highlight=False, emoji=False)

    def say(self, text: str, style: str = "") -> None:
        """One line of ours."""
        self._console.print(Text(text, style=style))

    def warn(self, text: str) -> None:
        """One line of ours that asks for attention."""
        self.say(f"warning: {text}", "yellow")

    def server(self, text: str) -> None:
        """One line of the server's."""
        self._console.print(Text(f"  triton │ {text}", style="dim"))

    def table(self, rows: dict[str, str]) -> None:
        """Names and values, one pair a line."""
        width = max(map(len, rows))
        for name, value in rows.items():
            self._console.print(Text.assemble((f"  {name:<{width}}  ", "cyan"), value))

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """A spinner for as long as something takes; a plain line where no terminal is."""
        if not self._console.is_terminal:
            self.say(text)
            yield
            return
        with self._console.status(Text(text)):
            yield


def refuse(error: ConchError) -> None:
    """An error, clean and on standard error."""
    Console(stderr=True, soft_wrap=True, highlight=False, emoji=False).print(Text(f"{REFUSAL}{error}", style="red"))
