"""Multiplicative networks of others, as one writes them in plain Keras: without any layer of this package.

With `polynomial=False` they are what was published; with `polynomial=True` each normalisation is a batch normalisation
and no activation is left, so that they are polynomials at inference. By default they have their published sizes.

The ways to write a product differ on purpose: `keras.layers.Multiply` (StarNet), `*`, `ops.multiply` and `ops.einsum`
(NAFNet, MONet, bilinear MLP), `ops.square`, `ops.power` and `**` (PolyKervNet).
"""

import keras
from keras import layers, ops


def star_net(size=224, stem=32, width=24, depths=(2, 2, 8, 3), expansion=4, classes=1000, polynomial=False):
    """StarNet, of Ma et al., "Rewrite the Stars", CVPR 2024; by default S1: 2.9 M parameters, 425 M multiplications.

    Those 425 M are with the products and the batch normalisations; 422 M are multiply-adds of linear maps.
    """

    def activated(x):
        return x if polynomial else ops.relu6(x)

    def normalized(x, name):
        return layers.BatchNormalization(epsilon=1e-5, name=name)(x)

    images = keras.Input((size, size, 3))
    x = activated(normalized(_convolved(images, stem, 3, "stem", strides=2), "stem_norm"))
    for stage, depth in enumerate(depths):
        filters = width * 2**stage
        x = normalized(_convolved(x, filters, 3, f"down_{stage}", strides=2), f"down_{stage}_norm")
        for block in range(depth):
            path = f"stage_{stage}_block_{block}"
            u = layers.DepthwiseConv2D(7, padding="same", name=f"{path}_before")(x)
            u = normalized(u, f"{path}_before_norm")
            left, right = (_convolved(u, expansion * filters, 1, f"{path}_f{i}") for i in (1, 2))
            u = layers.Multiply()([activated(left), right])
            u = normalized(_convolved(u, filters, 1, f"{path}_g"), f"{path}_g_norm")
            x = layers.Add()([x, layers.DepthwiseConv2D(7, padding="same", name=f"{path}_after")(u)])
    x = layers.GlobalAveragePooling2D()(normalized(x, "norm"))
    return keras.Model(images, layers.Dense(classes, name="head")(x), name="star_net")


def mo_net(size=224, widths=(64, 128, 192, 192), depths=(4, 8, 12, 10), expansion=3, classes=1000, polynomial=False):
    """MONet, of Cheng et al., "Multilinear Operator Networks", ICLR 2024; by default T: 10 M, 2.8 G multiply-adds.

    By the formula of its layers it has 10.36 M, and 10.46 M with batch normalisations, which have four numbers for each
    channel in place of two. The spatial shift is that of the formula. The authors' shift writes into the tensor that it
    reads, so that its result depends on whether PyTorch copies the tensor first.
    """
    images = keras.Input((size, size, 3))
    x = _convolved(_convolved(images, widths[0], 3, "stem_0", strides=2), widths[0], 3, "stem_1", strides=2)
    for stage, (filters, depth) in enumerate(zip(widths, depths)):
        if stage:
            x = _convolved(x, filters, 3, f"down_{stage}", strides=2)
        for block in range(depth):
            path = f"stage_{stage}_block_{block}"
            # One layer for both, as the authors have it.
            norm = _norm(polynomial, f"{path}_norm")
            x = x + _multilinear(norm(x), filters, polynomial, f"{path}_mu_1", shift=True)
            x = x + _multilinear(norm(x), expansion * filters, polynomial, f"{path}_mu_2", shift=False)
    x = ops.mean(x, axis=(1, 2))
    return keras.Model(images, layers.Dense(classes, name="head")(x), name="mo_net")


