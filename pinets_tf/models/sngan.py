"""SNGAN, and its generator as a polynomial or a product of polynomials (Sec. 5.1, Table 2)."""

import math

import keras

from pinets_tf.layers import NCP, BatchNormalization, Injection, SpectralNormalization
from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.copying import copy_initializer

_SMALLEST = 4


def sngan_generator(
    size=32,
    channels=3,
    *,
    latent=128,
    width=256,
    injection=False,
    polynomials=1,
    order=2,
    name=None,
):
    """Returns the residual generator of SNGAN, plain, as an NCP or as a product of polynomials (Sec. 5.1).

        x_1 = A_1^T z                                        (a map of 4 x 4 positions)
        x_n = (A_n^T z) * (S_n^T x_{n-1} + b_n)              (injection=True; without it S_n^T x_{n-1} + b_n)
        images = tanh(convolution(relu(normalize(x_N))))

    S_n is a residual block that doubles height and width, with the biases of its convolutions as b_n; A_n is a thin
    fully-connected layer, the same at every position, whose bias starts at one. With `polynomials=2` and more, z passes
    through one NCP after another first: the output of each polynomial is the input of the next (Sec. 3.2).

    Args:
        size: height and width of the images: 4 times a power of two. 32 has three blocks.
        channels: of the images.
        latent: d, the size of z, drawn from N(0, 1).
        width: channels of every block; 256 in SNGAN.
        injection: whether each block is a step of an NCP.
        polynomials: 1 for one polynomial, the residual blocks; each one more is an NCP of vectors before them, of
            `latent` features and order `order`, whose products are normalised over the batch and gated, so that it
            starts as a linear map.
        order: order of the polynomials before the residual one.
        name: name of the model.

    Returns:
        A functional `keras.Model` from latents `(batch, latent)` to images `(batch, size, size, channels)` in [-1, 1],
        in float32 under every precision policy. Channels are last whatever the Keras configuration says.

    Raises:
        ValueError: if a size is not a positive integer, `size` not 8, 16, 32, ..., or `polynomials` above 1 without
            `injection`.

    Example:

    >>> from pinets_tf.models import sngan_generator
    >>> model = sngan_generator()
    >>> sum(weight.shape.num_elements() for weight in model.trainable_weights)
    4276739

    Source: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018; Chrysos et al.,
    "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 5.1, which does not say how many polynomials of which
    order its product has: two, the first of order 2, is our choice.
    """
    blocks = _doublings(size)
    given = (("channels", channels), ("latent", latent), ("width", width), ("polynomials", polynomials))
    for argument, value in (*given, ("order", order)):
        positive_integer(argument, value, f"Pass a number of them, such as {argument}=2.")
    if polynomials > 1 and not injection:
        raise ValueError(
            "A product of polynomials is made of polynomials. "
            f"Received: polynomials={polynomials} with injection=False. Pass injection=True."
        )
    initializers = _Initializers()
    z = keras.Input((latent,), name="latents")
    w = z
    for number in range(1, polynomials):
        w = NCP(None, order, rank=latent, normalize="batch", gate=True, name=f"polynomial_{number}")(w)
    x = keras.layers.Dense(_SMALLEST**2 * width, kernel_initializer=initializers(), name="A_1")(w)
    x = keras.layers.Reshape((_SMALLEST, _SMALLEST, width))(x)
    for n in range(2, blocks + 2):
        x = _up_block(x, width, n, initializers)
        if injection:
            x = Injection(
                kernel_initializer=initializers(),
                bias_initializer="ones",
                data_format="channels_last",
                name=f"injection_{n}",
            )([x, w])
    x = _normalized(x, "normalize")
    x = _convolution(channels, 3, 1.0, initializers, "C")(x)
    images = keras.layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model(z, images, name=name)


