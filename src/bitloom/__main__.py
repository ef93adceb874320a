"""`python -m bitloom` is the command `bitloom`."""

from bitloom.cli import app

app()
