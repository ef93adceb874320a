"""ResNet-18 at 224x224, mean 4 bits per channel, the whole network on RTL: `make bench-resnet18`.

Needs the images and weights of BITLOOM_DATA. Writes benchmarks/results/resnet18_rtl.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from bitloom import zoo
from bitloom.data.images import Preprocess, load_images
from bitloom.evaluate import Evaluation
from bitloom.flow import CompileOptions, compile_model
from bitloom.frontends.load import load_model
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="mid", help="named build (default: mid, 512 array DSPs)")
    parser.add_argument("--images", type=int, default=3, help="images on RTL")
    parser.add_argument("--accuracy", type=int, default=600, help="images for accuracy")
    parser.add_argument("--calibration", type=int, default=200, help="calibration images")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "resnet18")
    args = parser.parse_args()
    data = Path(os.environ.get("BITLOOM_DATA", ROOT.parent / "shared" / "data")) / "imagenet"
    if not data.is_dir():
        print(f"{data}: no such folder; set BITLOOM_DATA", file=sys.stderr)
        return 2
    info = zoo.info("resnet18")
    calibration = load_images(
        data / "calibration", Preprocess(info.image_shape, info.mean, info.std, 256), args.calibration
    )
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
        CompileOptions(budget=4.0, simulated=args.images),
    )
    run, accuracy = facts["simulation"], facts["accuracy"]
    result = {
        "command": "make bench-resnet18",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "arch": arch.name,
        "dsps": arch.array_dsps,
        "images": run["images"],
        "layers_compared": run["layers_compared"],
        "bit_exact": run["bit_exact"],
        "cycles": run["cycles"],
        "model_cycles": facts["model_cycles"],
        "cycles_by_cause": run["cycles_by_cause"],
        "mac_efficiency": run["mac_efficiency"],
        "mean_bits": facts["mean_bits"],
        "wall_s": run["wall_s"],
        "peak_rss_mib": run["peak_rss_mib"],
        "top1_float": accuracy["float"],
        "top1_integer": accuracy["integer"],
        "fake_integer_agreement": accuracy["fake_integer_agreement"],
        "n_images_accuracy": accuracy["images"],
        "steps": facts["steps"],
    }
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "resnet18_rtl.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0 if run["bit_exact"] else 1


if __name__ == "__main__":
    sys.exit(main())
