"""The product of a map with a vector made from a latent: the step by which generators take in their noise again."""

from typing import Any

import keras
from keras import ops

from pinets_tf.layers.checks import same_shape
from pinets_tf.layers.copying import copy_initializer, copy_layer
from pinets_tf.layers.parts import build_part
from pinets_tf.layers.polynomial.interpreter import on_tensors
from pinets_tf.layers.polynomial.thin_factor_layer import ThinFactorLayer


@keras.saving.register_keras_serializable(package="pinets_tf")
class Injection(ThinFactorLayer):
    """One step of an NCP whose state is a map and whose factor is one vector for all positions (Sec. 5.1).

        y = normalize((A^T z) * x) [+ x] [+ B^T z]

    `*` is the elementwise product; A^T z has one number for each channel of x and is the same at every position. With
    x = S_n^T x_{n-1} + b_n, such as a convolution with bias or a whole residual block, this is Eq. 4 with a thin
    fully-connected A_n; `skip` adds x, `offset` adds a second linear map of z. AdaIN, (1 + A^T w) * n(x) + B^T w, is
    `Injection(skip=True, offset=True)` behind an instance normalisation n. Where z is a map as well, A is an operator
    from maps to maps: `Injection(Conv2D(64, 3, padding="same"))([x, x])` is the product of x with a convolution of it.

    Products of float16 overflow at 65504. Under `mixed_float16` the product is formed, normalised and added to in
    float32, then rounded.

    Args:
        factor: a Keras layer that is copied for A and B, from `(batch, d)` to `(batch, channels)`, or from what z is
            to the shape of x; by default `Dense(channels)`.
        skip: whether x is added to the product.
        offset: whether B^T z is added to the product.
        normalize: what normalises the product: `None`, `"batch"`, `"layer"`, `"instance"`, `"tanh"`, or a Keras layer
            to copy. With `None` and `"batch"` the layer is bilinear at inference, with the others it is not.
        normalize_at: `"product"`, or `"order"` for the product and x together.
        gate: whether the product is multiplied with a learned scalar that starts at zero.
        kernel_initializer: initializer of the default A and B; Glorot's uniform one by default.
        bias_initializer: initializer of the bias of the default A; `"ones"` starts with y = x where A starts small. The
            bias of B starts at zero.
        data_format: `"channels_last"` or `"channels_first"`; by default that of the Keras configuration.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        A list of the map `(batch, ..., channels)`, or `(batch, channels, ...)` with `data_format="channels_first"`, and
        of the latent `(batch, d)`, or of a second map where `factor` takes one.

    Output shape:
        That of the map.

    Raises:
        ValueError: if the inputs are not two, or not a map and a vector without a `factor`, or if `factor` is not a
            Keras layer, cannot take the latent, or returns neither one number for each channel nor a map of the shape
            of x.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import Injection
    >>> maps, latents = np.ones((2, 6, 6, 8), "float32"), np.ones((2, 16), "float32")
    >>> Injection()([maps, latents]).shape[1:]
    TensorShape([6, 6, 8])

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 5.1. AdaIN: Huang and Belongie,
    ICCV 2017, as used by Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019.
    """

    acts_as = "polynomial"

    def __init__(
        self,
        factor=None,
        *,
        skip=False,
        offset=False,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(factor, 2, **kwargs)
        if not (factor is None or isinstance(factor, keras.layers.Layer)):
            raise ValueError(
                f"`factor` must be a Keras layer or None. Received: factor={factor!r} of type {type(factor).__name__}. "
                "Pass an unbuilt layer such as Dense(64); it is copied for A and B."
            )
        self.skip = bool(skip)
        self.offset = bool(offset)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self._say_whether_masks_are_supported(factor)
        self.A: Any = None
        self.B: Any = None

    def build(self, input_shape):
        x, z = self._two(input_shape)
        if self.factor is None and (len(x) < 2 or len(z) != 2):
            raise ValueError(
                "An injection multiplies a map (batch, ..., channels) with a map of a vector (batch, d). "
                f"Received: inputs of shapes {tuple(x)} and {tuple(z)}. Pass [map, latent]."
            )
        self._rank = len(x)
        self.A = self._thin_map("A", x, z, self.bias_initializer)
        self.B = self._thin_map("B", x, z, "zeros") if self.offset else None
        self._build_steps(tuple(x))

    def _two(self, values):
        # A shape is a tuple too, of two numbers for a vector.
        if not (isinstance(values, (list, tuple)) and len(values) == 2) or isinstance(values[-1], int):
            raise ValueError(
                "An injection takes a map and a latent vector. "
                f"Received: {values!r}. Call it with a list of two: layer([map, latent])."
            )
        return values

    def _thin_map(self, name, x, z, bias_initializer):
        channels = x[self.channel_axis]
        if self.factor is None:
            thin = keras.layers.Dense(
                channels,
                kernel_initializer=copy_initializer(self.kernel_initializer, name),
                bias_initializer=copy_initializer(bias_initializer, name),
                dtype=self.dtype_policy,
                name=name,
            )
        else:
            thin = copy_layer(self.factor, name, self.dtype_policy)
        self._restore_policies([thin])
        returned = build_part("factor", thin, z)
        if returned[1:] != (channels,) and not same_shape(returned, tuple(x)):
            raise ValueError(
                "A factor has one number for each channel of the map, or the shape of the map. "
                f"Received: factor {self.factor!r}, which turns {tuple(z)} into {returned} for a map of shape "
                f"{tuple(x)}. Pass one that returns {channels} features."
            )
        return thin

    def recursion(self, on, x, z):
        factor, offset = self._thin(on, self.A, z), self._thin(on, self.B, z) if self.offset else None
        return on.step(self.steps[0], factor, x, carry=x if self.skip else None, skip=offset)

    def _thin(self, on, linear_map, z):
        # Before the layer is built there is what is copied for its maps, which by default are Dense.
        linear_map = linear_map if self.built else self.factor
        value = on.affine(None, z) if linear_map is None else on.apply(linear_map, z)
        return on.affine(self._at_every_position, value, multiplies=False)

    def call(self, inputs, training=None, mask=None):
        x, z = self._two(inputs)
        mask, mask_of_z = mask if isinstance(mask, (list, tuple)) else (mask, None)
        return self.recursion(on_tensors(self, mask_of_z, mask), x, z)

    def _at_every_position(self, factor):
        return factor if len(factor.shape) == self._rank else ops.expand_dims(factor, self._positions)

    def compute_mask(self, inputs, previous_mask):
        return previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask

    def compute_output_shape(self, input_shape):
        return tuple(self._two(input_shape)[0])

    def grown_config(self, order):
        # There is no other order.
        return None

    def get_config(self):
        config = {key: value for key, value in super().get_config().items() if key != "order"}
        return {
            **config,
            "skip": self.skip,
            "offset": self.offset,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
