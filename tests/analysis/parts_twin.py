"""The homogeneous parts of `networks_of_today`, in plain NumPy and by a formula written by hand for each network.

Nothing of `pinets_tf.analysis` is used. A polynomial is the list of its parts f_0, f_1, ..., each (batch, ...) and
f_n of degree n in the images. An affine map acts on each part and adds its constant to f_0; part n of a product is the
sum of the products of parts i and n - i.

Every function takes a model in float64, for the weights by the names of its layers, and images; it returns the parts of
the outputs.
"""

import itertools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def star_net(model, images):
    """Two stages of a block."""
    w = _Weights(model, epsilon=1e-5)
    x = w.normalized(w.convolved(_start(images), "stem", strides=2), "stem_norm")
    for stage in range(2):
        x = w.normalized(w.convolved(x, f"down_{stage}", strides=2), f"down_{stage}_norm")
        block = f"stage_{stage}_block_0"
        u = w.normalized(w.depthwise(x, f"{block}_before"), f"{block}_before_norm")
        u = _product(w.convolved(u, f"{block}_f1"), w.convolved(u, f"{block}_f2"))
        u = w.normalized(w.convolved(u, f"{block}_g"), f"{block}_g_norm")
        x = _sum(x, w.depthwise(u, f"{block}_after"))
    x = _each(w.normalized(x, "norm"), lambda x: x.mean((1, 2)))
    return w.dense(x, "head")


def mo_net(model, images):
    """Two stages of a block, which is two products."""
    w = _Weights(model, epsilon=1e-6)

    def multilinear(x, path, move):
        a = w.normalized(_each(w.dense(x, f"{path}_U_1"), move), f"{path}_norm_a")
        b = w.dense(_each(w.dense(x, f"{path}_U_2"), move), f"{path}_U_3")
        product = _product(a, w.normalized(b, f"{path}_norm_b"))
        alpha = w[f"{path}_alpha"][0].item()
        return w.dense(_sum(a, _each(product, lambda x: alpha * x)), f"{path}_C")

    x = w.convolved(w.convolved(_start(images), "stem_0", strides=2), "stem_1", strides=2)
    for stage in range(2):
        x = w.convolved(x, "down_1", strides=2) if stage else x
        block = f"stage_{stage}_block_0"
        x = _sum(x, multilinear(w.normalized(x, f"{block}_norm"), f"{block}_mu_1", _shifted))
        x = _sum(x, multilinear(w.normalized(x, f"{block}_norm"), f"{block}_mu_2", lambda x: x))
    return w.dense(_each(x, lambda x: x.mean((1, 2))), "head")


def naf_net(model, images):
    """One block, of degree 8, on the way down, and a way up without one."""
    w = _Weights(model, epsilon=1e-6)

    def gated(x):
        half = x[0].shape[-1] // 2
        return _product(_each(x, lambda x: x[..., :half]), _each(x, lambda x: x[..., half:]))

    x = w.convolved(_start(images), "intro")
    block = "encoder_0_block_0"
    u = w.convolved(w.normalized(x, f"{block}_norm_1"), f"{block}_conv_1")
    u = gated(w.depthwise(u, f"{block}_conv_2"))
    attention = w.dense(_each(u, lambda x: x.mean((1, 2))), f"{block}_attention")
    u = _product(u, _each(attention, lambda x: x[:, None, None]))
    x = _sum(x, w.depthwise(w.convolved(u, f"{block}_conv_3"), f"{block}_beta"))
    u = gated(w.convolved(w.normalized(x, f"{block}_norm_2"), f"{block}_conv_4"))
    x = _sum(x, w.depthwise(w.convolved(u, f"{block}_conv_5"), f"{block}_gamma"))
    deep = w.convolved(w.convolved(x, "down_0", strides=2), "up_0")
    x = _sum(_each(deep, _pixel_shuffled), x)
    return _sum(w.convolved(x, "ending"), _start(images))


