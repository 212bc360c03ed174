"""What the convolutions over the neighbours of a vertex share."""

import keras
from keras import ops

from pinets_tf.fused import neighbor_maps
from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.mesh.template_layer import TemplateLayer
from pinets_tf.layers.weight_options import WeightOptions


class NeighborConv(TemplateLayer, WeightOptions):
    """Base of the convolutions over the neighbours of a vertex: y = W^T s + b, with s weighted sums of them.

    A subclass defines `_kernel` (the shape of W, and its variance at the start) and `_sums`, which returns s (batch,
    vertices, K, channels) for K weightings, with weights made in `_build_weights`. That the sums come before W keeps
    them small: mapped first, every neighbour has K times the filters. Or it defines `call` itself.

    Args:
        filters: the number of outputs of each vertex.
        neighbors: integers (vertices, most neighbours); the number of vertices stands for none.
        keep: the vertices whose outputs are wanted, or `None` for all: the next level of Bouritsas et al. keeps some.
        use_bias: whether there is a b.
        kernel_initializer: initializer of W, an array (K, channels, filters); `None` is uniform with
            the variance that a subclass gives.
        bias_initializer: initializer of b.
        kernel_regularizer, kernel_constraint: of W.
        bias_regularizer, bias_constraint: of b.
        **kwargs: those of `keras.layers.Layer`.
    """

    # What a subclass calls its table of neighbours.
    TABLE = "neighbors"

    def __init__(
        self,
        filters,
        neighbors,
        *,
        keep=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = positive_integer("filters", filters, "Pass the outputs of each vertex, such as filters=16.")
        self._set_neighbors(self.TABLE, neighbors, keep)

    def _kernel(self, channels):
        """Returns the shape of W, and its variance at the start."""
        raise NotImplementedError

    def _build_weights(self, channels):
        """Makes the weights of a subclass."""

    def _sums(self, x):
        raise NotImplementedError

    def _matrix(self):
        """Returns W as a matrix (K * channels, filters)."""
        return ops.reshape(self.kernel, (-1, self.filters))

    def _kept(self, values, axis):
        """Returns the entries of the vertices to compute."""
        return neighbor_maps.take(values, self.keep, axis) if "keep" in self._tables else values

    def _there(self, table):
        """Returns where `table` has a neighbour."""
        return ops.less(table, self._table_shape(self.TABLE)[0])

    @property
    def _wide(self):
        """The dtype of weightings: at least float32, since they are exponentials and quotients."""
        return "float32" if self.compute_dtype in ("float16", "bfloat16") else self.compute_dtype

    def build(self, input_shape):
        self._check_vertices(input_shape, self._table_shape(self.TABLE)[0])
        self._build_tables()
        channels = input_shape[-1]
        shape, variance = self._kernel(channels)
        limit = (3 * variance) ** 0.5
        initializer = self.kernel_initializer or keras.initializers.RandomUniform(-limit, limit)
        self.kernel = self._add_kernel("kernel", shape, initializer)
        self._build_weights(channels)
        self.bias = self._add_bias("bias", self.filters) if self.use_bias else None

    def call(self, x):
        matrix = self._matrix()
        # Keras 3.15 multiplies float64 in float32 on PyTorch.
        y = ops.cast(ops.matmul(ops.reshape(self._sums(x), (-1, matrix.shape[0])), matrix), self.compute_dtype)
        # Added before the shape changes, where TensorFlow joins it to the product.
        y = y if self.bias is None else ops.add(y, self.bias)
        return ops.reshape(y, (-1, self._rows(self.TABLE), self.filters))

    def _multiply_adds_of_sums(self, weightings, channels):
        """Returns those of the sums of neighbours, and of the matrix after them."""
        rows, most = self._rows(self.TABLE), self._table_shape(self.TABLE)[1]
        return rows * weightings * channels * (most + self.filters)

    def _multiply_adds_of_heads(self, heads, channels):
        """Returns those of the sums of neighbours weighted by scores, and of the scores."""
        scores = self._rows(self.TABLE) * heads * (self._table_shape(self.TABLE)[1] + 1)
        return self._multiply_adds_of_sums(heads, channels) + scores * channels

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self._rows(self.TABLE), self.filters)

    def get_config(self):
        return {"filters": self.filters, "keep": None, **super().get_config()}
