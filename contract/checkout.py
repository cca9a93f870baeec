"""Where Conch's own files are: a checkout, or its rooms laid side by side in an image."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
