"""TurboMind's double: it has threads of its own, and needs nobody's loop."""

from typing import Any

from lmdeploy.engines import Engine

_import_error: Exception | None = None


def is_available() -> bool:
    """Whether the native module could be loaded."""
    return True


class TurboMind(Engine):  # type: ignore[misc]  # mypy skips names that the real package has
    """The engine."""

    handle = "TurboMindInstance"

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, engine_config: Any = None, **_: Any) -> "TurboMind":
        """Load the model."""
        return cls(engine_config)
