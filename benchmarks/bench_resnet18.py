"""ResNet-18 at 224x224, mean 4 bits per channel under a bound of cycles, the whole network on RTL.

`make bench-resnet18`. Needs the images and weights of BITLOOM_DATA. Writes results/resnet18_rtl.json, or with
--structural (every DSP and adder of the array on its own; the build takes many minutes) resnet18_structure.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from journey import DATA, ROOT, result_row, write_result

from bitloom import zoo
from bitloom.allocate.budget import Budget
from bitloom.data.images import Preprocess, Views, load_images
from bitloom.evaluate import Evaluation
from bitloom.flow import CompileOptions, compile_model
from bitloom.frontends.load import load_model
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="full", help="named build (default: full, 3072 array DSPs)")
    parser.add_argument("--images", type=int, default=3, help="images on RTL")
    parser.add_argument("--accuracy", type=int, default=600, help="images for accuracy")
    parser.add_argument("--calibration", type=int, default=500, help="calibration pictures")
    parser.add_argument("--views", type=int, default=4, help="views of each in rounding")
    parser.add_argument("--cycles", type=int, default=185_000, help="bound of the modelled cycles (0: none)")
    parser.add_argument("--structural", action="store_true", help="the DSP structure instead of its behavioural twin")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "resnet18")
    args = parser.parse_args()
    data = DATA / "imagenet"
    if not data.is_dir():
        print(f"{data}: no such folder; set BITLOOM_DATA", file=sys.stderr)
        return 2
    info = zoo.info("resnet18")
    preprocess = Preprocess(info.image_shape, info.mean, info.std, 256)
    calibration = load_images(data / "calibration", preprocess, args.calibration, Views(args.views))
    measured = load_images(data / "val", Preprocess(info.image_shape, info.mean, info.std), args.accuracy)
    assert measured.labels is not None
    arch = named_arch(args.arch)
    facts = compile_model(
        load_model("resnet18", str(data / "weights" / "resnet18_hybrid.npz")),
        calibration.images,
        Evaluation(measured.images, measured.labels),
        arch,
        load_device("xczu15eg"),
        args.out / args.arch,
        CompileOptions(
            budget=Budget(mean_bits=4.0, cycles=args.cycles or None),
            simulated=args.images,
            structural=args.structural,
            views=args.views,
        ),
    )
    name = "resnet18_structure" if args.structural else "resnet18_rtl"
    result = result_row("make bench-resnet18" + ("-structure" if args.structural else ""), arch, facts)
    write_result(name, result)
    return 0 if result["bit_exact"] and result["classes_equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
