"""The networks of StyleGAN, with its mapping network as a polynomial (Sec. 5.1)."""

import math

import keras

from pinets_tf.layers import EqualizedLearningRate, Injection
from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.copying import copy_weights
from pinets_tf.layers.generation.fade import Fade
from pinets_tf.layers.generation.learned_constant import LearnedConstant
from pinets_tf.layers.generation.minibatch_deviation import MinibatchDeviation
from pinets_tf.layers.generation.noise_injection import NoiseInjection
from pinets_tf.layers.generation.style_mixing import StyleMixing

_SMALLEST = 4
_LARGEST = 1024


def stylegan_mapping(
    latent=512,
    width=512,
    layers=8,
    *,
    polynomial=False,
    normalize="batch",
    factor_gain=0.3,
    learning_rate_multiplier=0.01,
    name="mapping",
):
    """Returns the mapping network of StyleGAN, plain or as an NCP (Sec. 5.1).

        z' = z / sqrt(mean(z^2))                            (pixel norm)
        x_n = LeakyReLU(S_n^T x_{n-1} + b_n),  x_0 = z'     (polynomial=False)

        x_1 = A_1^T z' + b_1                                (polynomial=True)
        x_n = normalize((A_n^T z' + 1) * (S_n^T x_{n-1} + b_n))

    All maps have the equalised learning rate of StyleGAN, which the b_n of the NCP share: so its steps are `Injection`
    layers, of which the b_n are biases of S_n. w is x_N. As many steps as layers make a polynomial of degree `layers`
    in z', not in z, since the pixel norm is none. The paper gives neither the order nor the normalisation: 8 for the 8
    layers, and batch normalisation of every product, are our choices.

    Args:
        latent: the size of z, drawn from N(0, 1).
        width: the size of every x_n and of w.
        layers: how many layers, or the order of the polynomial.
        polynomial: whether the network is an NCP.
        normalize: what normalises the products, as in `Injection`. With `None` and `"batch"` the NCP is a polynomial of
            z' at inference. Without any, x_n starts with a variance close to one, but nothing holds it there.
        factor_gain: deviation of A_n^T z' at the start. The constant beside it, the bias of A_n, starts at one, so that
            training starts close to a linear map; products of factors around zero are nearly zero for most z.
        learning_rate_multiplier: 0.01 in StyleGAN.
        name: name of the model.

    Returns:
        A functional `keras.Model` from z `(batch, latent)` to w `(batch, width)`.

    Raises:
        ValueError: if a size or `layers` is not a positive integer.

    Example:

    >>> from pinets_tf.models import stylegan_mapping
    >>> stylegan_mapping().count_params()
    2101248

    Source: Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019; Chrysos et al., "Π-nets: Deep
    Polynomial Neural Networks", CVPR 2020, Sec. 5.1.
    """
    for argument, value in (("latent", latent), ("width", width), ("layers", layers)):
        positive_integer(argument, value, f"Pass a number of them, such as {argument}=8.")
    z = keras.Input((latent,), name="latents")
    normalized = keras.layers.UnitNormalization(name="unit")(z)
    normalized = keras.layers.Rescaling(math.sqrt(latent), name="pixel_norm")(normalized)

    def linear(name, gain, first_bias=0.0, **options):
        bias = keras.initializers.Constant(first_bias / learning_rate_multiplier)
        dense = keras.layers.Dense(width, bias_initializer=bias, name="dense", **options)
        return EqualizedLearningRate(dense, gain, learning_rate_multiplier, name=name)

    x = normalized
    for n in range(1, layers + 1):
        if not polynomial:
            x = linear(f"S_{n}", math.sqrt(2))(x)
            x = keras.layers.LeakyReLU(0.2, name=f"activation_{n}")(x)
        elif n == 1:
            x = linear("A_1", 1.0)(x)
        else:
            x = linear(f"S_{n}", 1.0)(x)
            thin = linear("A", factor_gain, first_bias=1.0)
            x = Injection(thin, normalize=normalize, data_format="channels_last", name=f"product_{n}")([x, normalized])
    return keras.Model(z, x, name=name)


