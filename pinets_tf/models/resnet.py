"""Residual networks for images, plain or polynomial, with or without activations (Sec. 4.2)."""

import keras

from pinets_tf.layers import BatchNormalization, PolynomialResidual
from pinets_tf.layers.checks import positive_integer


def resnet(
    input_shape,
    classes,
    *,
    stage_blocks=(2, 2, 2, 2),
    order=2,
    activation=None,
    width=64,
    normalize="batch",
    gate=True,
    preprocessing=None,
    name=None,
):
    """Returns a residual network whose blocks are polynomials of order `order` (Sec. 4.2).

    The t-th block maps z to z + Cz + (Cz)*z + ... (`order` terms after z), C being two 3x3 convolutions with batch
    normalisation. Without an activation the class scores are a polynomial of the image at inference, of degree
    `order` to the number of blocks. `order=1` is the plain residual network: with `activation="relu"` it is ResNet18,
    without activations it is the paper's linear baseline.

    Args:
        input_shape: `(height, width, channels)` of the images; height and width may be `None`.
        classes: the number of classes.
        stage_blocks: how many blocks each stage has. Each stage after the first halves the image and doubles the
            channels.
        order: order of every block, the paper's 2 to 5.
        activation: `None`, or an activation after the first convolution and after the sum of each block, and after the
            stem.
        width: channels of the first stage.
        normalize: normalisation of the products in each block, as in `PolynomialResidual`. The paper normalises but
            does not say how; without any, the degree lets the values overflow within a few blocks.
        gate: whether each product is multiplied with a learned scalar that starts at zero, so that training starts at
            the network of order 1. Without gates orders above 2 train worse, and may overflow when
            they are evaluated before the moving statistics have settled, since a wrong scale enters with the power of
            the degree.
        preprocessing: a Keras layer put before the stem, such as `Normalization(mean=..., variance=...)`, so that a
            saved model takes raw pixels.
        name: name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)` to logits `(batch, classes)`, in
        float32 under every precision policy.

    Raises:
        ValueError: if `classes`, `width`, `order` or a number of blocks is not a positive integer, or if `input_shape`
            does not have three entries.

    Example:

    >>> from pinets_tf.models import resnet
    >>> resnet((32, 32, 3), classes=10, order=1, activation="relu").count_params()
    11183562
    >>> resnet((32, 32, 3), classes=10, stage_blocks=(1, 1, 1, 1), order=3, width=8).output_shape
    (None, 10)

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 4.2; 3x3 stem, stages and
    initial values as for the CIFAR ResNet18 it starts from. Moving statistics have momentum 0.9, since products
    amplify statistics that lag behind.
    """
    classes = positive_integer("classes", classes, "Pass the number of classes, such as classes=10.")
    width = positive_integer("width", width, "Pass the channels of the first stage, such as width=64.")
    for blocks in stage_blocks:
        positive_integer("stage_blocks", blocks, "Pass the number of blocks of each stage, such as (2, 2, 2, 2).")
    if len(input_shape) != 3:
        raise ValueError(
            "`input_shape` must be (height, width, channels). "
            f"Received: input_shape={tuple(input_shape)}. Leave out the batch, add the channels: (28, 28, 1)."
        )

    images = keras.Input(input_shape, name="images")
    x = images if preprocessing is None else preprocessing(images)
    x = _activated(_convolution(width, 3, 1)(x), activation)
    for stage, blocks in enumerate(stage_blocks, start=1):
        filters = width * 2 ** (stage - 1)
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            changes_shape = strides > 1 or x.shape[-1] != filters
            x = PolynomialResidual(
                branch=_branch(filters, strides, activation),
                order=order,
                shortcut=_convolution(filters, 1, strides, name="shortcut") if changes_shape else None,
                normalize=normalize,
                gate=gate,
                name=f"stage_{stage}_block_{block}",
            )(x)
            x = _activated(x, activation)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=name)


def _convolution(filters, kernel_size, strides, name="stem"):
    return keras.Sequential(_convolution_layers(filters, kernel_size, strides), name=name)


def _convolution_layers(filters, kernel_size, strides):
    return [
        keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        ),
        BatchNormalization(momentum=0.9, epsilon=1e-5),
    ]


def _branch(filters, strides, activation):
    inner = [] if activation is None else [keras.layers.Activation(activation)]
    layers = [*_convolution_layers(filters, 3, strides), *inner, *_convolution_layers(filters, 3, 1)]
    return keras.Sequential(layers, name="branch")


def _activated(x, activation):
    return x if activation is None else keras.layers.Activation(activation)(x)
