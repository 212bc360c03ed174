"""NCP, the nested coupled CP decomposition of a polynomial (Eq. 4)."""

import keras
from keras import ops

from pinets_tf.layers.checks import same_shape
from pinets_tf.layers.parts import build_part, returned_shape
from pinets_tf.layers.polynomial.decomposition import Polynomial, probe


@keras.saving.register_keras_serializable(package="pinets_tf")
class NCP(Polynomial):
    """A polynomial of the input whose parameters share one nested (hierarchical) decomposition (Eq. 4).

        x_1 = (A_1^T z) * b_1
        x_n = (A_n^T z) * (S_n^T x_{n-1} + b_n),    n = 2, ..., N
        x   = C x_N + beta

    `*` is the elementwise product, d the number of input features, k the rank and o = `units`. b_n stands for the
    paper's B_n^T b_n, a vector of length k; b_1 starts at 1, the others at 1 / sqrt(2). With normalisation the product
    of step n becomes normalize(...); a gate multiplies S_n^T x_{n-1}, so that a gated layer starts as the linear map
    C ((A_N^T z) * b_N) + beta.

    Products of float16 overflow at 65504. Under `mixed_float16` each product is formed and normalised in float32, then
    rounded; without `normalize` an x_n beyond 65504 becomes infinite, which the loss scaling of Keras's optimizers
    notices. Prefer `normalize="batch"` or `mixed_bfloat16` at high orders.

    Args:
        units: o, the number of outputs; `None` leaves out C and beta and returns x_N.
        order: N, the degree of the polynomial; 1 is a linear map.
        rank: k, the number of columns of A_n and S_n. Give `rank` or `operator`.
        operator: a Keras layer that is copied for every A_n and S_n instead, such as `Conv2D(64, 3, padding="same")`; C
            then acts on its channels. It must keep the shape of what it returns, and be linear for the layer to be a
            polynomial.
        identity_factors: whether A_n is the identity for n >= 2, so that each product is one with z itself; x_1 then
            must have the shape of z.
        normalize: `None`, `"batch"`, `"layer"`, `"instance"`, `"tanh"`, or a Keras layer that is copied for each order.
            With `None` and `"batch"` the layer is a polynomial at inference, with the others it is not.
        normalize_at: `"product"` or `"order"` normalises each x_n, which here is a product; `"last"` x_N alone.
        gate: whether each S_n^T x_{n-1} is multiplied with a learned scalar that starts at zero.
        use_bias: whether there is a beta.
        kernel_initializer: initializer of A_n, S_n (with `rank`) and C; each gets values of its own. By default the
            variance of the output equals that of the input: half of it comes from degree 1, a quarter from degree 2 ...
        bias_initializer: initializer of beta.
        kernel_regularizer, kernel_constraint: of A_n, S_n (with `rank`) and C.
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

    >>> import keras, numpy as np
    >>> from pinets_tf.layers import NCP
    >>> NCP(units=10, order=3, rank=64)(np.ones((2, 784), "float32")).shape[-1]
    10
    >>> conv = keras.layers.Conv2D(8, 3, padding="same")
    >>> NCP(units=None, order=2, operator=conv)(np.ones((2, 6, 6, 3), "float32")).shape[-1]
    8

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 3.1, Model 2. The initial values
    are ours; the paper gives none.
    """

    FACTORS_ARE_OF_STEPS = True
    GATES_THE_STATE = True
    CARRIES = False
    BY_ORDER: tuple[str, ...] = ("factors", "S", "b")
    DROPPED = (("b_initializer", None),)

    def __init__(self, units, order, rank=None, operator=None, **kwargs):
        super().__init__(units, order, rank, operator, **kwargs)
        self.S = [self.linear_map("S", n) for n in range(2, self.order + 1)]
        self.b = []

    def map_variance(self, letter, n):
        # With b_1 = 1 and b_n^2 = 1/2, every x_n has variance one: half of it linear, a quarter quadratic, ...
        return 1.0 if letter == "A" else 0.5

    def _b_value(self, n):
        return 1.0 if n == 1 else 0.5**0.5

    def build_maps(self, shape):
        for S_n in self.S:
            self._check_keeps_shape(S_n, shape)
            build_part("operator", S_n, shape)
        self._b_shape = (-1, *[1] * (len(shape) - 2))
        self.b = [
            self._add_bias(f"b_{n}", shape[self.channel_axis], keras.initializers.Constant(self._b_value(n)))
            for n in range(1, self.order + 1)
        ]

    def _check_keeps_shape(self, S_n, shape):
        returned = returned_shape("operator", S_n, probe(shape))
        if not same_shape(returned, probe(shape)):
            raise ValueError(
                f"In {type(self).__name__} the operator is applied to x_(n-1) at every order, so it must return the "
                f"shape that it is given there. Received: operator {self.operator!r}, which turns x_1 of shape "
                f"{tuple(shape)} into {returned} (32 stands for an unknown size). Pass an operator with strides=1 and "
                "padding='same', or change the size before or after this layer."
            )

    def recursion(self, on, z):
        A_1, *A = self.factors
        x = on.scale(self._b(1), on.apply(A_1, z))
        for step, A_n, S_n in zip(self.steps, A, self.S):
            state = on.apply(S_n, x)
            state = step.gated(on, state) if self.GATES_THE_STATE else state
            state = on.shift(state, self._b(step.n))
            x = on.step(step, on.apply(A_n, z), state, carry=self._carry(on, step, x))
        return self.read_out(on, x)

    def _carry(self, on, step, x):
        """Returns the value of what step n adds to its product, or `None`."""
        return None

    def _b(self, n):
        """Returns b_n along the channel axis, or `None` in a layer that is not built."""
        b_n = self.b[n - 1] if self.b else None
        return b_n if b_n is None or self.channel_axis == -1 else ops.reshape(b_n, self._b_shape)

    def folded_config(self):
        config = super().folded_config()
        if config is None or config["normalize"] != "offset" or self.CARRIES:
            return config
        # An offset passes through matrices as another one; a convolution would make it another at the borders.
        maps = (*self.S, self.C)
        dense = all(type(layer) is keras.layers.Dense and layer.quantization_mode is None for layer in maps)
        return {**config, "normalize": None} if dense and self.use_bias else config

    def _load_offset(self, n, offset):
        if self.normalize is not None:
            super()._load_offset(n, offset)
        elif n == self.order and self.C is not None:
            self.C.bias.assign(self.C.bias + ops.matmul(offset, self.C.kernel))
        else:
            gate = 1 if self.gates[n - 1] is None else self.gates[n - 1]
            self.b[n].assign(self.b[n] + gate * ops.matmul(offset, self.S[n - 1].kernel))

    def _grown_place(self, n, added):
        # Nothing is carried past a product: new steps make the state in front of the first factor.
        return super()._grown_place(n, added) if self.CARRIES else n + added

    def _obstacles(self):
        yield (
            not self.CARRIES and self.identity_factors,
            "in which z itself is the factor of every product",
            "Use NCPSkip, whose steps carry x_{n-1}.",
        )
        first = self.normalize_at != "last" or self.order == 1
        yield (
            not self.CARRIES and first and not self._starts_as_identity,
            f"whose first state would be normalised by normalize={self.normalize!r}",
            "Fold a batch normalisation with `pinets_tf.models.fold_normalization`, or use NCPSkip.",
        )
        yield from super()._obstacles()
