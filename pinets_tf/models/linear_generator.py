"""The generator without activation functions, a product of polynomials (Sec. 4.1)."""

import keras

from pinets_tf.layers import BatchNormalization, Injection, NCPSkip
from pinets_tf.layers.checks import one_of, positive_integer, positive_number
from pinets_tf.layers.copying import copy_initializer

# Channels, kernel size and stride of each transposed convolution: 1 pixel to 32.
STEPS = (
    (128, 4, 2),
    (128, 4, 2),
    (256, 3, 1),
    (256, 4, 2),
    (256, 3, 1),
    (256, 4, 2),
    (256, 4, 2),
    (64, 3, 1),
)
SIZES = (32, 64, 128)


def linear_generator(size=32, channels=1, *, latent=128, order=3, width=1.0, factor_gain=0.1, name=None):
    """Returns the generator of Sec. 4.1: a product of polynomials with one tanh at its end and no other activation.

        z' = A z                                                     (128 features)
        w  = NCP-Skip of order 3 of z', with A_n = I for n >= 2
        x_1 = w,  x_n = (A_n^T w) * (S_n^T x_{n-1} + b_n)            (8 steps at 32 pixels; S_n is a transposed
                                                                     convolution behind a batch normalisation)
        x' = x_N * (S^T x_N + b)
        images = tanh(C x' + beta)

    At inference the input of tanh is a polynomial of z, of degree order * (steps + 1) * 2: 54 for 32 pixels.

    Args:
        size: height and width of the images: 32, 64 or 128. Each doubling adds one step of stride 2.
        channels: of the images.
        latent: d, the size of z. The recipe draws z from U(-1, 1).
        order: order of the first polynomial.
        width: what the channels of all steps are multiplied with; below 1 for reduced runs.
        factor_gain: each A_n^T w starts as 1 plus this times what Glorot's initial values give, so that training starts
            close to the linear map. From factors around zero, the product of so many of them is almost zero for most z
            and huge for a few, and a small discriminator wins before it has become anything else.
        name: name of the model.

    Returns:
        A functional `keras.Model` from latents `(batch, latent)` to images `(batch, size, size, channels)` in [-1, 1],
        in float32 under every precision policy. Channels are last whatever the Keras configuration says.

    Raises:
        ValueError: if a size is not a positive integer, or `size` not one of those above, or `width` not positive.

    Example:

    >>> from pinets_tf.models import linear_generator
    >>> model = linear_generator()
    >>> sum(weight.shape.num_elements() for weight in model.trainable_weights)
    5015425

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 4.1. The text gives no sizes;
    these are those of the authors' public experiment on Fashion-MNIST, whose 5,015,425 parameters it has. Sizes above
    32 are ours.
    """
    one_of("size", size, SIZES)
    for argument, value in (("channels", channels), ("latent", latent), ("order", order)):
        positive_integer(argument, value, f"Pass a number of them, such as {argument}=3.")
    positive_number("width", width, "Pass 1.0, or 0.5 for half as many.")
    widened = [(max(1, round(filters * width)), kernel, strides) for filters, kernel, strides in STEPS]

    def small(name):
        return copy_initializer(keras.initializers.VarianceScaling(factor_gain**2, "fan_avg", "uniform"), name)

    maps = {"padding": "same", "data_format": "channels_last"}
    doublings = SIZES.index(size)
    steps = widened[:-1] + [widened[-2]] * doublings + widened[-1:]
    z = keras.Input((latent,), name="latents")
    w = keras.layers.Dense(latent, name="transform")(z)
    w = NCPSkip(None, order, rank=latent, identity_factors=True, name="polynomial_1")(w)
    x = keras.layers.Reshape((1, 1, latent))(w)
    for n, (filters, kernel, strides) in enumerate(steps, start=2):
        x = BatchNormalization(momentum=0.9, epsilon=1e-5, center=False, name=f"normalize_{n}")(x)
        x = keras.layers.Conv2DTranspose(filters, kernel, strides=strides, name=f"S_{n}", **maps)(x)
        x = Injection(
            kernel_initializer=small(f"A_{n}"),
            bias_initializer="ones",
            data_format="channels_last",
            name=f"polynomial_2_step_{n}",
        )([x, w])
    factor = keras.layers.Conv2D(steps[-1][0], 3, kernel_initializer=small("A"), bias_initializer="ones", **maps)
    x = Injection(factor, data_format="channels_last", name="polynomial_3")([x, x])
    x = keras.layers.Conv2DTranspose(channels, 3, name="C", **maps)(x)
    images = keras.layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model(z, images, name=name)
