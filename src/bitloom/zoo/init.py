"""Initial weights of the zoo's networks: He initialization, so that untrained activations keep their size."""

from __future__ import annotations

from torch import nn


def init_weights(module: nn.Module) -> None:
    """Sets convolutions (normal, fan out) and linear layers (normal, fan in) in place; biases are zero.

    Draws from torch's global generator; on the meta device nothing is computed.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="linear")
            nn.init.zeros_(layer.bias)
