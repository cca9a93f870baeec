"""LMDeploy's messages, out of the recording."""

import enum

from behind import made, recorded

TurbomindEngineConfig = made("lmdeploy", "TurbomindEngineConfig")
PytorchEngineConfig = made("lmdeploy", "PytorchEngineConfig")
GenerationConfig = made("lmdeploy", "GenerationConfig")
EngineOutput = made("lmdeploy", "EngineOutput")
ScheduleMetrics = made("lmdeploy", "ScheduleMetrics")
ResponseType = enum.Enum("ResponseType", recorded("lmdeploy")["ResponseType"])  # type: ignore[misc]