def bilinear_mlp(model, pixels):
    """Two blocks."""
    w = _Weights(model, epsilon=1e-3)
    x = w.dense(_start(pixels), "embed")
    for block in range(2):
        x = w.normalized(x, f"norm_{block}")
        left, right = np.split(w[f"block_{block}"][0], 2, axis=-1)
        x = _product(_each(x, lambda x, left=left: x @ left), _each(x, lambda x, right=right: x @ right))
    return w.dense(x, "head")


def poly_kerv_net(model, images):
    """A square, a cube and a fourth power."""
    w = _Weights(model, epsilon=1e-6)
    x = w.convolved(_start(images), "conv_2")
    x = [x[0] + 0.5, *x[1:]]
    x = _product(x, x)
    x = w.convolved(w.normalized(x, "norm_3"), "conv_3", strides=2)
    x = _product(_product(x, x), x)
    x = w.convolved(w.normalized(x, "norm_4"), "conv_4")
    x = _product(x, _product(x, _product(x, x)))
    return w.dense(_each(x, lambda x: x.mean((1, 2))), "head")


def _start(images):
    return [np.zeros_like(images), images]


def _each(parts, function):
    """The parts of a linear function."""
    return [function(part) for part in parts]


def _sum(f, g):
    return [a + b for a, b in itertools.zip_longest(f, g, fillvalue=0)]


def _product(f, g):
    parts = [0] * (len(f) + len(g) - 1)
    for (i, a), (j, b) in itertools.product(enumerate(f), enumerate(g)):
        parts[i + j] = parts[i + j] + a * b
    return parts


class _Weights:
    """The weights of a model by the names of its layers, and the affine maps with them."""

    def __init__(self, model, epsilon):
        self._model = model
        self._epsilon = epsilon

    def __getitem__(self, name):
        return self._model.get_layer(name).get_weights()

    def dense(self, parts, name):
        kernel, *bias = self[name]
        return _with_bias(_each(parts, lambda x: x @ kernel), bias)

    def convolved(self, parts, name, strides=1):
        kernel, *bias = self[name]
        equation = "bhwcij,ijco->bhwo"
        return _with_bias(_each(parts, lambda x: np.einsum(equation, _windows(x, len(kernel), strides), kernel)), bias)

    def depthwise(self, parts, name):
        kernel, *bias = self[name]
        equation = "bhwcij,ijc->bhwc"
        return _with_bias(_each(parts, lambda x: np.einsum(equation, _windows(x, len(kernel)), kernel[..., 0])), bias)

    def normalized(self, parts, name):
        gamma, beta, mean, variance = self[name]
        scale = gamma / np.sqrt(variance + self._epsilon)
        return _with_bias(_each(parts, lambda x: x * scale), [beta - mean * scale])


def _with_bias(parts, bias):
    return [parts[0] + sum(bias), *parts[1:]]


def _windows(x, size, strides=1):
    """The surroundings of each pixel, (batch, height, width, channels, size, size); those of an odd size around it."""
    around = size // 2 if size % 2 else 0
    x = np.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
    return sliding_window_view(x, (size, size), axis=(1, 2))[:, ::strides, ::strides]


def _shifted(x):
    """Each quarter of the channels from the neighbour above, below, left and right, at the border from itself."""
    _, height, width, channels = x.shape
    rows, columns = np.arange(height), np.arange(width)
    moved = [
        x[:, np.maximum(rows - 1, 0)],
        x[:, np.minimum(rows + 1, height - 1)],
        x[:, :, np.maximum(columns - 1, 0)],
        x[:, :, np.minimum(columns + 1, width - 1)],
    ]
    quarter = np.arange(channels) // (channels // 4)
    return np.choose(quarter, moved)


def _pixel_shuffled(x):
    batch, height, width, channels = x.shape
    y = np.empty((batch, 2 * height, 2 * width, channels // 4))
    for i, j in itertools.product(range(2), range(2)):
        y[:, i::2, j::2] = x[..., 2 * i + j :: 4]
    return y
