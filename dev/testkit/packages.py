"""Modules that need packages from PyPI. `make` installs those into .dev/venv-*, pinned; a bare Python has none."""

import importlib

from dev.command import Failure


def load(module, remedy):
    """Imports a module; Failure that says the remedy if this Python lacks a package that it needs."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise Failure(f"this Python has no package {missing.name}; run {remedy}, which has it") from None
