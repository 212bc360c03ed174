"""Feature-steered graph convolutions."""

import keras
from keras import ops

from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.mesh.neighbor_conv import NeighborConv
from pinets_tf.layers.mesh.spiral_conv import gather_neighbors


@keras.saving.register_keras_serializable(package="pinets_tf")
class FeaStConv(NeighborConv):
    """A feature-steered convolution over the vertices of a mesh (FeaStNet in Table 5; Verma et al.).

        y_i = 1 / |N_i| sum_{j in N_i} sum_m q_m(x_i, x_j) W_m^T x_j + b,    m = 1, ..., M
        q_m(x_i, x_j) = exp(u_m^T (x_j - x_i) + c_m) / sum_n exp(u_n^T (x_j - x_i) + c_n)

    N_i are the neighbours of vertex i, with i itself; their order is irrelevant. M = `heads`. The shares q depend on
    differences of features alone, so that they do not change when all vertices move together.

    Float16: q and |N_i| are computed in float32, and q is divided by |N_i| before the sum, which is a mean. The
    projections u_m^T x overflow at 65504.

    Args:
        filters: the number of outputs of each vertex.
        neighbors: N, integers (vertices, most neighbours); the number of vertices stands for none. What
            `pinets_tf.mesh.spirals` returns will do. It is stored with the weights, not in the config.
        heads: M, how many matrices share the work. The default, 8, is ours.
        keep: the vertices whose outputs are wanted, such as those of the next level, or `None` for all. The others are
            not computed.
        use_bias: whether there is a b.
        kernel_initializer: initializer of W, an array (M, channels, filters). By default the mean of the W_m starts
            with the variance that `"glorot_uniform"` gives a matrix.
        bias_initializer: initializer of b.
        kernel_regularizer, kernel_constraint: of W.
        bias_regularizer, bias_constraint: of b.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, vertices, channels)`.

    Output shape:
        `(batch, vertices, filters)`, of the vertices in `keep` if that is given.

    Raises:
        ValueError: if `filters` or `heads` is not a positive integer, if `neighbors` or `keep` does not hold vertex
            indices, or if the input has another number of vertices.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import FeaStConv
    >>> path = [[0, 1, 3], [1, 0, 2], [2, 1, 3]]  # 3 stands for none.
    >>> FeaStConv(filters=16, neighbors=path)(np.ones((2, 3, 8), "float32")).shape[1:]
    TensorShape([3, 16])

    Source: Verma, Boyer and Verbeek, "FeaStNet: Feature-Steered Graph Convolutions for 3D Shape Analysis", CVPR 2018,
    in its translation-invariant form. The initial values are ours.
    """

    not_polynomial = (
        "weights neighbours with a softmax of encrypted numbers",
        "Use SpiralConv or GMMConv, which are linear",
    )
    DROPPED = (("u_initializer", keras.initializers.GlorotUniform()), ("c_initializer", keras.initializers.Zeros()))

    def __init__(self, filters, neighbors, heads=8, **kwargs):
        super().__init__(filters, neighbors, **kwargs)
        self.heads = positive_integer("heads", heads, "Pass the number of matrices, such as heads=8.")

    def _kernel(self, channels):
        # While every q is 1 / M, the matrices act through their mean.
        return (self.heads, channels, self.filters), 2 * self.heads / (channels + self.filters)

    def _build_weights(self, channels):
        self.u = self.add_weight(shape=(channels, self.heads), initializer="glorot_uniform", name="u")
        self.c = self.add_weight(shape=(self.heads,), initializer="zeros", name="c")

    def _sums(self, x):
        table, _ = self._neighbors("neighbors")
        gathered = gather_neighbors(x, table)
        # Projecting what was gathered again costs less than gathering the projections and summing their gradients.
        own = ops.cast(ops.matmul(self._kept(x, 1), self.u), self._wide)
        logits = ops.cast(ops.matmul(gathered, self.u), self._wide) - ops.expand_dims(own, 2)
        shares = ops.softmax(logits + ops.cast(self.c, self._wide), axis=-1)
        # A neighbour that is none is a vertex of zeros, which adds nothing.
        counts = ops.sum(ops.cast(self._there(table), self._wide), axis=1)
        shares = shares / ops.reshape(ops.maximum(counts, ops.cast(1, self._wide)), (-1, 1, 1))
        return ops.matmul(ops.transpose(ops.cast(shares, x.dtype), (0, 1, 3, 2)), gathered)

    def multiply_adds(self, input_shape):
        # The shares of the neighbours are divided by their number.
        divisions = self._rows(self.TABLE) * self.heads * self._table_shape(self.TABLE)[1]
        return self._multiply_adds_of_heads(self.heads, input_shape[-1]), divisions

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}
