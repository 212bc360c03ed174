"""Products of a map with vectors made from its mean: factors that cost nothing for each position."""

import math

import keras
from keras import ops

from pinets_tf.layers import masks
from pinets_tf.layers.copying import copy_layer
from pinets_tf.layers.parts import build_part
from pinets_tf.layers.polynomial.interpreter import on_tensors
from pinets_tf.layers.polynomial.thin_factor_layer import ThinFactorLayer


@keras.saving.register_keras_serializable(package="pinets_tf")
class PooledProduct(ThinFactorLayer):
    """The recursion of CCP (Eq. 3) with factors that are one vector for all positions (the thin layers of Sec. 5.1).

        p   = mean of z over its positions
        x_1 = z
        x_n = normalize(gate_n * P_n(p) * x_{n-1}) + x_{n-1},    n = 2, ..., N

    `*` is the elementwise product, the vector P_n(p) being the same at every position. Where a 1x1 convolution on a
    product takes channels^2 multiplications for each position, P_n takes its for each image. With P_n linear the output
    is a polynomial of order N; with a polynomial P_n of degree d, of degree d (N - 1) + 1.

    Products of float16 overflow at 65504. Under `mixed_float16` each product is formed, normalised and added to x_{n-1}
    in float32, then rounded; `normalize="tanh"` bounds it.

    Args:
        factor: P_n, a Keras layer that is copied for every n, from `(batch, channels)` to the same shape, such as
            `Dense(64)` or `CCP(64, order=2, rank=160)`.
        order: N; 1 returns z.
        normalize: `None`, `"batch"`, `"layer"`, `"instance"`, `"tanh"`, or a Keras layer that is copied for each order.
            With `None` and `"batch"` the layer is a polynomial at inference if P_n is one, with the others it is not.
        normalize_at: `"product"` normalises each product, `"order"` each x_n, `"last"` the last product alone.
        gate: whether each P_n is multiplied with a learned scalar that starts at zero, so that training starts at the
            identity (with `"tanh"`, or without normalisation).
        data_format: `"channels_last"` or `"channels_first"`; by default that of the Keras configuration.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, ..., channels)`, or `(batch, channels, ...)` with `data_format="channels_first"`, with at least one
        axis of positions; the number of channels must be known.

    Output shape:
        That of the input.

    Raises:
        ValueError: if `order` is not a positive integer, if `factor` is not a Keras layer, cannot take vectors or
            changes the number of channels, or if the input has no axis of positions, or an empty one.

    Example:

    >>> import keras, numpy as np
    >>> from pinets_tf.layers import CCP, PooledProduct
    >>> gate = PooledProduct(CCP(units=8, order=2, rank=20), normalize="tanh", gate=True)
    >>> gate(np.ones((2, 6, 6, 8), "float32")).shape[1:]
    TensorShape([6, 6, 8])

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Eq. 3 and Sec. 5.1, where the factors
    A_n of the generator are thin fully-connected layers. To make them from the mean of the map itself is ours; with a
    sigmoid in the place of x_{n-1} + tanh it is the squeeze-and-excitation of Hu et al., CVPR 2018.
    """

    acts_as = "polynomial"
    GATES_THE_STATE = True
    BY_ORDER = ("factors",)

    def __init__(self, factor, order=2, **kwargs):
        super().__init__(factor, order, **kwargs)
        if not isinstance(factor, keras.layers.Layer):
            raise ValueError(
                f"`factor` must be a Keras layer. Received: factor={factor!r} of type {type(factor).__name__}. "
                "Pass an unbuilt layer such as Dense(64); it is copied for every order."
            )
        self.factors = [copy_layer(factor, f"P_{n}", self.dtype_policy) for n in range(2, self.order + 1)]
        self._say_whether_masks_are_supported()

    def build(self, input_shape):
        if len(input_shape) < 3 or 0 in input_shape[1:]:
            raise ValueError(
                "The factors are made from the mean over positions, so the input needs an axis of them, and none is "
                "empty. "
                f"Received: an input of shape {tuple(input_shape)}. Pass a map such as (batch, height, width, "
                "channels), or use CCP for vectors."
            )
        self._rank = len(input_shape)
        pooled = (input_shape[0], input_shape[self.channel_axis])
        for factor in self.factors:
            returned = build_part("factor", factor, pooled)
            if returned[-1] != pooled[-1] or len(returned) != 2:
                raise ValueError(
                    "A factor has one number for each channel of the input. "
                    f"Received: factor {self.factor!r}, which turns {pooled} into {returned}. "
                    f"Pass one that returns {pooled[-1]} features."
                )
        self._build_steps(tuple(input_shape))

    def recursion(self, on, z):
        if self.order == 1:
            return z
        x, pooled = z, on.pooled(self._mean, z)
        for step, P_n in zip(self.steps, self.factors):
            factor = step.gated(on, on.apply(P_n, pooled))
            factor = on.affine(lambda factor: ops.expand_dims(factor, self._positions), factor, multiplies=False)
            x = on.step(step, factor, x, carry=x)
        return x

    def call(self, z, training=None, mask=None):
        # The factors are applied to what has no positions.
        return self.recursion(on_tensors(self, None, mask), z)

    def _mean(self, z, mask):
        if mask is not None:
            wide = keras.backend.result_type(z.dtype, "float32")
            there = ops.expand_dims(ops.cast(masks.of_positions(mask, z), "bool"), -1)
            there = ops.broadcast_to(there, ops.shape(z))
            sums = ops.sum(ops.where(there, ops.cast(z, wide), 0), axis=self._positions)
            return ops.cast(sums / ops.maximum(ops.sum(ops.cast(there, wide), axis=self._positions), 1), z.dtype)
        if self.compute_dtype != "float64":
            return ops.mean(z, axis=self._positions)
        # Keras 3.15 takes the mean of float64 in float32 on JAX.
        shape = ops.shape(z)
        return ops.sum(z, axis=self._positions) / ops.cast(
            math.prod(shape[axis] for axis in self._positions), "float64"
        )

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def _obstacles(self):
        yield from super()._obstacles()
        yield (
            isinstance(self.normalize, keras.layers.Layer),
            f"where {self.normalize!r} makes something of its own of products that are zero",
            "Train one with normalize='tanh'.",
        )
