"""The demo: a small residual CNN for digits, trained here, quantized per channel to 3.5 mean bits, run on RTL."""

from pathlib import Path

import torch

from bitloom import zoo
from bitloom.data.digits import digits, train
from bitloom.evaluate import Evaluation
from bitloom.flow import CompileOptions, compile_model
from bitloom.frontends.torch_export import from_torch
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device


def main() -> None:
    images, labels, test_images, test_labels = digits()
    torch.set_num_threads(1)  # more are no faster on so small a network, and every number of them sums in its own order
    torch.manual_seed(0)
    network = zoo.build("digits")
    print("training ...")
    train(network, images, labels)
    graph = from_torch(network, (1, 8, 8), "digits")

    facts = compile_model(
        graph,
        calibration=images[:400],
        evaluation=Evaluation(test_images, test_labels),
        arch=named_arch("small"),
        device=load_device("xczu15eg"),
        out=Path("out/digits"),
        options=CompileOptions(budget=3.5, simulated=20),
    )
    accuracy, run = facts["accuracy"], facts["simulation"]
    widths = sorted({b for layer in facts["bits"].values() for b in layer})
    print(f"widths in use   {widths}, mean {facts['mean_bits']:.3f} bits")
    print(f"accuracy        float {accuracy['float']:.2f} %, hardware {accuracy['integer']:.2f} %")
    print(f"RTL simulation  {run['images']} images, {run['layers_compared']} tensors, bit-exact: {run['bit_exact']}")
    print(f"                {run['cycles']:,} cycles an image")
    print(f"report          {facts['report']}")
    if not run["bit_exact"]:
        raise SystemExit(run["first_difference"])


if __name__ == "__main__":
    main()
