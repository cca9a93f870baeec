"""Traces: what a request lived through, as OpenTelemetry's spans."""
