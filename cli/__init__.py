"""The command line: one module per family of commands."""

from .app import main

__all__ = ["main"]
