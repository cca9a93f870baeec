"""OpenVINO GenAI behind the engine protocol."""
