"""ResNet-20 on CIFAR-10, 4 mean bits, 20 images classified on RTL: `make bench-resnet20`.

Needs the images and weights of BITLOOM_DATA. Calibrates on 512 lossless training images, measures on the 1000 lossless
test images, writes benchmarks/results/resnet20_rtl.json. Exit code 1 unless every tensor is bit-exact, the classes of
the simulated images equal the integer model's, and the integer model is within half a point of float.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from bitloom.data.cifar import load_lossless
from bitloom.evaluate import Evaluation
from bitloom.flow import CompileOptions, compile_model
from bitloom.frontends.load import load_model
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("BITLOOM_DATA", ROOT.parent / "shared" / "data")) / "cifar10"
LOSS_ALLOWED = 0.5  #: points of top-1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="small", help="named build (default: small, 128 array DSPs)")
    parser.add_argument("--images", type=int, default=20, help="images on RTL")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "resnet20")
    args = parser.parse_args()
    if not DATA.is_dir():
        print(f"{DATA}: no such folder; set BITLOOM_DATA", file=sys.stderr)
        return 2
    test = load_lossless(DATA, test=True)
    assert test.labels is not None
    arch = named_arch(args.arch)
    facts = compile_model(
        load_model("resnet20", str(DATA / "weights" / "resnet20-12fca82f.th")),
        load_lossless(DATA, test=False).images[::8].contiguous(),
        Evaluation(test.images, test.labels),
        arch,
        load_device("xczu15eg"),
        args.out / args.arch,
        CompileOptions(budget=4.0, simulated=args.images, batch=100),
    )
    run, accuracy = facts["simulation"], facts["accuracy"]
    result = {
        "command": "make bench-resnet20",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "arch": arch.name,
        "dsps": arch.array_dsps,
        "mean_bits": facts["mean_bits"],
        "images": run["images"],
        "layers_compared": run["layers_compared"],
        "bit_exact": run["bit_exact"],
        "classes_equal": run["classes_equal"],
        "cycles": run["cycles"],
        "model_cycles": facts["model_cycles"],
        "cycles_by_cause": run["cycles_by_cause"],
        "mac_efficiency": run["mac_efficiency"],
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
    (folder / "resnet20_rtl.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    held = accuracy["integer"] >= accuracy["float"] - LOSS_ALLOWED
    return 0 if run["bit_exact"] and run["classes_equal"] and held else 1


if __name__ == "__main__":
    sys.exit(main())