def stylegan_synthesis(
    size=256,
    channels=3,
    *,
    latent=512,
    base_channels=8192,
    max_channels=512,
    noise=True,
    noise_seed=0,
    fade=False,
    name="synthesis",
):
    """Returns the synthesis network of StyleGAN, from the styles of its layers to an image.

        h_0 = a learned map of 4 x 4
        h_k = (1 + A_k^T w_k) * n(c_k(h_{k-1})) + B_k^T w_k

    with n an instance normalisation and c_k a 3x3 convolution (the identity for k = 1), noise and LeakyReLU. This is
    AdaIN, and as the paper says a step of an NCP, here an `Injection`, but for n and LeakyReLU. Every second
    convolution from 8 x 8 on has twice the pixels of the one before: they are repeated, convolved and blurred with
    [1, 2, 1].

    Args:
        size: height and width of the images: 4 times a power of two, at most 1024.
        channels: of the images.
        latent: the size of w.
        base_channels: maps of r x r positions have `2 * base_channels / r` channels, ...
        max_channels: ... but at most this many.
        noise: whether noise of a learned strength follows each convolution. It is drawn in training.
        noise_seed: an integer from which the noise at inference is drawn, the same for all images, or `None` for none.
        fade: whether the network is grown: its images are between those of the next smaller size, doubled, and its own,
            as far as `model.get_layer("fade").alpha` says, which starts at zero. See `carry_weights`.
        name: name of the model.

    Returns:
        A functional `keras.Model` from styles `(batch, layers, latent)` to images `(batch, size, size, channels)`, in
        float32 under every policy of lower precision; there are two layers for each size from 4 on. Nothing bounds the
        images, which are trained to be in [-1, 1]. Channels are last whatever the Keras configuration says.

    Raises:
        ValueError: if a size is not a positive integer, or `size` not 4, 8, 16, ..., or 4 with `fade`.

    Example:

    >>> from pinets_tf.models import stylegan_synthesis
    >>> model = stylegan_synthesis(32, base_channels=64, latent=16)
    >>> model.input_shape, model.output_shape
    ((None, 8, 16), (None, 32, 32, 3))

    Source: Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019; Chrysos et al., "Π-nets: Deep
    Polynomial Neural Networks", CVPR 2020, Sec. 5.1.
    """
    sizes = _sizes(size, fade)
    positive_integer("channels", channels, "Pass 3 for colours, 1 for grey images.")
    width = _widths(base_channels, max_channels)
    styles = keras.Input((2 * len(sizes), positive_integer("latent", latent, "Pass the size of w.")), name="styles")

    def styled(x, k):
        if noise:
            x = NoiseInjection(noise_seed, name=f"noise_{k}")(x)
        x = keras.layers.LeakyReLU(0.2, name=f"activation_{k}")(x)
        return _adain(x, styles[:, k - 1], name=f"adain_{k}")

    def to_rgb(x, pixels):
        return _convolution(channels, 1, gain=1.0, name=f"rgb_{pixels}")(x)

    x, previous = LearnedConstant((_SMALLEST, _SMALLEST, width(_SMALLEST)), name="constant")(styles), None
    x = styled(x, 1)
    for number, pixels in enumerate(sizes, start=1):
        if pixels > _SMALLEST:
            previous = x
            x = keras.layers.UpSampling2D(data_format="channels_last", name=f"up_{pixels}")(x)
            x = _convolution(width(pixels), 3, name=f"convolution_{2 * number - 1}")(x)
            x = styled(_blurred(x), 2 * number - 1)
        x = styled(_convolution(width(pixels), 3, name=f"convolution_{2 * number}")(x), 2 * number)
    images = to_rgb(x, size)
    if fade:
        smaller = keras.layers.UpSampling2D(data_format="channels_last", name="up_smaller")(to_rgb(previous, size // 2))
        images = Fade(name="fade")([smaller, images])
    return keras.Model(styles, keras.layers.Activation("linear", dtype=_exact(), name="images")(images), name=name)


def stylegan_discriminator(
    size=256,
    channels=3,
    *,
    base_channels=8192,
    max_channels=512,
    group=4,
    fade=False,
    name="discriminator",
):
    """Returns the discriminator of StyleGAN, which is that of progressive GANs with a blur.

    At every size from `size` down to 8 there are a 3x3 convolution, a blur with [1, 2, 1], and a 3x3 convolution whose
    result is averaged over 2 x 2 pixels; at 4 x 4 the deviation within groups of images, a 3x3 convolution and two
    dense layers. LeakyReLU follows every map but the last.

    Args:
        size: height and width of the images: 4 times a power of two, at most 1024.
        channels: of the images.
        base_channels: maps of r x r positions have `2 * base_channels / r` channels, ...
        max_channels: ... but at most this many.
        group: how many images are compared for the deviation.
        fade: whether the network is grown: the map behind its first size is between that of the images averaged over 2
            x 2 pixels and its own, as far as `model.get_layer("fade").alpha` says, which starts at zero. See
            `carry_weights`.
        name: name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, size, size, channels)` to scores `(batch, 1)`, in float32 under
        every policy of lower precision. Scores depend on the batch: give real and generated images one by one.
        Channels are last whatever the Keras configuration says.

    Raises:
        ValueError: if a size or `group` is not a positive integer, or `size` not 4, 8, 16, ..., or 4 with `fade`.

    Example:

    >>> from pinets_tf.models import stylegan_discriminator
    >>> stylegan_discriminator(32, base_channels=64).output_shape
    (None, 1)

    Source: Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019; "Progressive Growing of GANs",
    ICLR 2018.
    """
    sizes = _sizes(size, fade)
    positive_integer("channels", channels, "Pass 3 for colours, 1 for grey images.")
    width = _widths(base_channels, max_channels)

    def activated(x, name):
        return keras.layers.LeakyReLU(0.2, name=name)(x)

    def from_rgb(images, pixels):
        x = _convolution(width(pixels), 1, name=f"rgb_{pixels}")(images)
        return activated(x, f"activation_rgb_{pixels}")

    images = keras.Input((size, size, channels), name="images")
    x = from_rgb(images, size)
    for pixels in reversed(sizes[1:]):
        x = activated(_convolution(width(pixels), 3, name=f"convolution_{pixels}")(x), f"activation_{pixels}")
        x = _convolution(width(pixels // 2), 3, name=f"convolution_{pixels}_down")(_blurred(x))
        x = keras.layers.AveragePooling2D(2, data_format="channels_last", name=f"down_{pixels}")(x)
        x = activated(x, f"activation_{pixels}_down")
        if fade and pixels == size:
            smaller = keras.layers.AveragePooling2D(2, data_format="channels_last", name="smaller_images")(images)
            x = Fade(name="fade")([from_rgb(smaller, size // 2), x])
    x = MinibatchDeviation(group, name="deviation")(x)
    x = activated(_convolution(width(_SMALLEST), 3, name="convolution_4")(x), "activation_4")
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    dense = keras.layers.Dense(width(_SMALLEST // 2), name="dense")
    x = activated(EqualizedLearningRate(dense, name="dense")(x), "activation_dense")
    scores = EqualizedLearningRate(keras.layers.Dense(1, name="dense"), gain=1.0, dtype=_exact(), name="scores")(x)
    return keras.Model(images, scores, name=name)


def stylegan_generator(
    mapping,
    synthesis,
    *,
    mixing=0.9,
    average_decay=0.995,
    truncation=1.0,
    truncated_layers=None,
    name="generator",
):
    """Returns the generator of StyleGAN: a mapping network, the styles it makes, and a synthesis network.

    Args:
        mapping: a model from z `(batch, d)` to w `(batch, latent)`, such as `stylegan_mapping()`; used as it is.
        synthesis: a model from styles `(batch, layers, latent)` to images, such as `stylegan_synthesis()`; used as it
            is.
        mixing: the probability with which an image takes in training its styles from a random layer on from its
            neighbour in the batch.
        average_decay: that of the average of w, which is kept for the truncation.
        truncation: at inference w becomes average + truncation * (w - average); 1 leaves it as it is.
        truncated_layers: in how many layers, from the coarsest on; `None` for all. StyleGAN has 8.
        name: name of the model.

    Returns:
        A functional `keras.Model` from z to images. It has the layers `mapping`, `styles` (`StyleMixing`) and
        `synthesis`, if the models that are given have their default names.

    Raises:
        ValueError: if w does not fit the synthesis network, or if a number is not between 0 and 1.

    Example:

    >>> from pinets_tf.models import stylegan_generator, stylegan_mapping, stylegan_synthesis
    >>> mapping = stylegan_mapping(16, 16, polynomial=True)
    >>> stylegan_generator(mapping, stylegan_synthesis(8, base_channels=64, latent=16)).output_shape
    (None, 8, 8, 3)

    Source: Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019.
    """
    _, layers, latent = synthesis.input_shape
    if mapping.output_shape[-1] != latent:
        raise ValueError(
            "The mapping network returns w of the size that the synthesis network takes. "
            f"Received: w of size {mapping.output_shape[-1]} for styles of size {latent}. "
            f"Pass stylegan_mapping(width={latent}), or stylegan_synthesis(latent={mapping.output_shape[-1]})."
        )
    styles = StyleMixing(
        layers,
        mixing=mixing,
        decay=average_decay,
        truncation=truncation,
        truncated=truncated_layers,
        name="styles",
    )
    z = keras.Input(mapping.input_shape[1:], name="latents")
    return keras.Model(z, synthesis(styles(mapping(z))), name=name)


def carry_weights(old, new):
    """Gives the layers of a model the weights of the layers of the same name in another, such as a smaller network.

    Args:
        old: the model whose weights are taken.
        new: the model that gets them. Layers that only it has keep theirs, and the state of its fade and of its random
            numbers stays.

    Returns:
        The names of the layers that got weights.

    Raises:
        ValueError: if two layers of one name have weights of different shapes.

    Example:

    >>> from pinets_tf.models import carry_weights, stylegan_synthesis
    >>> small, large = (stylegan_synthesis(size, base_channels=32, latent=8, fade=size > 4) for size in (4, 8))
    >>> carry_weights(small, large)
    ['constant', 'noise_1', 'adain_1', 'convolution_2', 'noise_2', 'adain_2', 'rgb_4']

    Source: ours; that of progressive growing is Karras et al., ICLR 2018.
    """
    carried = []
    named = {layer.name: layer for layer in old.layers}
    for layer in new.layers:
        source = named.get(layer.name)
        if source is None or isinstance(layer, Fade) or not layer.weights:
            continue
        if isinstance(layer, keras.Model):
            carried += [f"{layer.name}/{name}" for name in carry_weights(source, layer)]
            continue
        try:
            copy_weights(layer, source)
        except ValueError as error:
            before, after = ([tuple(weight.shape) for weight in part.weights] for part in (source, layer))
            raise ValueError(
                "Weights are carried over between layers of one name and shape. "
                f"Received: {layer.name} with weights of shapes {before} and {after} ({error}). "
                "Rename one of them."
            ) from error
        carried.append(layer.name)
    return carried


def _sizes(size, fade):
    """Returns 4, 8, ..., size."""
    sizes = [_SMALLEST * 2**step for step in range(int(math.log2(_LARGEST // _SMALLEST)) + 1)]
    if size not in sizes:
        raise ValueError(
            f"`size` must be 4 times a power of two, at most {_LARGEST}. Received: size={size!r}. Pass 32 or 64."
        )
    if fade and size == _SMALLEST:
        raise ValueError("A network fades in from one of half its size. Received: fade=True with size=4. Pass size=8.")
    return sizes[: sizes.index(size) + 1]


def _widths(base_channels, max_channels):
    """Returns the function from the positions along a side of a map to its channels."""
    for argument, value in (("base_channels", base_channels), ("max_channels", max_channels)):
        positive_integer(argument, value, f"Pass a number of channels, such as {argument}=512.")
    return lambda pixels: max(1, min(2 * base_channels // pixels, max_channels))


def _exact():
    """The type of images and scores, which are not rounded to half precision."""
    return keras.backend.result_type(keras.config.dtype_policy().variable_dtype, "float32")


def _convolution(filters, size, *, gain=2**0.5, name):
    convolution = keras.layers.Conv2D(filters, size, padding="same", data_format="channels_last", name="convolution")
    return EqualizedLearningRate(convolution, gain, name=name)


def _blurred(x):
    """Blurs with [1, 2, 1] / 4 along both axes: the mean of neighbours, twice."""
    x = keras.layers.ZeroPadding2D(1, data_format="channels_last")(x)
    for _ in range(2):
        x = keras.layers.AveragePooling2D(2, strides=1, data_format="channels_last")(x)
    return x


def _adain(x, w, name):
    n = keras.layers.GroupNormalization(-1, axis=-1, epsilon=1e-8, center=False, scale=False, name=f"{name}_normalize")
    thin = EqualizedLearningRate(keras.layers.Dense(x.shape[-1], name="dense"), gain=1.0)
    return Injection(thin, skip=True, offset=True, data_format="channels_last", name=name)([n(x), w])
