"""ResNet-20 on CIFAR-10, 4 mean bits, 20 images classified on RTL: `make bench-resnet20`.

Needs the images and weights of BITLOOM_DATA. Calibrates on 512 lossless training images, measures on the 1000 lossless
test images, writes benchmarks/results/resnet20_rtl.json. Exit code 1 unless every tensor is bit-exact, the classes of
the simulated images equal the integer model's, and the integer model is within half a point of float.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from journey import DATA, ROOT, result_row, write_result

from bitloom.data.cifar import load_lossless
from bitloom.evaluate import Evaluation
from bitloom.flow import CompileOptions, compile_model
from bitloom.frontends.load import load_model
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device

CIFAR = DATA / "cifar10"
LOSS_ALLOWED = 0.5  #: points of top-1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="small", help="named build (default: small, 128 array DSPs)")
    parser.add_argument("--images", type=int, default=20, help="images on RTL")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "resnet20")
    args = parser.parse_args()
    if not CIFAR.is_dir():
        print(f"{CIFAR}: no such folder; set BITLOOM_DATA", file=sys.stderr)
        return 2
    test = load_lossless(CIFAR, test=True)
    assert test.labels is not None
    arch = named_arch(args.arch)
    facts = compile_model(
        load_model("resnet20", str(CIFAR / "weights" / "resnet20-12fca82f.th")),
        load_lossless(CIFAR, test=False).images[::8].contiguous(),
        Evaluation(test.images, test.labels),
        arch,
        load_device("xczu15eg"),
        args.out / args.arch,
        CompileOptions(budget=4.0, simulated=args.images, evaluated=100),
    )
    result = result_row("make bench-resnet20", arch, facts)
    write_result("resnet20_rtl", result)
    held = result["top1_integer"] >= result["top1_float"] - LOSS_ALLOWED
    return 0 if result["bit_exact"] and result["classes_equal"] and held else 1


if __name__ == "__main__":
    sys.exit(main())
