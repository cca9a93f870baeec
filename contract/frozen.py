"""The base of every section of a deployment spec."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Unknown keys refused, values fixed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
