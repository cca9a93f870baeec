"""The double of TensorRT's Python package: its version."""

__version__ = "10.14.1.48"
