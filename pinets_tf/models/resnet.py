"""Residual networks, plain or polynomial, with or without activations (Sec. 4.2 and 5.2)."""

import keras

from pinets_tf.layers import CCP, BatchNormalization, PolynomialResidual, PooledProduct
from pinets_tf.layers.checks import one_of, positive_integer, positive_number
from pinets_tf.layers.copying import copy_initializer

BLOCKS = ("basic", "bottleneck")
STEMS = ("3x3", "7x7-max", "7x7-average")
FACTOR_CONVOLUTIONS = (None, "identity", "every")
# Channels that a bottleneck block returns, in multiples of its inner width.
_EXPANSION = 4


def resnet(
    input_shape,
    classes,
    *,
    stage_blocks=(2, 2, 2, 2),
    order=2,
    activation=None,
    width=64,
    block="basic",
    stem="3x3",
    normalize="batch",
    gate=True,
    product_convolution=False,
    factor_convolution=None,
    pooled_rank=None,
    kernel_initializer=None,
    zero_residual=False,
    preprocessing=None,
    name=None,
):
    """Returns a residual network whose blocks are polynomials of order `order` (Sec. 4.2 and 5.2).

    The t-th block maps z to z + Cz + (Az)*(Cz) + ... (`order` terms after z), C being its convolutions with batch
    normalisation and A the identity unless it is asked for. Without an activation the class scores are a polynomial of
    the image at inference, of degree `order` to the number of blocks. `order=1` is the plain residual network: with
    `activation="relu"` it is ResNet18, without activations it is the paper's linear baseline; `stage_blocks=(3, 4, 6,
    3)` makes it ResNet34 and, with `block="bottleneck"`, ResNet50.

    Args:
        input_shape: `(height, width, channels)` of the images; height and width may be `None`. With `preprocessing`,
            the shape of what that takes, such as `(16000,)` for waveforms.
        classes: the number of classes.
        stage_blocks: how many blocks each stage has. Each stage after the first halves the image and doubles the
            channels.
        order: order of every block, the paper's 2 to 5.
        activation: `None`, or an activation after every convolution but the last of each block, after the sum of each
            block, and after the stem.
        width: channels of the first stage; with bottlenecks their inner channels, a quarter of what they return.
        block: `"basic"`, two 3x3 convolutions, or `"bottleneck"`, 1x1, 3x3 (with the stride) and 1x1.
        stem: `"3x3"` for images of some 32 pixels; `"7x7-max"`, a 7x7 convolution and a 3x3 maximum, both of stride 2,
            for 224 pixels; `"7x7-average"`, the same with an average, which keeps a network without activations a
            polynomial.
        normalize: normalisation of the products in each block, as in `PolynomialResidual`. The paper normalises but
            does not say how; without any, the degree lets the values overflow within a few blocks.
        gate: whether each product is multiplied with a learned scalar that starts at zero, so that training starts at
            the network of order 1. Without gates orders above 2 train worse, and may overflow when
            they are evaluated before the moving statistics have settled, since a wrong scale enters with the power of
            the degree.
        product_convolution: whether each product, after tanh where `normalize` is `"tanh"`, goes through a 1x1
            convolution, and then through a batch normalisation unless `normalize` is `None`.
        factor_convolution: where A is a 1x1 convolution instead of the identity: `None`, nowhere; `"identity"`, in
            blocks whose shortcut is the identity, so that every block has one linear map on the way of its shortcut
            into the product; `"every"`, in every block.
        pooled_rank: `None`, or the rank of a polynomial gate inside each block, in multiples of its inner width: before
            the last convolution, h becomes h + tanh(h * P(mean of h)) with P a CCP of order 2 (`PooledProduct`).
        kernel_initializer: initializer of the convolutions, by default that of He et al. for ReLU, normal with variance
            2 / fan_out. R-PolyNets (Chrysos et al., CVPR 2023) take `VarianceScaling(16.0, "fan_in",
            "untruncated_normal")`.
        zero_residual: whether the last batch normalisation of each branch C starts with a scale of zero, so that
            training starts at the identity.
        preprocessing: a Keras layer put before the stem, such as `Normalization(mean=..., variance=...)`, so that a
            saved model takes raw pixels, or a front end that makes images of waveforms.
        name: name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)` to logits `(batch, classes)`, in
        float32 under every precision policy. Channels are last whatever the Keras configuration says.

    Raises:
        ValueError: if `classes`, `width`, `order` or a number of blocks is not a positive integer, if the images do not
            have three axes, if a choice is not one of those above, if `pooled_rank` is not positive, or if
            `product_convolution` is combined with a `normalize` other than None, "batch" and "tanh".

    Example:

    >>> from pinets_tf.models import resnet
    >>> resnet((32, 32, 3), classes=10, order=1, activation="relu").count_params()
    11183562
    >>> resnet((32, 32, 3), classes=10, stage_blocks=(1, 1, 1, 1), order=3, width=8).output_shape
    (None, 10)

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 4.2 and 5.2; He et al., "Deep
    Residual Learning for Image Recognition", CVPR 2016, whose stages and initial values these are, with the stride of a
    bottleneck in its 3x3 convolution as is usual since. Moving statistics have momentum 0.9, since products amplify
    statistics that lag behind.
    """
    classes = positive_integer("classes", classes, "Pass the number of classes, such as classes=10.")
    width = positive_integer("width", width, "Pass the channels of the first stage, such as width=64.")
    for blocks in stage_blocks:
        positive_integer("stage_blocks", blocks, "Pass the number of blocks of each stage, such as (2, 2, 2, 2).")
    one_of("block", block, BLOCKS)
    one_of("stem", stem, STEMS)
    one_of("factor_convolution", factor_convolution, FACTOR_CONVOLUTIONS)
    if pooled_rank is not None:
        positive_number("pooled_rank", pooled_rank, "Pass a multiple of the inner width, such as 2.5, or None.")
    images = keras.Input(input_shape, name="images" if preprocessing is None else "inputs")
    x = images if preprocessing is None else preprocessing(images)
    if len(x.shape) != 4:
        raise ValueError(
            "`input_shape` must be (height, width, channels). "
            f"Received: input_shape={tuple(input_shape)}. Leave out the batch, add the channels: (28, 28, 1)."
        )
    convolve = _Convolutions(kernel_initializer)
    x = keras.Sequential(convolve(width, *((3, 1) if stem == "3x3" else (7, 2))), name="stem")(x)
    x = _activated(x, activation)
    if stem != "3x3":
        pool = keras.layers.MaxPooling2D if stem == "7x7-max" else keras.layers.AveragePooling2D
        x = pool(3, strides=2, padding="same", data_format="channels_last", name="stem_pool")(x)
    for stage, blocks in enumerate(stage_blocks, start=1):
        inner = width * 2 ** (stage - 1)
        filters = inner if block == "basic" else _EXPANSION * inner
        for number in range(1, blocks + 1):
            strides = 2 if stage > 1 and number == 1 else 1
            changes_shape = strides > 1 or x.shape[-1] != filters
            has_factor = order > 1 and factor_convolution in (("every",) if changes_shape else ("every", "identity"))
            products = _product_convolution(filters, normalize, convolve) if product_convolution else normalize
            x = PolynomialResidual(
                branch=_branch(block, inner, filters, strides, activation, pooled_rank, zero_residual, convolve),
                order=order,
                shortcut=keras.Sequential(convolve(filters, 1, strides), name="shortcut") if changes_shape else None,
                factor=convolve.alone(filters, name="factor") if has_factor else None,
                normalize=products,
                gate=gate,
                name=f"stage_{stage}_block_{number}",
            )(x)
            x = _activated(x, activation)
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="pool")(x)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=name)


