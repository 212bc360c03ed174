"""CCP, the coupled CP decomposition of a polynomial (Eq. 3)."""

import keras

from pinets_tf.layers.polynomial.decomposition import Polynomial


@keras.saving.register_keras_serializable(package="pinets_tf")
class CCP(Polynomial):
    """A polynomial of the input whose parameters share one coupled CP decomposition (Eq. 3).

        x_1 = U_1^T z
        x_n = (U_n^T z) * x_{n-1} + x_{n-1},    n = 2, ..., N
        x   = C x_N + beta

    `*` is the elementwise product, d the number of input features, k the rank and o = `units`. In closed form
    x_N = (U_1^T z) * (1 + U_2^T z) * ... * (1 + U_N^T z). With normalisation and gates the product of step n becomes
    gate_n * normalize((U_n^T z) * x_{n-1}).

    Products of float16 overflow at 65504. Under `mixed_float16` each product is formed, normalised and added to x_{n-1}
    in float32, then rounded; without `normalize` an x_n beyond 65504 becomes infinite, which the loss scaling of
    Keras's optimizers notices. Prefer `normalize="batch"` or `mixed_bfloat16` at high orders.

    Args:
        units: o, the number of outputs; `None` leaves out C and beta and returns x_N.
        order: N, the degree of the polynomial; 1 is a linear map.
        rank: k, the number of columns of U_n. Give `rank` or `operator`.
        operator: a Keras layer that is copied for every U_n instead, such as `Conv2D(64, 3, padding="same")`; C then
            acts on its channels. It must be linear for the layer to be a polynomial.
        identity_factors: whether U_n is the identity for n >= 2, so that each product is one with z itself; x_1 then
            must have the shape of z.
        normalize: `None`, `"batch"`, `"layer"`, `"instance"`, `"tanh"`, or a Keras layer that is copied for each order.
            With `None` and `"batch"` the layer is a polynomial at inference, with the others it is not.
        normalize_at: `"product"` normalises each product, `"order"` each x_n, `"last"` the last product alone.
        gate: whether each product is multiplied with a learned scalar that starts at zero.
        use_bias: whether there is a beta.
        kernel_initializer: initializer of U_n (with `rank`) and C; each gets values of its own. By default the variance
            of the output equals that of the input: U_n has 1 / (N - 1) of it for n >= 2.
        bias_initializer: initializer of beta.
        kernel_regularizer, kernel_constraint: of U_n (with `rank`) and C.
        bias_regularizer, bias_constraint: of beta.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, ..., d)` with `rank`, else what `operator` takes.

    Output shape:
        `(batch, ..., units)`; with `operator`, the shape that it returns, with `units` channels.

    Raises:
        ValueError: if `order`, `rank` or `units` is not a positive integer, if not exactly one of `rank` and `operator`
            is given, if the input has too few axes, or if `operator` cannot take the input.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import CCP
    >>> CCP(units=10, order=3, rank=64)(np.ones((2, 784), "float32")).shape[-1]
    10

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 3.1, Model 1. The initial values
    are ours; the paper gives none.
    """

    FACTOR = "U"
    FACTORS_ARE_OF_STEPS = True
    BY_ORDER = ("factors",)

    def map_variance(self, letter, n):
        if self.order == 1:
            return 1.0
        share = 1.0 / (self.order - 1)
        return share if n > 1 else (1.0 + share) ** (1 - self.order)

    def recursion(self, on, z):
        U_1, *U = self.factors
        x = on.apply(U_1, z)
        for step, U_n in zip(self.steps, U):
            x = on.step(step, on.apply(U_n, z), x, carry=x)
        return self.read_out(on, x)
