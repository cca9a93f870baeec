"""Load, soak and benchmarks: what the service carries, measured from outside."""
