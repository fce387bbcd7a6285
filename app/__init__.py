"""Jincai Life: the backend of a community mini-program."""

__version__ = "0.1.0"
