"""Graph attention: neighbours weighted by a score of their features."""

import math

import keras
import numpy as np
from keras import ops

from pinets_tf.layers.checks import one_of, positive_integer
from pinets_tf.layers.mesh.neighbor_conv import NeighborConv
from pinets_tf.layers.mesh.spiral_conv import gather_neighbors


@keras.saving.register_keras_serializable(package="pinets_tf")
class GATConv(NeighborConv):
    """A graph attention layer over the vertices of a mesh (GAT in Table 5; Veličković et al., Eq. 3 to 6).

        alpha_ijh = softmax over j in N_i of LeakyReLU(a_h^T [W_h^T x_i, W_h^T x_j])
        y_i = 1 / H sum_h sum_{j in N_i} alpha_ijh W_h^T x_j + b,    h = 1, ..., H

    N_i are the neighbours of vertex i, with i itself; their order is irrelevant. [.,.] is concatenation, H = `heads`,
    and the slope of LeakyReLU is 0.2. With `combine="concat"` the heads are concatenated, not averaged. There is no
    activation after the sum and no dropout.

    Float16: scores are added and alpha is computed in float32; the parts a_h^T W_h^T x overflow at 65504,
    and where all scores of a vertex do its output is not a number.

    Args:
        filters: the number of outputs of each vertex.
        neighbors: N, integers (vertices, most neighbours); the number of vertices stands for none. What
            `pinets_tf.mesh.spirals` returns will do. It is stored with the weights, not in the config.
        heads: H. The default, 8, is that of the paper's hidden layers; it has no experiment on meshes.
        combine: `"average"` or `"concat"`. The paper concatenates in hidden layers and averages in the last one; the
            average is the default because it goes with any `filters`, such as the 3 coordinates of a vertex.
        keep: the vertices whose outputs are wanted, such as those of the next level, or `None` for all. The others are
            not computed.
        use_bias: whether there is a b.
        kernel_initializer: initializer of W, an array (H, channels, outputs of a head). By default the mean of the W_h,
            or their concatenation, starts with the variance that `"glorot_uniform"` gives a matrix.
        bias_initializer: initializer of b.
        kernel_regularizer, kernel_constraint: of W.
        bias_regularizer, bias_constraint: of b.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, vertices, channels)`.

    Output shape:
        `(batch, vertices, filters)`, of the vertices in `keep` if that is given.

    Raises:
        ValueError: if `filters` or `heads` is not a positive integer, if `combine` is unknown, if `filters` cannot be
            divided among concatenated heads, if `neighbors` or `keep` does not hold vertex indices, or if the input
            has another number of vertices.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import GATConv
    >>> path = [[0, 1, 3], [1, 0, 2], [2, 1, 3]]  # 3 stands for none.
    >>> GATConv(filters=3, neighbors=path)(np.ones((2, 3, 8), "float32")).shape[1:]
    TensorShape([3, 3])

    Source: Veličković et al., "Graph Attention Networks", ICLR 2018. The initial variance of averaged heads is ours.
    """

    not_polynomial = (
        "weights neighbours with a softmax of encrypted numbers",
        "Use SpiralConv or GMMConv, which are linear",
    )
    DROPPED = (("a_initializer", keras.initializers.GlorotUniform()),)

    def __init__(self, filters, neighbors, heads=8, *, combine="average", **kwargs):
        super().__init__(filters, neighbors, **kwargs)
        self.heads = positive_integer("heads", heads, "Pass the number of attentions, such as heads=8.")
        self.combine = one_of("combine", combine, ("average", "concat"))
        if self.combine == "concat" and self.filters % self.heads:
            raise ValueError(
                "Concatenated heads have `filters` / `heads` outputs each, a whole number. "
                f"Received: filters={self.filters}, heads={self.heads}. "
                "Pass a multiple of `heads`, or combine='average'."
            )

    @property
    def _outputs_of_head(self):
        return self.filters // self.heads if self.combine == "concat" else self.filters

    def _kernel(self, channels):
        variance = 2 * (self.heads if self.combine == "average" else 1) / (channels + self.filters)
        return (self.heads, channels, self._outputs_of_head), variance

    def _build_weights(self, channels):
        shape = (self.heads, 2 * self._outputs_of_head)
        self.a = self.add_weight(shape=shape, initializer="glorot_uniform", name="a")

    def _matrix(self):
        if self.combine == "average":
            return super()._matrix() / self.heads
        # Concatenated heads are a matrix of blocks.
        blocks = np.eye(self.heads)[:, None, :, None]
        blocks = ops.expand_dims(self.kernel, 2) * ops.cast(blocks, self.compute_dtype)
        return ops.reshape(blocks, (-1, self.filters))

    def _sums(self, x):
        table, _ = self._neighbors("neighbors")
        gathered = gather_neighbors(x, table)
        own, theirs = (
            ops.transpose(ops.squeeze(ops.matmul(self.kernel, ops.expand_dims(part, -1)), -1))
            for part in ops.split(self.a, 2, axis=1)
        )
        own = ops.expand_dims(ops.cast(ops.matmul(self._kept(x, 1), own), self._wide), 2)
        scores = ops.leaky_relu(ops.cast(ops.matmul(gathered, theirs), self._wide) + own, 0.2)
        there = ops.expand_dims(self._there(table), -1)
        # No neighbour never scores more than one that is there, whose score may have overflowed to minus infinity: the
        # output would be zero instead of not a number. A vertex without any neighbour needs a finite score.
        none = ops.cast(ops.where(ops.any(there, axis=1, keepdims=True), -math.inf, 0.0), self._wide)
        scores = ops.where(there, scores, none)
        alpha = ops.softmax(ops.transpose(scores, (0, 1, 3, 2)), axis=-1)
        return ops.matmul(ops.cast(alpha, x.dtype), gathered)

    def multiply_adds(self, input_shape):
        return self._multiply_adds_of_heads(self.heads, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "combine": self.combine}
