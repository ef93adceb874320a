"""Which tensors stay on chip: live rows of the activation memory, and stripes for the layers that do not fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from bitloom.errors import TargetError
from bitloom.explore.layers import Network
from bitloom.explore.loops import Shape, input_rows, tensor_rows


@dataclass(frozen=True)
class Stripes:
    """The first `layers` layers run `count` times, each time on `rows[i]` output rows of layer i; the rest run once.

    Weights of a striped layer are read once a stripe; halo rows are computed again. layers = 0: everything fits.
    """

    layers: int
    count: int
    rows: tuple[int, ...]


@lru_cache(maxsize=4096)
def live_rows(network: Network, shape: Shape, start: int = 0) -> int:
    """Most rows alive at once from layer `start` on (tensors made before it count while they are still read)."""
    born: dict[str, int] = {network.input: 0}
    dies: dict[str, int] = {}
    sizes: dict[str, int] = {}

    def root(name: str) -> str:
        while name in network.alias:
            name = network.alias[name]
        return name

    for i, layer in enumerate(network.layers):
        for name in layer.reads:
            dies[root(name)] = i
        out = root(layer.output.name)
        born.setdefault(out, i)
        dies[out] = max(dies.get(out, i), i)
        if layer.first:
            sizes[root(layer.input.name)] = input_rows(layer, shape, layer.output.height)
    dies[root(network.output)] = len(network.layers)
    for name in born:
        sizes.setdefault(name, tensor_rows(network.tensors[name], shape))
    most = 0
    for i in range(start, len(network.layers)):
        most = max(most, sum(sizes[n] for n in born if born[n] <= i <= dies.get(n, born[n])))
    return most


@lru_cache(maxsize=64)
def _chain(network: Network) -> int:
    """Layers from the input on that form a chain: each reads only the one before, and nobody else reads that."""
    uses: dict[str, int] = {}
    for layer in network.layers:
        for name in layer.reads:
            uses[name] = uses.get(name, 0) + 1
    length, last = 0, network.input
    for layer in network.layers:
        if layer.reads != (last,) or uses[last] != 1 or last in network.alias or layer.walk:
            break
        length, last = length + 1, layer.output.name
    return length


def _stripe_rows(network: Network, layers: int, count: int) -> tuple[int, ...]:
    """Output rows of each striped layer, halo included, from the last layer back."""
    rows = [0] * layers
    rows[-1] = -(-network.layers[layers - 1].output.height // count)
    for i in range(layers - 1, 0, -1):
        layer = network.layers[i]
        need = (rows[i] - 1) * layer.stride[0] + layer.kernel[0]
        rows[i - 1] = min(network.layers[i - 1].output.height, need)
    return tuple(rows)


def _stripe_need(network: Network, shape: Shape, rows: tuple[int, ...]) -> int:
    """Rows of memory that a stripe needs: the whole last output, and the largest pair of stripe buffers."""
    last = network.layers[len(rows) - 1]
    most = 0
    for i, layer in enumerate(network.layers[: len(rows)]):
        own = 0 if i == len(rows) - 1 else tensor_rows(layer.output, shape, rows[i])
        most = max(most, input_rows(layer, shape, rows[i]) + own)
    return most + tensor_rows(last.output, shape)


def plan_stripes(network: Network, shape: Shape, act_rows: int) -> Stripes:
    """The least striping that fits `act_rows`; raises TargetError naming the layer that can never fit.

    The shortest chain of first layers is striped after which everything fits, into as few stripes as possible.
    """
    if live_rows(network, shape) <= act_rows:
        return Stripes(0, 1, ())
    for layers in range(1, _chain(network) + 1):
        if live_rows(network, shape, layers) > act_rows:
            continue
        for count in range(1, network.layers[layers - 1].output.height + 1):
            rows = _stripe_rows(network, layers, count)
            if _stripe_need(network, shape, rows) <= act_rows:
                return Stripes(layers, count, rows)
    need = live_rows(network, shape)
    raise TargetError(
        f"{network.name}: needs {need} activation rows at once, act_rows = {act_rows}, and no striping of its "
        "first layers fits; use more rows, more pixels or a smaller image"
    )
