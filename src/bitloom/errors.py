"""Every error a user can cause. Each names the thing, shows the value and suggests the fix."""

from __future__ import annotations


class BitloomError(Exception):
    """Base class: the command line prints its text and exits with code 2."""


class UnsupportedLayerError(BitloomError):
    """A layer or an attribute that the integer accelerator cannot express."""


class GraphError(BitloomError):
    """A graph that breaks a rule of `bitloom.graph`: shape, order, name or value."""


class WeightsError(BitloomError):
    """Weights that are missing, of a wrong shape, or not finite."""


class DataError(BitloomError):
    """Calibration or evaluation images that cannot be used."""


class BudgetError(BitloomError):
    """A bit budget that no allocation can meet."""


class TrainingError(BitloomError):
    """A fine-tuning whose loss stopped being a finite number."""


class TargetError(BitloomError):
    """An unknown device or an architecture that is illegal or does not fit."""


class ProgramError(BitloomError):
    """A program that cannot be made, or a program file that cannot be trusted."""


class SimulationError(BitloomError):
    """A simulation that could not be built, timed out, or ended with an error code."""


class OutputError(BitloomError):
    """An output folder or file that cannot be written."""
