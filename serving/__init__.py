"""The server process: where Triton is found, how it is started, watched, restarted, drained and stopped."""
