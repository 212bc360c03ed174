"""Spiral convolutions: one matrix for each position of the spiral around a vertex."""

import keras
from keras import ops

from pinets_tf.fused import neighbor_maps
from pinets_tf.layers.mesh.neighbor_conv import NeighborConv


def gather_neighbors(x, table):
    """Returns the features (batch, vertices, length, channels) of the neighbours in `table`, zeros for none."""
    return neighbor_maps.take(ops.pad(x, ((0, 0), (0, 1), (0, 0))), table, 1)


def spiral_maps(x, table, values, kernels, bias=None):
    """Returns sum_j kernel[j]^T x[table[:, j]] + bias for every kernel (length, channels, filters).

    Args:
        x: features (batch, vertices, channels).
        table: indices (rows, length).
        values: their values as a NumPy array, or `None` where they are not known.
        kernels: kernels of one size.
        bias: a vector (filters,) or `None`.
    """
    rows, length = table.shape
    _, channels, filters = kernels[0].shape
    fuses = values is not None and neighbor_maps.fuses()
    if 2 * filters <= channels:
        maps = neighbor_maps.narrow_maps(x, table, values, kernels) if fuses else _map_first(x, table, kernels)
        return maps if bias is None else [ops.add(y, bias) for y in maps]
    if fuses:
        return neighbor_maps.maps(x, table, values, kernels, bias)
    gathered = ops.reshape(gather_neighbors(x, table), (-1, length * channels))
    maps = [ops.matmul(gathered, ops.reshape(kernel, (length * channels, filters))) for kernel in kernels]
    maps = maps if bias is None else [ops.add(y, bias) for y in maps]
    return [ops.reshape(y, (-1, rows, filters)) for y in maps]


def _map_first(x, table, kernels):
    """Maps every vertex to what it gives to each position of a spiral, and gathers that, which is narrower."""
    kernel = kernels[0] if len(kernels) == 1 else ops.concatenate(kernels, axis=-1)
    (rows, length), (_, channels, filters), vertices = table.shape, kernel.shape, x.shape[1]
    x = ops.reshape(ops.transpose(x, (1, 0, 2)), (-1, channels))
    mapped = ops.matmul(x, ops.reshape(ops.transpose(kernel, (1, 0, 2)), (channels, length * filters)))
    # Rows that lie together: for each vertex and position, the whole batch.
    mapped = ops.reshape(mapped, (vertices, -1, length, filters))
    mapped = ops.reshape(ops.transpose(mapped, (0, 2, 1, 3)), (vertices * length, -1))
    mapped = ops.pad(mapped, ((0, length), (0, 0)))
    places = ops.add(ops.multiply(table, length), ops.arange(length, dtype=table.dtype))
    summed = ops.sum(neighbor_maps.take(mapped, places, 0), axis=1)
    joined = ops.transpose(ops.reshape(summed, (rows, -1, filters)), (1, 0, 2))
    return ops.split(joined, len(kernels), axis=-1) if len(kernels) > 1 else [joined]


def spiral_multiply_adds(layer, channels, whole=False):
    """Returns those of a map along spirals, which few filters get of every vertex before it is gathered.

    Args:
        layer: the layer whose `spirals` and `filters` they are.
        channels: the features of each vertex.
        whole: whether the map is one of all vertices, and not of the kept ones.
    """
    vertices, length = layer._table_shape("spirals")
    rows = vertices if whole or 2 * layer.filters <= channels else layer._rows("spirals")
    return rows * length * channels * layer.filters


@keras.saving.register_keras_serializable(package="pinets_tf")
class SpiralConv(NeighborConv):
    """A convolution over the vertices of a mesh, along a spiral around each of them (Sec. 5.3; Bouritsas et al.).

        y_v = sum_j W_j^T x_(s(v, j)) + b,    j = 1, ..., L

    s(v, 1) = v, and s(v, 2), s(v, 3), ... are its neighbours counter-clockwise, ring by ring. A position that is not
    filled is a vertex whose features are zero.

    Float16: sums of L times the channels are accumulated by the matrix product of the backend.

    Args:
        filters: the number of outputs of each vertex.
        spirals: s, integers (vertices, L); the number of vertices stands for an empty position.
            `pinets_tf.mesh.spirals` makes them. They are stored with the weights, not in the config.
        keep: the vertices whose outputs are wanted, such as those of the next level, or `None` for all. The others are
            not computed.
        use_bias: whether there is a b.
        kernel_initializer: initializer of W, an array (L, channels, filters); `None` is uniform with the variance
            1 / (L * channels).
        bias_initializer: initializer of b.
        kernel_regularizer, kernel_constraint: of W.
        bias_regularizer, bias_constraint: of b.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, vertices, channels)`.

    Output shape:
        `(batch, vertices, filters)`, of the vertices in `keep` if that is given.

    Raises:
        ValueError: if `filters` is not a positive integer, if `spirals` or `keep` does not hold vertex indices, or
            if the input has another number of vertices.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import SpiralConv
    >>> triangle = [[0, 1, 2, 3], [1, 2, 0, 3], [2, 0, 1, 3]]  # 3 stands for none.
    >>> SpiralConv(filters=16, spirals=triangle)(np.ones((2, 3, 8), "float32")).shape[1:]
    TensorShape([3, 16])

    Source: Bouritsas et al., "Neural 3D Morphable Models: Spiral Convolutional Networks for 3D Shape Representation
    Learning and Generation", ICCV 2019.
    """

    acts_as = "linear"
    TABLE = "spirals"

    def __init__(self, filters, spirals, keep=None, *, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(filters, spirals, keep=keep, kernel_initializer=kernel_initializer, **kwargs)

    def _kernel(self, channels):
        length = self._table_shape("spirals")[1]
        return (length, channels, self.filters), 1 / (length * channels)

    def multiply_adds(self, input_shape):
        return spiral_multiply_adds(self, input_shape[-1])

    def call(self, x):
        return spiral_maps(x, *self._neighbors("spirals"), [self.kernel], self.bias)[0]
