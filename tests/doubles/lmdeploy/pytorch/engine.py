"""The PyTorch engine's double: it steps on the loop where it was started, and not before."""

import asyncio
from typing import Any

from lmdeploy import engines


class Engine(engines.Engine):  # type: ignore[misc]  # mypy skips names that the real package has
    """The engine."""

    handle = "EngineInstance"

    def __init__(self, engine_config: Any) -> None:
        super().__init__(engine_config)
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, engine_config: Any = None, **_: Any) -> "Engine":
        """Load the model."""
        return cls(engine_config)

    def start_loop(self) -> bool:
        """On the running loop."""
        self._task = asyncio.get_running_loop().create_task(asyncio.sleep(1e9))
        return True

    def check_ready(self) -> None:
        """Its loop is the caller's."""
        assert self._task is not None and self._task.get_loop() is asyncio.get_running_loop()

    def stop(self) -> None:
        """End the loop's task."""
        if self._task:
            self._task.cancel()

    async def wait_tasks(self) -> None:
        """Until it has ended."""
        if self._task:
            await self._task
