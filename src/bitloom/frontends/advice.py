"""Why well-known layers are not supported, and what to do about them: one table for both front ends."""

from __future__ import annotations

GENERIC = {
    "dilation": "use a larger dense kernel, or stride 1 layers, instead of dilation",
    "count_include_pad": "set count_include_pad=True, or pool without padding",
    "adaptive": "choose an image size whose map divides evenly, or pool to 1x1",
}

_ACTIVATION = ("is an activation other than ReLU", "replace it by ReLU or ReLU6 and fine-tune")
_PRODUCT = ("multiplies activations", "only constant factors, one a channel, can be expressed")
_DIFFERENCE = ("subtracts", "fold the minus sign into a convolution, and add")
_AXES = (
    "reorders axes",
    "keep (N, C, H, W) all through; of an ONNX file, turns to (N, H, W, C) and back are read too",
)
_SOFTMAX = ("is a softmax that is not the last layer over (N, classes)", "return logits; the class does not change")
_CONTROL = ("is control flow", "export the branch that inference takes, alone")
_CHOICE = ("chooses classes", "return logits; whoever reads them takes the largest")
_NORM = ("normalises with statistics of the image", "use batch normalization behind convolutions")
_BATCH = ("normalises with the statistics of the batch", "track running statistics and use eval mode")
_TRANSPOSED = ("is a transposed convolution", "use upsampling outside the accelerator, or another network")
_SPATIAL = ("changes the map's size by interpolation", "resize outside the accelerator")

_KNOWN: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("silu", "gelu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "leaky_relu", "elu", "prelu", "_prelu_kernel",
         "mish", "softplus", "erf", "leakyrelu", "swish"),
        _ACTIVATION,
    ),
    **dict.fromkeys(("mul", "div", "matmul", "bmm", "mm", "addmm", "pow", "sqrt", "einsum"), _PRODUCT),
    **dict.fromkeys(("sub", "rsub"), _DIFFERENCE),
    **dict.fromkeys(("if", "loop", "scan", "while_loop", "cond"), _CONTROL),
    **dict.fromkeys(("argmax", "topk"), _CHOICE),
    **dict.fromkeys(("transpose", "permute", "movedim", "swapaxes"), _AXES),
    "_native_batch_norm_legit": _BATCH,
    **dict.fromkeys(("conv_transpose2d", "convtranspose", "conv_transpose1d", "conv_transpose3d"), _TRANSPOSED),
    **dict.fromkeys(("softmax", "log_softmax", "_softmax", "_log_softmax", "logsoftmax"), _SOFTMAX),
    **dict.fromkeys(
        ("layer_norm", "group_norm", "instance_norm", "native_group_norm", "native_layer_norm", "layernormalization",
         "groupnormalization", "instancenormalization", "lrn"),
        _NORM,
    ),
    **dict.fromkeys(
        ("upsample_nearest2d", "upsample_bilinear2d", "_upsample_nearest_exact2d", "interpolate", "resize", "upsample"),
        _SPATIAL,
    ),
}  # fmt: skip


def explain(kind: str) -> tuple[str, str]:
    """(reason, advice) for an operation that no reader knows."""
    plain = kind.lower().rstrip("_")
    return _KNOWN.get(plain, ("is not an operation of the accelerator", "replace it by supported layers"))
