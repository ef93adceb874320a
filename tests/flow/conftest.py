"""The network and the images of the journey's tests."""

from __future__ import annotations

import pytest
from torch import Tensor

from bitloom.graph.ir import Graph
from flow.journeys import digits_graph, noise


@pytest.fixture(scope="session")
def images() -> Tensor:
    return noise()


@pytest.fixture(scope="session")
def graph() -> Graph:
    return digits_graph()
