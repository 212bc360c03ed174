"""Polynomials of spiral convolutions (Sec. 5.3)."""

import keras
import numpy as np
from keras import ops

from pinets_tf.fused import neighbor_maps
from pinets_tf.layers.checks import one_of, positive_integer
from pinets_tf.layers.copying import copy_initializer
from pinets_tf.layers.mesh.spiral_conv import spiral_maps, spiral_multiply_adds
from pinets_tf.layers.mesh.template_layer import TemplateLayer
from pinets_tf.layers.polynomial.horner import HornerLayer
from pinets_tf.layers.polynomial.interpreter import on_tensors
from pinets_tf.layers.polynomial.step import NORMALIZERS, OFFERED
from pinets_tf.layers.weight_options import WeightOptions

VARIANTS = ("simple", "full")
# Normalisations of one long vector.
PER_VERTEX = {"vertex_batch": "batch", "vertex_affine": "affine"}


@keras.saving.register_keras_serializable(package="pinets_tf")
class SpiralPolynomial(TemplateLayer, HornerLayer, WeightOptions):
    """A spiral convolution raised to order N, *simple* or *full* (Sec. 5.3).

        simple:  h = Sz,  x_1 = h,  x_n = normalize(h * x_{n-1}) + h
        full:             x_1 = z,  x_n = normalize((A_n z) * (S_n x_{n-1})) + A_n z
        y = x_N + beta,    n = 2, ..., N

    `*` is the elementwise product; S, S_n and A_n are spiral convolutions without bias, as in `SpiralConv`. The simple
    variant has the parameters of one convolution, and without normalisation is Sz + (Sz)^2 + ... + (Sz)^N + beta. The
    full one without normalisation is an NCP (Eq. 4) with b_n = 1 and A_1 the identity. Order 1 is Sz + beta for both. A
    residual layer adds x_{n-1} to x_n where both have the same origin: for every n in the simple variant, from the
    third order on in the full one.

    An empty position of a spiral is a vertex whose features are zero at every step.

    Products of float16 overflow at 65504. Under `mixed_float16` each product is formed, normalised and added to its
    carry in float32, then rounded; without `normalize` an x_n beyond 65504 becomes infinite.

    Args:
        filters: the number of outputs of each vertex.
        spirals: integers (vertices, L) as in `SpiralConv`.
        keep: the vertices whose outputs are wanted, or `None` for all, as in `SpiralConv`. The others are computed
            where a further step of the full variant needs them, from the third order on; else statistics over
            vertices are those of the kept ones.
        order: N, the degree of the polynomial.
        variant: `"full"` or `"simple"`.
        residual: whether x_{n-1} is added to x_n.
        normalize: `None`, `"vertex_batch"` (over the batch, for every vertex and channel), `"batch"` (for every
            channel), `"instance"` (for every shape and channel, over its vertices), `"layer"`, `"tanh"`, or a Keras
            layer that is copied for each order. With `None` and the first two the layer is a polynomial at inference,
            with the others it is not. The paper names "vertex-wise instance normalization"; the authors' code has
            `"vertex_batch"`.
        normalize_at: `"product"` normalises each product, `"order"` each x_n, `"last"` the last product alone.
        gate: whether each product is multiplied with a learned scalar that starts at zero.
        use_bias: whether there is a beta.
        kernel_initializer: initializer of every convolution, an array (L, channels, filters); each gets values of its
            own. By default, for full rings, every x_n of the full variant has the variance of the input.
        bias_initializer: initializer of beta.
        kernel_regularizer, kernel_constraint: of the convolutions.
        bias_regularizer, bias_constraint: of beta.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, vertices, channels)`.

    Output shape:
        `(batch, vertices, filters)`, of the vertices in `keep` if that is given.

    Raises:
        ValueError: if `order` or `filters` is not a positive integer, if `variant` or `normalize` is not one of those
            above, if `spirals` or `keep` does not hold vertex indices, or if the input has another number of vertices.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import SpiralPolynomial
    >>> triangle = [[0, 1, 2, 3], [1, 2, 0, 3], [2, 0, 1, 3]]  # 3 stands for none.
    >>> layer = SpiralPolynomial(filters=16, spirals=triangle, order=3, normalize="vertex_batch")
    >>> layer(np.ones((2, 3, 8), "float32")).shape[1:]
    TensorShape([3, 16])

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 5.3 and footnote 8. The paper
    writes the second order; higher ones repeat the step, with `residual` as in the authors' code. The initial values
    are ours.
    """

    acts_as = "polynomial"
    BY_ORDER: tuple[str, ...] = ("A", "S")

    def __init__(
        self,
        filters,
        spirals,
        order=2,
        keep=None,
        *,
        variant="full",
        residual=False,
        normalize=None,
        **kwargs,
    ):
        self._per_vertex = isinstance(normalize, str) and normalize in PER_VERTEX
        if isinstance(normalize, str) and normalize not in (*PER_VERTEX, *NORMALIZERS):
            one_of("normalize", normalize, ("vertex_batch", *OFFERED))
        super().__init__(order, normalize=PER_VERTEX[normalize] if self._per_vertex else normalize, **kwargs)
        self.filters = positive_integer("filters", filters, "Pass the outputs of each vertex, such as filters=16.")
        self.variant = one_of("variant", variant, VARIANTS)
        self.residual = bool(residual)
        self._set_neighbors("spirals", spirals, keep)
        # Where no step needs the neighbours of another.
        self._one_look = self.variant == "simple" or self.order <= 2
        self._is_simple = self.variant == "simple" or self.order == 1
        if self._is_simple:
            # What order 1 of the full variant does is done by A_n in a higher one.
            self.BY_ORDER = () if self.variant == "simple" else ("S",)
        # One of each order, made in `build`.
        self.A: list = [None] * (0 if self._is_simple else self.order - 1)
        self.S: list = [None] * (len(self.A) or 1)
        self.beta = None

    def build(self, input_shape):
        vertices, _ = self._table_shape("spirals")
        self._check_vertices(input_shape, vertices)
        self._build_tables()
        channels = input_shape[-1]
        if self._is_simple:
            self.S = [self._add_map("S", channels, 1.0 if self.order == 1 else 0.5)]
        else:
            orders = range(2, self.order + 1)
            # With variance 1/2 for A_n and 1 for S_n, every x_n has the variance of z.
            self.A = [self._add_map(f"A_{n}", channels, 0.5) for n in orders]
            self.S = [self._add_map(f"S_{n}", channels if n == 2 else self.filters, 1.0) for n in orders]
        self.beta = self._add_bias("beta", self.filters) if self.use_bias else None
        rows = self._step_rows()
        self._build_steps((None, rows * self.filters) if self._per_vertex else (None, rows, self.filters))

    def _step_rows(self):
        """Returns how many vertices the products have."""
        return self._rows("spirals") if self._one_look else self._table_shape("spirals")[0]

    def _add_map(self, name, channels, variance):
        default = keras.initializers.VarianceScaling(variance, "fan_in")
        initializer = copy_initializer(self.kernel_initializer, name) or default
        return self._add_kernel(name, (self._table_shape("spirals")[1], channels, self.filters), initializer)

    def recursion(self, on, z):
        *factors, x = on.maps(self._maps, z, [*self.A, self.S[0]], self._multiply_adds)
        is_full = bool(factors)
        factors = factors if is_full else [x] * (self.order - 1)
        for step, factor in zip(self.steps, factors):
            state, before = x, x if self.residual else None
            if is_full and step.n == 2:
                # The state is S_2 z.
                before = None
            elif is_full:
                (state,) = on.maps(self._maps, x, [self.S[step.n - 2]], self._multiply_adds)
            bias = self._bias_of(step.n)
            if step.of_sums:
                carry = factor if before is None else on.add(factor, before)
                x = on.step(step, factor, state, carry=carry, bias=bias)
            else:
                x = on.step(step, factor, state, carry=before, skip=factor, bias=bias)
        x = on.affine(self._kept, x, multiplies=False)
        return on.shift(x, self.beta) if self.use_bias and self.order == 1 else x

    def call(self, z, training=None):  # type: ignore[override]
        # There are no masks of vertices.
        return self.recursion(on_tensors(self), z)

    def _maps(self, x, kernels):
        # Outside of a call nothing casts them.
        kernels = [ops.cast(kernel, self.compute_dtype) for kernel in kernels]
        maps = spiral_maps(self._for_maps(x), *self._neighbors("spirals", self._one_look), kernels)
        return [ops.reshape(x, (-1, x.shape[1] * self.filters)) if self._per_vertex else x for x in maps]

    def _for_maps(self, x):
        # Normalisations of each vertex get one long vector.
        return ops.reshape(x, (-1, x.shape[1] // self.filters, self.filters)) if len(x.shape) == 2 else x

    def _kept(self, x):
        x = self._for_maps(x)
        return neighbor_maps.take(x, self.keep, 1) if "keep" in self._tables and not self._one_look else x

    def _multiply_adds(self, shape):
        channels = self.filters if len(shape) == 2 else shape[-1]
        return spiral_multiply_adds(self, channels, whole=not self._one_look)

    def folded_config(self):
        config = super().folded_config()
        if config is None or self.order == 1:
            return None
        return {**config, "use_bias": False, **({"normalize": "vertex_affine"} if self._per_vertex else {})}

    def _replaced_by_folding(self):
        return [*super()._replaced_by_folding(), self.beta]

    def load_grown(self, source):
        for A_n in self.A if self.residual or source.order > 1 else ():
            # A new step adds nothing, or hands on z.
            kernel = np.zeros(A_n.shape)
            kernel[0] = 0 if self.residual else np.eye(*A_n.shape[1:])
            A_n.assign(kernel)
        super().load_grown(source)

    def _grown_place(self, n, added):
        if self.residual and n <= 2:
            return 2
        is_map = self.variant == "full" and self.order == 1
        return n + added if is_map else super()._grown_place(n, added)

    def _obstacles(self):
        yield from super()._obstacles()
        is_full, one_product = self.variant == "full", self.order == 2 and self.normalize is not None
        yield (
            self.residual and not is_full,
            "whose every step adds Sz once more",
            "Train a simple one without `residual`.",
        )
        yield (
            is_full and one_product and "keep" in self._tables,
            "whose statistics are those of the kept vertices alone, and would be those of all",
            "Train one without `keep` or `normalize`.",
        )
        yield (
            is_full and one_product and self.residual and self.normalize_at == "last",
            "whose last product would not be the last one",
            "Train one with normalize_at='product'.",
        )
        channels, centers = self.S[0].shape[1], ops.convert_to_numpy(self.spirals)[:, 0]
        hands_on = channels <= self.filters and (centers == np.arange(len(centers))).all()
        yield (
            is_full and not self.residual and self.order > 1 and not hands_on,
            f"whose {self.filters} filters cannot hand on z of {channels} channels, vertex by vertex",
            "Train one with residual=True, or with as many filters as z has channels.",
        )

    def _bias_of(self, n):
        if self.beta is None or n < self.order:
            return None
        return ops.tile(self.beta, self._step_rows()) if self._per_vertex else self.beta

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self._rows("spirals"), self.filters)

    def get_config(self):
        return {
            "keep": None,
            **super().get_config(),
            "filters": self.filters,
            "variant": self.variant,
            "residual": self.residual,
            **({"normalize": f"vertex_{self.normalize}"} if self._per_vertex else {}),
        }
