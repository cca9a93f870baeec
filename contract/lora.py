"""Adapters that requests choose by name: how a spec names them, and where an engine keeps them."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from contract.errors import InvalidRequest
from contract.frozen import Frozen

ADAPTERS = "lora"  # an engine's folder of them, one each by its name

AdapterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class Lora(Frozen):
    """The adapters of a deployment."""

    adapters: dict[AdapterName, Path] = Field(min_length=1)  # name → folder in Hugging Face's PEFT format
    max_rank: int = Field(default=64, ge=1)

    @property
    def names(self) -> list[str]:
        """In the order in which engines number them."""
        return sorted(self.adapters)

    def check(self, name: str) -> None:
        """Refuse an adapter that is none of these; '' asks for none.

        Raises:
            InvalidRequest: naming those that there are.
        """
        if name and name not in self.adapters:
            known = ", ".join(self.names)
            raise InvalidRequest(f"there is no adapter {name!r:.80}; there are {known}", field="lora_name")
