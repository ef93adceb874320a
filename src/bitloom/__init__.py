"""Bitloom: from a trained CNN to an FPGA, with a weight bit-width of its own for every output channel."""

__version__ = "0.1.0"
