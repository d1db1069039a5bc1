"""The package `dev` where one of its files is run by its path: `python3 dev/stack.py` finds this under that name."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parent)]