def sngan_discriminator(size=32, channels=3, *, width=128, name=None):
    """Returns the residual discriminator of SNGAN, every layer of it spectrally normalised.

    Two blocks halve height and width at 32 pixels, and one more for every doubling of `size`; two more keep them. The
    last map passes through ReLU, is summed over its positions, and a linear layer without bias makes one number of it.

    Args:
        size: height and width of the images: 4 times a power of two, at least 16.
        channels: of the images.
        width: channels of every block; 128 for CIFAR-10, 80 in the authors' experiment on Fashion-MNIST.
        name: name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, size, size, channels)` to scores `(batch, 1)`, in float32 under
        every precision policy. Channels are last whatever the Keras configuration says.

    Raises:
        ValueError: if a size is not a positive integer, or `size` not 16, 32, 64, ...

    Example:

    >>> from pinets_tf.models import sngan_discriminator
    >>> sngan_discriminator(width=8).output_shape
    (None, 1)

    Source: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018.
    """
    halvings = _doublings(size, smallest=16) - 1
    for argument, value in (("channels", channels), ("width", width)):
        positive_integer(argument, value, f"Pass a number of them, such as {argument}=3.")
    initializers = _Initializers()
    images = keras.Input((size, size, channels), name="images")
    x = _first_down_block(images, width, initializers)
    for number in range(2, halvings + 3):
        x = _down_block(x, width, number, number <= halvings, initializers)
    x = keras.layers.Activation("relu")(x)
    # The sum over positions; Keras has a layer for the mean alone.
    positions = x.shape[1] * x.shape[2]
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last")(x)
    x = keras.layers.Rescaling(positions, name="sum")(x)
    scores = keras.layers.Dense(1, use_bias=False, kernel_initializer=initializers())
    scores = SpectralNormalization(scores, dtype="float32", name="scores")(x)
    return keras.Model(images, scores, name=name)


class _Initializers:
    """Glorot's uniform initial values times `gain`, each time values of their own."""

    def __init__(self):
        self.made = 0

    def __call__(self, gain=1.0):
        self.made += 1
        initializer = keras.initializers.VarianceScaling(gain**2, "fan_avg", "uniform")
        return copy_initializer(initializer, f"kernel_{self.made}")


def _doublings(size, smallest=8):
    """Returns how often 4 is doubled to give `size`."""
    doublings = math.log2(size / _SMALLEST) if isinstance(size, int) and size >= smallest else 0.5
    if doublings != int(doublings):
        raise ValueError(
            f"`size` must be 4 times a power of two, at least {smallest}. Received: size={size!r}. Pass 32 or 64."
        )
    return int(doublings)


def _normalized(x, name):
    x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)
    return keras.layers.Activation("relu")(x)


def _up_block(x, width, n, initializers):
    def convolution(size, gain, name):
        return _convolution(width, size, gain, initializers, f"block_{n}_{name}")

    # A 1x1 convolution and the repetition of pixels may change places; this way is four times cheaper.
    shortcut = _doubled(convolution(1, 1.0, "shortcut")(x))
    x = _doubled(_normalized(x, f"block_{n}_normalize_1"))
    x = convolution(3, math.sqrt(2), "convolution_1")(x)
    x = convolution(3, math.sqrt(2), "convolution_2")(_normalized(x, f"block_{n}_normalize_2"))
    return keras.layers.Add(name=f"block_{n}")([x, shortcut])


def _doubled(x):
    """Repeats every pixel."""
    _, height, width, channels = x.shape
    x = keras.layers.UpSampling2D(data_format="channels_last")(x)
    # TensorFlow loses all sizes on the way, and TFLite has no convolution without them (Keras 3.15, TensorFlow 2.21).
    return keras.layers.Reshape((2 * height, 2 * width, channels))(x)


def _spectral_convolution(filters, size, gain, initializers, name):
    return SpectralNormalization(_convolution(filters, size, gain, initializers), name=name)


def _convolution(filters, size, gain, initializers, name=None):
    return keras.layers.Conv2D(
        filters,
        size,
        padding="same",
        data_format="channels_last",
        kernel_initializer=initializers(gain),
        name=name,
    )


def _halved(x):
    """Returns the means of 2 x 2 pixels."""
    return keras.layers.AveragePooling2D(2, data_format="channels_last")(x)


def _first_down_block(x, width, initializers):
    shortcut = _halved(x)
    shortcut = _spectral_convolution(width, 1, 1.0, initializers, "block_1_shortcut")(shortcut)
    x = _spectral_convolution(width, 3, math.sqrt(2), initializers, "block_1_convolution_1")(x)
    x = keras.layers.Activation("relu")(x)
    x = _spectral_convolution(width, 3, math.sqrt(2), initializers, "block_1_convolution_2")(x)
    return keras.layers.Add(name="block_1")([_halved(x), shortcut])


def _down_block(x, width, number, halves, initializers):
    shortcut = x
    for part in (1, 2):
        x = keras.layers.Activation("relu")(x)
        x = _spectral_convolution(width, 3, math.sqrt(2), initializers, f"block_{number}_convolution_{part}")(x)
    if halves:
        # A 1x1 convolution and the mean of pixels may change places, as in the first block.
        x, shortcut = _halved(x), _halved(shortcut)
        shortcut = _spectral_convolution(width, 1, 1.0, initializers, f"block_{number}_shortcut")(shortcut)
    return keras.layers.Add(name=f"block_{number}")([x, shortcut])
