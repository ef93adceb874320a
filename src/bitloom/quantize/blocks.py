"""Blocks of a network: runs of steps between tensors through which everything passes (residual blocks, or layers)."""

from __future__ import annotations

from dataclasses import dataclass

from bitloom.quantize.lower import ConvStep, Lowered, PoolStep, Step, step_inputs


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive steps that read only `input` from outside and of which only `output` is read later."""

    steps: tuple[Step, ...]
    input: str
    output: str

    @property
    def convs(self) -> tuple[ConvStep, ...]:
        """The steps with weights."""
        return tuple(step for step in self.steps if isinstance(step, ConvStep))


def blocks_of(lowered: Lowered) -> tuple[Block, ...]:
    """The finest division of the steps into blocks that hold a layer with weights each.

    Maximum pools join the block before them, which makes its output smaller; averages join the block after them, so
    that the block before is still held to every pixel.
    """
    blocks: list[list[Step]] = []
    waiting: list[Step] = []
    for index, step in enumerate(lowered.steps):
        waiting.append(step)
        if index + 1 < len(lowered.steps) and _open(lowered, index):
            continue
        if any(isinstance(s, ConvStep) for s in waiting):
            blocks.append(waiting)
            waiting = []
        elif blocks and all(isinstance(s, PoolStep) and s.maximum for s in waiting):
            blocks[-1] += waiting
            waiting = []
    if waiting and blocks:
        blocks[-1] += waiting
    starts = [lowered.input, *(steps[-1].output for steps in blocks[:-1])]
    return tuple(Block(tuple(s), x, s[-1].output) for s, x in zip(blocks, starts, strict=True))


def _open(lowered: Lowered, index: int) -> bool:
    """Whether later steps read anything but the output of step `index`."""
    later = {name for step in lowered.steps[index + 1 :] for name in step_inputs(step)}
    made = {step.output for step in lowered.steps[:index]} | {lowered.input}
    return bool(later & made)
