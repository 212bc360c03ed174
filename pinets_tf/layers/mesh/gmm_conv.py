"""MoNet: neighbours weighted by Gaussian kernels of where they lie."""

import math

import keras
import numpy as np
from keras import ops

from pinets_tf.fused import neighbor_maps
from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.mesh.neighbor_conv import NeighborConv
from pinets_tf.layers.mesh.template_layer import Table


@keras.saving.register_keras_serializable(package="pinets_tf")
class GMMConv(NeighborConv):
    """A convolution with a mixture of Gaussians over the vertices of a mesh (MoNet in Table 5; Monti et al., Eq. 9-11).

        y_i = sum_k W_k^T sum_{j in N_i} w_k(u_ij) x_j + b,    k = 1, ..., K
        w_k(u) = exp(-1/2 sum_d ((u_d - mu_kd) / sigma_kd)^2)

    N_i are the neighbours of vertex i, with i itself; their order, with that of u, is irrelevant. u_ij says where j
    lies seen from i, K = `kernels`. mu and sigma are learned; sigma is stored as its logarithm and so stays positive.
    The weights w_k are not normalised over j, as in the paper: more neighbours give a larger sum. The layer is linear
    in x.

    At the start the mu_k are spread evenly over [-1, 1] in every dimension, and sigma is K^(-1 / dimensions), half of
    the distance between K kernels on a grid.

    Float16: w_k is computed in float32, from u rounded to float16.

    Args:
        filters: the number of outputs of each vertex.
        neighbors: N, integers (vertices, most neighbours); the number of vertices stands for none. What
            `pinets_tf.mesh.spirals` returns will do. It is stored with the weights, not in the config.
        coordinates: u, numbers (vertices, most neighbours, dimensions), about in [-1, 1]. Those of no neighbour must be
            finite, and change nothing. They are stored with the weights as well.
        kernels: K. The default, 8, is ours.
        keep: the vertices whose outputs are wanted, such as those of the next level, or `None` for all. The others are
            not computed.
        use_bias: whether there is a b.
        kernel_initializer: initializer of W, an array (K, channels, filters). The default has the variance
            2 / (K (channels + filters)), that of `"glorot_uniform"`.
        bias_initializer: initializer of b.
        kernel_regularizer, kernel_constraint: of W.
        bias_regularizer, bias_constraint: of b.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, vertices, channels)`.

    Output shape:
        `(batch, vertices, filters)`, of the vertices in `keep` if that is given.

    Raises:
        ValueError: if `filters` or `kernels` is not a positive integer, if
            `neighbors` or `keep` does not hold vertex indices, if `coordinates` does not fit `neighbors` or is not
            finite, or if the input has another number of vertices.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import GMMConv
    >>> path = [[0, 1, 3], [1, 0, 2], [2, 1, 3]]  # 3 stands for none.
    >>> left_or_right = np.array([[[0.0], [1.0], [0.0]], [[0.0], [-1.0], [1.0]], [[0.0], [-1.0], [0.0]]])
    >>> GMMConv(16, path, left_or_right, kernels=3)(np.ones((2, 3, 8), "float32")).shape[1:]
    TensorShape([3, 16])

    Source: Monti et al., "Geometric Deep Learning on Graphs and Manifolds Using Mixture Model CNNs", CVPR 2017, with
    diagonal covariances. The initial values are ours.
    """

    acts_as = "linear"
    DROPPED = (("mu_initializer", None), ("initial_sigma", None))

    def __init__(self, filters, neighbors, coordinates, kernels=8, **kwargs):
        super().__init__(filters, neighbors, **kwargs)
        coordinates = _coordinate_table(coordinates, self._table_shape("neighbors"))
        self._tables["coordinates"] = Table.of(coordinates, "float32")
        self.kernels = positive_integer("kernels", kernels, "Pass the number of Gaussians, such as kernels=8.")

    def _kernel(self, channels):
        return (self.kernels, channels, self.filters), 2 / (self.kernels * (channels + self.filters))

    def _build_weights(self, channels):
        dimensions = self._table_shape("coordinates")[-1]
        # Not cast to a narrow type, since `_weightings` is small and computed in float32.
        shape, half_the_distance = (self.kernels, dimensions), self.kernels ** (-1 / dimensions)
        start = keras.initializers.Constant(math.log(half_the_distance))
        self.mu = self.add_weight(shape=shape, initializer=_spread, autocast=False, name="mu")
        self.log_sigma = self.add_weight(shape=shape, initializer=start, autocast=False, name="log_sigma")

    def _weightings(self):
        """Returns w (vertices, K, most neighbours), the same for all inputs."""
        coordinates = ops.expand_dims(ops.cast(self._kept(self.coordinates, 0), self._wide), 1)
        mu, log_sigma = (ops.expand_dims(ops.cast(weight, self._wide), (0, 2)) for weight in (self.mu, self.log_sigma))
        distances = (coordinates - mu) * ops.exp(-log_sigma)
        return ops.exp(ops.sum(ops.square(distances), axis=-1) * -0.5)

    def _sums(self, x):
        (vertices, _), channels = self._table_shape("neighbors"), x.shape[-1]
        table, _ = self._neighbors("neighbors")
        # Rows of the whole batch, so that a vertex is gathered at once and the sums are one product for each vertex.
        # A neighbour that is none is a row of zeros, which adds nothing.
        rows = ops.pad(ops.reshape(ops.transpose(x, (1, 0, 2)), (vertices, -1)), ((0, 1), (0, 0)))
        sums = ops.matmul(ops.cast(self._weightings(), x.dtype), neighbor_maps.take(rows, table, 0))
        sums = ops.reshape(sums, (table.shape[0], self.kernels, -1, channels))
        return ops.transpose(sums, (2, 0, 1, 3))

    def multiply_adds(self, input_shape):
        return self._multiply_adds_of_sums(self.kernels, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "kernels": self.kernels}


def _coordinate_table(values, shape):
    """Returns `values`, finite numbers of shape (*shape, dimensions), as an array, or the config that it is."""
    if isinstance(values, dict):
        return values
    array = np.asarray(values, "float32")
    if array.ndim != 3 or array.shape[:2] != tuple(shape) or not array.shape[2] or not np.isfinite(array).all():
        what = "" if np.isfinite(array).all() else ", with entries that are not finite"
        raise ValueError(
            "`coordinates` must have finite numbers (vertices, most neighbours, dimensions) for a table of neighbours "
            f"(vertices, most neighbours). Received: coordinates of shape {array.shape}{what}, and neighbours of shape "
            f"{tuple(shape)}. Pass one point for each entry of `neighbors`, zero where there is none."
        )
    return array


def _spread(shape, dtype=None):
    """Returns points (number, dimensions) that fill [-1, 1]^dimensions evenly, whatever their number."""
    number, dimensions = shape
    # The root of r^(dimensions + 1) = r + 1, the golden ratio in one dimension, whose powers are far from fractions.
    root = 2.0
    for _ in range(50):
        root = (1 + root) ** (1 / (dimensions + 1))
    samples = np.outer(np.arange(max(1024, 16 * number)), root ** -np.arange(1.0, dimensions + 1))
    samples = 2 * ((samples + 0.5) % 1) - 1
    points = samples[:number]
    # Lloyd's iteration: each point moves to the middle of what is nearest to it.
    for _ in range(20):
        nearest = np.square(samples[:, None] - points).sum(-1).argmin(1)
        points = np.stack([samples[nearest == k].mean(0) for k in range(number)])
    return ops.convert_to_tensor(points, dtype)