def _multilinear(x, hidden, polynomial, path, shift):
    """C(a + alpha a * b), with a = norm(U_1 x) and b = norm(U_3 U_2 x)."""
    a = layers.Dense(hidden, name=f"{path}_U_1")(x)
    b = layers.Dense(hidden // 8, name=f"{path}_U_2")(x)
    if shift:
        a, b = _shifted(a), _shifted(b)
    b = layers.Dense(hidden, name=f"{path}_U_3")(b)
    a, b = _norm(polynomial, f"{path}_norm_a")(a), _norm(polynomial, f"{path}_norm_b")(b)
    product = a * b if shift else ops.einsum("bhwc,bhwc->bhwc", a, b)
    # One number that is learned: a dense layer from one number to one.
    alpha = layers.Dense(1, use_bias=False, kernel_initializer="ones", name=f"{path}_alpha")
    product = ops.squeeze(alpha(ops.expand_dims(product, -1)), -1)
    return layers.Dense(x.shape[-1], name=f"{path}_C")(ops.add(a, product))


def _shifted(x):
    """Moves each quarter of the channels by a pixel in a direction of its own, and repeats the border."""
    down, up, right, left = ops.split(x, [x.shape[-1] // 4 * i for i in (1, 2, 3)], axis=-1)
    down = ops.concatenate([down[:, :1], down[:, :-1]], axis=1)
    up = ops.concatenate([up[:, 1:], up[:, -1:]], axis=1)
    right = ops.concatenate([right[:, :, :1], right[:, :, :-1]], axis=2)
    left = ops.concatenate([left[:, :, 1:], left[:, :, -1:]], axis=2)
    return ops.concatenate([down, up, right, left], axis=-1)


def naf_net(size=256, width=32, encoder=(1, 1, 1, 28), middle=1, decoder=(1, 1, 1, 1), polynomial=False):
    """NAFNet, of Chen et al., "Simple Baselines for Image Restoration", ECCV 2022; by default of width 32.

    It has 17.1 M parameters and takes 16 G multiply-adds. Images whose sides are no multiple of 16 are not padded.
    """
    images = keras.Input((size, size, 3))
    x = _convolved(images, width, 3, "intro")
    ways = []
    for stage, depth in enumerate(encoder):
        for block in range(depth):
            x = _naf_block(x, polynomial, f"encoder_{stage}_block_{block}")
        ways.append(x)
        x = layers.Conv2D(2 * x.shape[-1], 2, strides=2, name=f"down_{stage}")(x)
    for block in range(middle):
        x = _naf_block(x, polynomial, f"middle_block_{block}")
    for stage, depth in enumerate(decoder):
        x = layers.Conv2D(2 * x.shape[-1], 1, use_bias=False, name=f"up_{stage}")(x)
        x = layers.Add()([_pixel_shuffled(x), ways.pop()])
        for block in range(depth):
            x = _naf_block(x, polynomial, f"decoder_{stage}_block_{block}")
    return keras.Model(images, _convolved(x, 3, 3, "ending") + images, name="naf_net")


def _naf_block(x, polynomial, path):
    filters = x.shape[-1]

    def scaled(x, name):
        # A number for each channel: a depthwise convolution of one pixel.
        scale = layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="zeros", name=f"{path}_{name}")
        return scale(x)

    u = _convolved(_norm(polynomial, f"{path}_norm_1")(x), 2 * filters, 1, f"{path}_conv_1")
    u = layers.DepthwiseConv2D(3, padding="same", name=f"{path}_conv_2")(u)
    u = u[..., :filters] * u[..., filters:]
    attention = layers.Dense(filters, name=f"{path}_attention")(layers.GlobalAveragePooling2D()(u))
    u = ops.einsum("bhwc,bc->bhwc", u, attention)
    x = x + scaled(_convolved(u, filters, 1, f"{path}_conv_3"), "beta")
    u = _convolved(_norm(polynomial, f"{path}_norm_2")(x), 2 * filters, 1, f"{path}_conv_4")
    u = ops.multiply(*ops.split(u, 2, axis=-1))
    return x + scaled(_convolved(u, filters, 1, f"{path}_conv_5"), "gamma")


def _pixel_shuffled(x):
    """What PyTorch's PixelShuffle(2) does: four channels side by side become two by two pixels."""
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, height, width, channels // 4, 2, 2))
    return ops.reshape(ops.transpose(x, (0, 1, 4, 2, 5, 3)), (-1, 2 * height, 2 * width, channels // 4))


def bilinear_mlp(pixels=784, width=512, blocks=1, classes=10, polynomial=False):
    """The image model of Pearce et al., "Bilinear MLPs enable weight-based mechanistic interpretability", ICLR 2025.

    By default 0.93 M parameters, those of the model of one block that the authors decompose. As published it has no
    normalisation and is a polynomial; with `polynomial` each block has a batch normalisation before it, where the
    language model of the same authors has an RMS normalisation.
    """
    images = keras.Input((pixels,))
    x = layers.Dense(width, use_bias=False, name="embed")(images)
    for block in range(blocks):
        x = layers.BatchNormalization(name=f"norm_{block}")(x) if polynomial else x
        left, right = ops.split(layers.Dense(2 * width, use_bias=False, name=f"block_{block}")(x), 2, axis=-1)
        x = ops.einsum("bh,bh->bh", left, right)
    return keras.Model(images, layers.Dense(classes, use_bias=False, name="head")(x), name="bilinear_mlp")


def poly_kerv_net(size=16, filters=8, classes=10, polynomial=False):
    """Convolutions to a power, (w * z + c)^n, as in PolyKervNets, of Aremu and Nandakumar, SaTML 2023.

    Its sizes are ours: it is here for its squares and powers.
    """
    images = keras.Input((size, size, 3))
    x = ops.square(_convolved(images, filters, 3, "conv_2") + 0.5)
    x = ops.power(_convolved(_norm(polynomial, "norm_3")(x), filters, 3, "conv_3", strides=2), 3)
    x = _convolved(_norm(polynomial, "norm_4")(x), filters, 3, "conv_4") ** 4
    x = layers.Flatten()(layers.AveragePooling2D(size // 2)(x))
    return keras.Model(images, layers.Dense(classes, name="head")(x), name="poly_kerv_net")


def _norm(polynomial, name):
    return (layers.BatchNormalization if polynomial else layers.LayerNormalization)(epsilon=1e-6, name=name)


def _convolved(x, filters, kernel_size, name, strides=1):
    """A convolution with PyTorch's padding, which at a stride of 2 is another one than Keras's "same"."""
    x = layers.ZeroPadding2D(kernel_size // 2)(x) if kernel_size > 1 else x
    return layers.Conv2D(filters, kernel_size, strides=strides, name=name)(x)
