"""What a unary model is told when Triton starts it: so little that its process stays small."""

import json
from dataclasses import asdict, dataclass

PARAMETER = "conch"


@dataclass(frozen=True)
class UnaryConfig:
    """The one parameter of its config.pbtxt."""

    asks: str  # the ensemble that streams
    room: int  # requests in flight at once, as many as the engine admits
    backchannel: str  # the socket on which the engine hears "stop this request"
    python_prefix: str  # the environment that it is meant to run in

    def to_json(self) -> str:
        """The parameter's value."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "UnaryConfig":
        """The inverse of :meth:`to_json`."""
        return UnaryConfig(**json.loads(text))