class _Convolutions:
    """Makes convolutions without bias, each with initial values of its own, and the normalisation after them."""

    def __init__(self, initializer):
        self.initializer = initializer or keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        self.made = 0

    def alone(self, filters, kernel_size=1, strides=1, **options):
        self.made += 1
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=copy_initializer(self.initializer, f"convolution_{self.made}"),
            **options,
        )

    def __call__(self, filters, kernel_size, strides=1, scale="ones"):
        return [
            self.alone(filters, kernel_size, strides),
            BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=scale),
        ]


def _branch(block, inner, filters, strides, activation, pooled_rank, zero_residual, convolve):
    """Returns C: convolutions and batch normalisations, with activations and a pooled product before the last one."""
    between = [] if activation is None else [activation]
    kernels = [(3, strides)] if block == "basic" else [(1, 1), (3, strides)]
    layers = []
    for kernel_size, step in kernels:
        layers += [*convolve(inner, kernel_size, step), *map(keras.layers.Activation, between)]
    if pooled_rank is not None:
        gate = CCP(units=inner, order=2, rank=max(1, round(pooled_rank * inner)))
        layers.append(PooledProduct(gate, normalize="tanh", gate=True, data_format="channels_last"))
    layers += convolve(filters, 3 if block == "basic" else 1, scale="zeros" if zero_residual else "ones")
    return keras.Sequential(layers, name="branch")


def _product_convolution(filters, normalize, convolve):
    """Returns what the products of a block go through: tanh where asked, a 1x1 convolution, a batch normalisation."""
    if normalize not in (None, "batch", "tanh"):
        raise ValueError(
            "A convolution on the products comes after tanh, or before a batch normalisation, or alone. "
            f"Received: product_convolution=True with normalize={normalize!r}. Pass normalize='batch' or 'tanh'."
        )
    bounded = [keras.layers.Activation("tanh")] if normalize == "tanh" else []
    return keras.Sequential([*bounded, *([convolve.alone(filters)] if normalize is None else convolve(filters, 1))])


def _activated(x, activation):
    return x if activation is None else keras.layers.Activation(activation)(x)
