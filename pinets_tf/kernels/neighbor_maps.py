"""Linear maps of neighbourhoods whose gradient TensorFlow sums over sorted rows instead of unsorted ones."""

import keras
import numpy as np
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util


def take(x, indices, axis):
    """Returns `ops.take(x, indices, axis)`, without the care of Keras for negative indices on TensorFlow."""
    if keras.backend.backend() == "tensorflow":
        return tf.gather(x, indices, axis=axis)
    return ops.take(x, indices, axis=axis)


def fuses():
    """Whether `maps` can be used: on TensorFlow, outside of functions that XLA compiles, which lacks the sum."""
    if keras.backend.backend() != "tensorflow":
        return False
    if tf.executing_eagerly():
        return True
    return not control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def maps(x, table, kernels, gather):
    """Returns sum_j kernel[j]^T x[table[:, j]] for every kernel.

    Args:
        x: features (batch, vertices, channels).
        table: a NumPy array (rows, length) of indices; the number of vertices stands for a vertex of zeros.
        kernels: tensors (length, channels, filters) of one size.
        gather: a function that makes (batch, vertices, length * channels) of `x`.
    """
    (size, length), vertices = table.shape, x.shape[1]
    _, channels, filters = kernels[0].shape
    # For each vertex, where it stands in the table. Rows of the gradient below are ordered by column of the table.
    used, owners = _sorted(table, vertices)

    @tf.custom_gradient
    def run(x, *kernels):
        gathered = tf.reshape(gather(x), (-1, length * channels))
        flattened = [tf.reshape(kernel, (length * channels, filters)) for kernel in kernels]
        outputs = [tf.reshape(tf.matmul(gathered, kernel), (-1, size, filters)) for kernel in flattened]

        def gradient(*upstream):
            rows = [tf.reshape(dy, (-1, filters)) for dy in upstream]
            dkernels = [tf.matmul(gathered, row, transpose_a=True) for row in rows]
            dkernels = [tf.reshape(dkernel, (length, channels, filters)) for dkernel in dkernels]
            # Rows (length * size, batch * channels).
            dy = tf.concat(upstream, -1) if len(upstream) > 1 else upstream[0]
            dy = tf.reshape(tf.transpose(dy, (1, 0, 2)), (1, -1, filters * len(kernels)))
            joined = tf.concat(kernels, -1) if len(kernels) > 1 else kernels[0]
            spread = tf.reshape(tf.matmul(dy, joined, transpose_b=True), (length * size, -1))
            return _summed(spread, used, owners, vertices, channels), *dkernels

        return outputs, gradient

    return run(x, *map(tf.convert_to_tensor, kernels))


def weighted_rows(x, sources, shares, values):
    """Returns sum_k shares[:, k] * x[sources[:, k]] for features `x` (batch, vertices, channels).

    Args:
        x: features.
        sources: a variable (rows, K) of indices.
        shares: a variable (rows, K) of weights.
        values: the values of `sources` as a NumPy array, or `None` where they are not known.
    """

    def run(x, shares):
        rows = [take(x, sources[:, k], 1) for k in range(sources.shape[1])]
        return sum(ops.multiply(row, shares[:, k, None]) for k, row in enumerate(rows))

    shares = ops.cast(shares, x.dtype)
    vertices, channels = x.shape[1:]
    if values is None or vertices is None or not fuses():
        return run(x, shares)
    used, owners = _sorted(values, vertices)

    @tf.custom_gradient
    def fused(x, shares):
        def gradient(dy):
            dy = tf.reshape(tf.transpose(dy, (1, 0, 2)), (1, len(values), -1))
            spread = tf.reshape(dy * tf.transpose(shares)[..., None], (values.size, -1))
            return _summed(spread, used, owners, vertices, channels), None

        return run(x, shares), gradient

    return fused(x, shares)


def _sorted(table, vertices):
    """Returns where the vertices stand in a table, column by column, in their order, and which vertex that is."""
    flat = table.T.reshape(-1)
    used = np.flatnonzero(flat < vertices)
    used = used[np.argsort(flat[used], kind="stable")]
    return used.astype("int32"), flat[used].astype("int32")


def _summed(rows, used, owners, vertices, channels):
    """Returns the sums (batch, vertices, channels) of `rows` (.., batch * channels) that belong to each vertex."""
    summed = tf.raw_ops.SparseSegmentSumWithNumSegments(
        data=rows, indices=used, segment_ids=owners, num_segments=vertices
    )
    return tf.transpose(tf.reshape(summed, (vertices, -1, channels)), (1, 0, 2))
