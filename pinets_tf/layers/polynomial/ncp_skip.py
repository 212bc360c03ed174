"""NCP-Skip, the nested coupled decomposition with skip connections (Eq. 5)."""

import keras

from pinets_tf.layers.polynomial.ncp import NCP


@keras.saving.register_keras_serializable(package="pinets_tf")
class NCPSkip(NCP):
    """An NCP with a skip connection around every product (Eq. 5).

        x_1 = (A_1^T z) * b_1
        x_n = (A_n^T z) * (S_n^T x_{n-1} + b_n) + V_n^T x_{n-1},    n = 2, ..., N
        x   = C x_N + beta

    V_n is the identity, as in the paper, or learned. `*` is the elementwise product, d the number of input features, k
    the rank and o = `units`. b_n stands for the paper's B_n^T b_n, a vector of length k; b_1 starts at 1 / sqrt(N), the
    others at 1 / sqrt(2 N). With normalisation and gates the product of step n becomes gate_n * normalize(...), so that
    a gated layer starts as the linear map C ((A_1^T z) * b_1) + beta.

    Products of float16 overflow at 65504. Under `mixed_float16` each product is formed, normalised and added to the
    skip in float32, then rounded; without `normalize` an x_n beyond 65504 becomes infinite, which the loss scaling of
    Keras's optimizers notices. Prefer `normalize="batch"` or `mixed_bfloat16` at high orders.

    Args:
        units: o, the number of outputs; `None` leaves out C and beta and returns x_N.
        order: N, the degree of the polynomial; 1 is a linear map.
        rank: k, the number of columns of A_n and S_n. Give `rank` or `operator`.
        operator: a Keras layer that is copied for every A_n and S_n instead, such as `Conv2D(64, 3, padding="same")`; C
            then acts on its channels. It must keep the shape of what it returns, and be linear for the layer to be a
            polynomial.
        identity_factors: whether A_n is the identity for n >= 2, so that each product is one with z itself; x_1 then
            must have the shape of z.
        learn_skip: whether V_n is a learned k x k matrix on the channels, starting at the identity, instead of the
            identity.
        normalize: `None`, `"batch"`, `"layer"`, `"instance"`, `"tanh"`, or a Keras layer that is copied for each order.
            With `None` and `"batch"` the layer is a polynomial at inference, with the others it is not.
        normalize_at: `"product"` normalises each product, `"order"` each x_n, `"last"` the last product alone.
        gate: whether each product is multiplied with a learned scalar that starts at zero.
        use_bias: whether there is a beta.
        kernel_initializer: initializer of A_n, S_n (with `rank`) and C; each gets values of its own. By default the
            variance of the output equals that of the input, and every step adds the same amount to it.
        bias_initializer: initializer of beta.
        kernel_regularizer, kernel_constraint: of A_n, S_n, V_n (with `rank`) and C.
        bias_regularizer, bias_constraint: of beta and b_n.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, ..., d)` with `rank`, else what `operator` takes.

    Output shape:
        `(batch, ..., units)`; with `operator`, the shape that it returns, with `units` channels.

    Raises:
        ValueError: if `order`, `rank` or `units` is not a positive integer, if not exactly one of `rank` and `operator`
            is given, if the input has too few axes, if `operator` cannot take the input, or if S_n does not keep the
            shape of x_{n-1}.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import NCPSkip
    >>> NCPSkip(units=10, order=4, rank=64, normalize="batch")(np.ones((2, 784), "float32")).shape[-1]
    10

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 3.1, Model 3; the learned V_n is
    that of the paper's journal version. The initial values are ours; the paper gives none.
    """

    GATES_THE_STATE = False
    CARRIES = True
    BY_ORDER = ("factors", "S", "b", "V")

    def __init__(self, units, order, rank=None, operator=None, *, learn_skip=False, **kwargs):
        super().__init__(units, order, rank, operator, **kwargs)
        self.learn_skip = bool(learn_skip)
        self.V = []

    def map_variance(self, letter, n):
        # With b_1^2 = 1/N and b_n^2 = 1/(2N), x_n has variance n/N: every step adds 1/N.
        return 1.0 if letter == "A" else 0.5 / (n - 1)

    def _b_value(self, n):
        return (self.order if n == 1 else 2 * self.order) ** -0.5

    def build_maps(self, shape):
        super().build_maps(shape)
        if self.learn_skip:
            channels = shape[self.channel_axis]
            self.V = [self._matrix(f"V_{n}", channels, 1.0, False, "identity") for n in range(2, self.order + 1)]
            for V_n in self.V:
                V_n.build(self._channels_last(shape))

    def _carry(self, on, step, x):
        if not self.learn_skip:
            return x
        # Not made before the layer is built.
        return self._on_channels(on, self.V[step.n - 2], x) if self.V else on.affine(None, x)

    def get_config(self):
        return {**super().get_config(), "learn_skip": self.learn_skip}
