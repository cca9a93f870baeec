"""How many servers of one deployment Kubernetes runs, by what waits for them and what they hold."""

from typing import Literal, Self

from pydantic import Field, model_validator

from contract.frozen import Frozen


class Scale(Frozen):
    """Of a cluster: a server is one group of its nodes, with a gateway of its own."""

    by: Literal["keda", "hpa"]  # one of them: two would pull at the same number
    min_servers: int = Field(default=1, ge=1)  # with none of them there is no gateway that could say what waits
    max_servers: int = Field(ge=2)
    waiting: int = Field(default=4, ge=1)  # requests waiting at a server, beyond which there is another
    tokens: int = Field(default=0, ge=0)  # likewise in flight; 0: not asked for
    prometheus: str = Field(default="", pattern=r"^(https?://[^\s/]+\S*)?$")  # whom KEDA asks

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.min_servers > self.max_servers:
            raise ValueError(f"min_servers ({self.min_servers}) must not be above max_servers ({self.max_servers})")
        if self.by == "keda" and not self.prometheus:
            raise ValueError("prometheus is needed with by: keda, which asks it: give its URL")
        if self.by == "hpa" and self.prometheus:
            raise ValueError("prometheus is asked by: keda only; by: hpa reads what prometheus-adapter serves")
        return self
