"""``python -m stepstream``."""

from stepstream.cli import program

program()
