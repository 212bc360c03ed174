"""The residual block as a polynomial of higher order (Sec. 4.2 and 5.2)."""

import keras

from pinets_tf.layers.checks import same_shape
from pinets_tf.layers.copying import hand_down_policy, restore_with_policy
from pinets_tf.layers.parts import build_part, channel_axis, returned_shape
from pinets_tf.layers.polynomial.horner import HornerLayer


@keras.saving.register_keras_serializable(package="pinets_tf")
class PolynomialResidual(HornerLayer):
    """A residual block raised to order N: z + Cz + (Cz)*z + (Cz)*z*z + ... (Sec. 4.2).

        s   = shortcut(z)
        x_1 = Cz
        x_n = gate_n * normalize((A s) * x_{n-1}) + Cz,    n = 2, ..., N
        y   = s + x_N

    `*` is the elementwise product, C the residual branch and A the identity unless `factor` is given. Order 1 is the
    plain residual block z + Cz. Without A, normalisation and gates the recursion is Horner's form of the paper's sum,
    s + Cz + (Cz)*s + ... + (Cz)*s^(N-1).

    Products of float16 overflow at 65504. Under `mixed_float16` each product is formed, normalised and added to Cz in
    float32, then rounded; the paper bounds the second order with tanh for this reason (Sec. 5.2).

    Args:
        branch: C, a Keras layer or model, used as it is. Linear convolutions and batch normalisations keep the block a
            polynomial of degree N; a branch with activations makes it the block of Sec. 5.2.
        order: N.
        shortcut: `None` for the identity, or a Keras layer where the branch changes the shape, such as
            `Conv2D(filters, 1, strides=2)`; used as it is. The products are taken with what it returns.
        factor: A, `None` for the identity, or a Keras layer that is applied to the shortcut before the products and
            keeps its shape, such as `Conv2D(filters, 1)`; used as it is, once for all orders.
        normalize: `None`, `"batch"`, `"layer"`, `"instance"`, `"tanh"`, or a Keras layer that is copied for each order:
            a `Sequential` of tanh, a 1x1 convolution and a batch normalisation, say. With `None` and `"batch"` the
            block is a polynomial of its input at inference where C is linear, with the other names it is not.
        normalize_at: `"product"` normalises each product, `"order"` each x_n, `"last"` the last product alone.
        gate: whether each product is multiplied with a learned scalar that starts at zero, so that training starts at
            the plain residual block.
        **kwargs: those of `keras.layers.Layer`. A `dtype` given here is handed to every layer inside.

    Input shape:
        What `branch` takes.

    Output shape:
        What `branch` returns.

    Raises:
        ValueError: if `order` is not a positive integer, if `branch`, `shortcut` or `factor` is not a Keras layer or
            cannot take the input, or if what they return does not have the same shape.

    Example:

    >>> import keras, numpy as np
    >>> from pinets_tf.layers import PolynomialResidual
    >>> branch = keras.layers.Conv2D(8, 3, strides=2, padding="same")
    >>> block = PolynomialResidual(branch, order=3, shortcut=keras.layers.Conv2D(8, 1, strides=2), normalize="batch")
    >>> block(np.ones((2, 6, 6, 3), "float32")).shape[1:]
    TensorShape([3, 3, 8])

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 4.2 and 5.2. The paper does not
    say where orders above the second are normalised; here each Horner step is.
    """

    # Arguments whose layers are used, and not copied.
    USED_AS_THEY_ARE = ("branch", "shortcut", "factor")
    BY_ORDER = ()

    def __init__(self, branch, order=2, shortcut=None, *, factor=None, **kwargs):
        super().__init__(order, **kwargs)
        for name, layer in (("branch", branch), ("shortcut", shortcut), ("factor", factor)):
            if not isinstance(layer, keras.layers.Layer) and not (name != "branch" and layer is None):
                raise ValueError(
                    f"`{name}` must be a Keras layer. Received: {name}={layer!r} of type {type(layer).__name__}. "
                    "Pass a layer, a Sequential or a functional model."
                )
        self.branch = branch
        self.channel_axis = channel_axis(branch)
        self.shortcut = shortcut
        self.factor = factor
        self._say_whether_masks_are_supported(branch, shortcut, factor)
        if kwargs.get("dtype") is not None:
            hand_down_policy(self.dtype_policy, [layer for layer in (branch, shortcut, factor) if layer is not None])

    def build(self, input_shape):
        shape = self.compute_output_shape(input_shape)
        for name, shape_of_input in (("branch", input_shape), ("shortcut", input_shape), ("factor", shape)):
            if getattr(self, name) is not None:
                build_part(name, getattr(self, name), shape_of_input)
        self._build_steps(shape)

    def recursion(self, on, z):
        s = z if self.shortcut is None else on.apply(self.shortcut, z)
        x = Cz = on.apply(self.branch, z)
        if self.order == 1:
            return on.add(s, Cz)
        As = s if self.factor is None else on.apply(self.factor, s)
        for step in self.steps:
            x = on.step(step, As, x, carry=Cz, skip=s if step.n == self.order else None)
        return x

    def compute_mask(self, inputs, previous_mask):
        return self.branch.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, input_shape):
        shape = returned_shape("branch", self.branch, input_shape)
        identity = self.shortcut is None
        around = tuple(input_shape) if identity else returned_shape("shortcut", self.shortcut, input_shape)
        if not same_shape(shape, around):
            raise ValueError(
                "The branch and the shortcut of a residual block must return the same shape. "
                f"Received: {shape} from the branch and {around} from the shortcut {self.shortcut!r}, for an input of "
                f"shape {tuple(input_shape)}. Pass a shortcut that changes the shape as the branch does, such as "
                "Conv2D(filters, 1, strides=strides)."
            )
        if self.factor is not None:
            returned = returned_shape("factor", self.factor, around)
            if not same_shape(returned, around):
                raise ValueError(
                    "The factor of a residual block must keep the shape of the shortcut, with which it is multiplied. "
                    f"Received: factor {self.factor!r}, which turns {around} into {returned}. "
                    "Pass one that keeps it, such as Conv2D(filters, 1)."
                )
        return shape

    def get_config(self):
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.USED_AS_THEY_ARE}
        return {**super().get_config(), **parts}

    @classmethod
    def from_config(cls, config):
        return restore_with_policy(super().from_config, config)
