"""The base of CCP, NCP and NCP-Skip: linear maps of the input, combined by Horner steps, and a linear read-out."""

import keras
from keras import ops

from pinets_tf.layers.checks import positive_integer, same_shape
from pinets_tf.layers.copying import copy_initializer, copy_layer, uses_default_kernel_initializer
from pinets_tf.layers.parts import build_part, channel_axis, returned_shape
from pinets_tf.layers.polynomial.horner import HornerLayer
from pinets_tf.layers.weight_options import WeightOptions

# Stands for unknown dimensions where the shape that an operator returns is checked.
_PROBE_SIZE = 32


class Polynomial(HornerLayer, WeightOptions):
    """The base of CCP, NCP, NCPSkip and decompositions of your own: x = C x_N + beta, with x_N from Horner steps.

    It makes the linear maps of z, `factors` A_1 ... A_N, the `steps` of orders 2 to N, C and beta. A subclass states
    its recursion once, in the words of an interpreter `on`, and everything else follows from that: the call, the
    degree, the contributions of each order, costs, what `pinets_tf.analysis` says, and the export. With these words

        on.apply(layer, x)        the output of a layer, such as A_n z or S_n x
        on.step(step, factor, state, carry=x)      normalize(factor * state) + x, with what the user chose
        on.add(x, y), on.scale(w, x), on.shift(x, w)       sums, and products and sums with a weight or a number
        self.read_out(on, x)      C x + beta

    Chebyshev's recursion x_1 = A_1 z, x_n = 2 (A_n z) * x_(n-1) - x_(n-2) is the example below. Further linear maps
    are made by `linear_map` in the constructor and built in `build_maps`; where nothing is carried, a gate must
    multiply the state (`GATES_THE_STATE`, and `step.gated(on, state)` in the recursion), since x_N would start at zero.

    Float16: each product is formed and normalised in float32, then rounded.

    Args:
        units: o, the number of outputs; `None` leaves out C and beta and returns x_N.
        order: N, the degree of the polynomial.
        rank: k, the rank of the decomposition: every factor is a matrix. Give `rank` or `operator`.
        operator: a Keras layer that stands for the linear maps: it is copied by its config for every factor, each copy
            with initial values of its own, its `use_bias` switched off. It must be linear for the layer to be a
            polynomial. Give `operator` or `rank`.
        identity_factors: whether the factors of order 2 and above are the identity, as in the authors' generator for
            Fashion-MNIST (Sec. 4.1); x_1 must have the shape of z.
        use_bias: whether there is a beta.
        kernel_initializer: initializer of the matrices (factors with `rank`, and C). The default keeps the variance of
            the output at that of the input for every order, each order taking its share; it also serves copies of an
            `operator` whose own `kernel_initializer` was left at its default.
        bias_initializer: initializer of beta.
        kernel_regularizer, kernel_constraint: of the matrices that this layer makes; an `operator` carries its own.
        bias_regularizer, bias_constraint: of beta, and of b_n where there are any.
        normalize, normalize_at, gate: as for `CCP`.
        **kwargs: those of `keras.layers.Layer`.

    Attributes:
        FACTOR: the letter of the linear maps of z in the paths of weights.
        CARRIES: whether a step adds something to its product.
        FACTORS_ARE_OF_STEPS: whether the factor of step n is A_n z, so that the scale of a normalisation can be folded
            into A_n.
        BY_ORDER: for `pinets_tf.analysis.grow`, the names of the lists whose last part serves order N, if a step whose
            gate is zero hands on x_{n-1}; it is stated beside the recursion.

    Input shape:
        `(batch, ..., d)` with `rank`, else what `operator` takes.

    Output shape:
        `(batch, ..., units)`; with `operator`, the shape that it returns, with `units` channels.

    Raises:
        ValueError: if `order`, `rank` or `units` is not a positive integer, if not exactly one of `rank` and `operator`
            is given, if `gate` is set where x_N would start at zero, if the input has too few axes, or if `operator`
            cannot take the input.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.analysis import degree
    >>> from pinets_tf.layers import Polynomial
    >>> class Chebyshev(Polynomial):
    ...     def recursion(self, on, z):
    ...         before, x = None, on.apply(self.factors[0], z)
    ...         for step, A_n in zip(self.steps, self.factors[1:]):
    ...             carry = None if before is None else on.scale(-1.0, before)
    ...             before, x = x, on.step(step, on.scale(2.0, on.apply(A_n, z)), x, carry=carry)
    ...         return self.read_out(on, x)
    >>> layer = Chebyshev(units=10, order=3, rank=64)
    >>> layer(np.ones((2, 784), "float32")).shape[-1], degree(layer)
    (10, 3)

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 3.1, whose three models are the
    decompositions of this package.
    """

    FACTOR = "A"
    CARRIES = True
    FACTORS_ARE_OF_STEPS = False

    def __init__(
        self,
        units,
        order,
        rank=None,
        operator=None,
        *,
        identity_factors=False,
        **kwargs,
    ):
        super().__init__(order, **kwargs)
        if (rank is None) == (operator is None):
            raise ValueError(
                "Exactly one of `rank` and `operator` says what the linear maps are. "
                f"Received: rank={rank!r}, operator={operator!r}. "
                "Pass rank=64 for matrices, or operator=Conv2D(64, 3, padding='same') for another linear map."
            )
        if operator is not None and not isinstance(operator, keras.layers.Layer):
            raise ValueError(
                f"`operator` must be a Keras layer. Received: operator={operator!r} of type {type(operator).__name__}. "
                "Pass an unbuilt layer such as Conv2D(64, 3, padding='same'); it is copied for every factor."
            )
        if units is not None:
            units = positive_integer("units", units, "Pass units=None to leave out the read-out and return x_N.")
        if rank is not None:
            rank = positive_integer("rank", rank, "Pass the number of columns of each factor, such as rank=64.")
        self.units = units
        self.rank = rank
        self.identity_factors = bool(identity_factors)
        self._keep_untracked(operator=operator)
        self.channel_axis = channel_axis(operator)
        if self.gate and not (self.CARRIES or self.GATES_THE_STATE):
            raise ValueError(
                "Where nothing is carried, a gate must multiply the state of a step, or x_N starts at zero. "
                f"Received: gate=True for {type(self).__name__}. "
                "Pass gate=False, or let the class set `GATES_THE_STATE` and gate the state in its recursion."
            )
        self.factors = [self._factor(n) for n in self.factor_orders()]
        self.C = None if units is None else self._matrix("C", units, 1.0, self.use_bias)
        self._say_whether_masks_are_supported(self.factors[0])

    def factor_orders(self):
        """Returns the n of the linear maps A_n of z that the recursion takes."""
        return range(1, self.order + 1)

    def map_variance(self, letter, n):
        """Returns the variance that linear map `letter`_n gives its output for input of variance one, at the start."""
        return 1.0

    def _factor(self, n):
        if n > 1 and self.identity_factors:
            return keras.layers.Identity(dtype=self.dtype_policy, name=f"{self.FACTOR}_{n}")
        return self.linear_map(self.FACTOR, n)

    def linear_map(self, letter, n):
        """Returns a new linear map `letter`_n, not built: a matrix of `rank` columns or a copy of the operator."""
        name, variance = f"{letter}_{n}", self.map_variance(letter, n)
        if self.operator is None:
            return self._matrix(name, self.rank, variance, use_bias=False)
        overrides = {}
        if hasattr(self.operator, "use_bias"):
            overrides["use_bias"] = False
        if self.kernel_initializer is None and uses_default_kernel_initializer(self.operator):
            overrides["kernel_initializer"] = _variance_preserving(variance)
        return copy_layer(self.operator, name, self.dtype_policy, **overrides)

    def _matrix(self, name, units, variance, use_bias, initializer=None):
        matrix = keras.layers.Dense(
            units,
            use_bias=use_bias,
            kernel_initializer=copy_initializer(initializer or self.kernel_initializer, name)
            or _variance_preserving(variance),
            bias_initializer=copy_initializer(self.bias_initializer, name),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
            name=name,
        )
        self._restore_policies([matrix])
        return matrix

    def build(self, input_shape):
        self._check_rank_of(input_shape)
        for factor in self.factors:
            build_part("operator", factor, input_shape)
        shape = self._state_shape(input_shape)
        if self.identity_factors and not same_shape(tuple(shape), tuple(input_shape)):
            raise ValueError(
                "With `identity_factors` each product is one of z with a state, so both have one shape. "
                f"Received: z of shape {tuple(input_shape)} and x_1 of shape {tuple(shape)}. "
                "Pass a `rank` or an `operator` that returns as many channels as z has, or identity_factors=False."
            )
        self.build_maps(shape)
        self._build_steps(shape)
        if self.C is not None:
            self.C.build(self._channels_last(shape))

    def build_maps(self, shape):
        """Builds what a subclass adds to the factors, for states x_n of shape `shape`."""

    def _check_rank_of(self, input_shape):
        spec = self.factors[0].input_spec
        fewest, exact = getattr(spec, "min_ndim", None) or 2, getattr(spec, "ndim", None)
        if len(input_shape) < fewest or (exact is not None and len(input_shape) != exact):
            wanted = f"exactly {exact}" if exact is not None else f"at least {fewest}"
            raise ValueError(
                f"The linear maps of {type(self).__name__} take inputs of {wanted} axes, the batch included. "
                f"Received: an input of shape {tuple(input_shape)}. Reshape the input, or choose another operator."
            )
        if self.operator is None and input_shape[-1] is None:
            raise ValueError(
                f"The matrices of {type(self).__name__} have as many rows as the input has features. "
                f"Received: an input of shape {tuple(input_shape)}, whose last size is unknown. "
                "Give it, such as keras.Input((784,))."
            )

    def _state_shape(self, input_shape):
        return returned_shape("operator", self.factors[0], input_shape)

    def read_out(self, on, x):
        """Returns the value of C x + beta, or of x where there is no C."""
        return x if self.C is None else self._on_channels(on, self.C, x)

    def _on_channels(self, on, dense, x):
        """Returns the value of a Dense layer on the channel axis of x, wherever that is."""
        if self.channel_axis == -1:
            return on.apply(dense, x)
        x = on.apply(dense, on.affine(lambda x: ops.moveaxis(x, 1, -1), x, multiplies=False))
        return on.affine(lambda x: ops.moveaxis(x, -1, 1), x, multiplies=False)

    def _channels_last(self, shape):
        return shape if self.channel_axis == -1 else (shape[0], *shape[2:], shape[1])

    def folded_config(self):
        config = super().folded_config()
        of_products = self.FACTORS_ARE_OF_STEPS and (self.normalize_at != "order" or not self.CARRIES)
        some_gates = any(step.gates_in_normalizer for step in self.steps) and any(step.has_gate for step in self.steps)
        if config is None or not of_products or some_gates or not all(map(_is_matrix, self.factors[1:])):
            return config
        return {**config, "normalize": "offset"}

    def _load_map(self, n, scale, offset):
        if self.normalize == "affine":
            super()._load_map(n, scale, offset)
        else:
            kernel = self.factors[n - 1].kernel
            kernel.assign(kernel * scale)
            self._load_offset(n, offset)

    def _load_offset(self, n, offset):
        self.normalizers[n - 2].beta.assign(offset)

    def compute_output_shape(self, input_shape):
        shape = list(self._state_shape(input_shape))
        if self.units is not None:
            shape[self.channel_axis] = self.units
        return tuple(shape)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "rank": self.rank,
            "identity_factors": self.identity_factors,
            "operator": keras.saving.serialize_keras_object(self.operator),
        }


def _is_matrix(layer):
    """Returns whether `layer` is a linear map with a kernel whose last axis is that of what it returns."""
    kinds = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    plain = type(layer) in kinds and layer.activation is keras.activations.linear and not layer.use_bias
    return plain and layer.quantization_mode is None and not layer.lora_enabled


def probe(shape):
    """Returns `shape` with every unknown dimension but the batch made definite."""
    return (shape[0], *(_PROBE_SIZE if size is None else size for size in shape[1:]))


def _variance_preserving(variance):
    return keras.initializers.VarianceScaling(variance, mode="fan_in", distribution="truncated_normal")
