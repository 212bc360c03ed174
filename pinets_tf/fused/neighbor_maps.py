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


def maps(x, table, values, kernels, bias=None):
    """Returns sum_j kernel[j]^T x[table[:, j]] + bias for every kernel.

    Args:
        x: features (batch, vertices, channels).
        table: indices (rows, length); the number of vertices stands for a vertex of zeros.
        values: the same as a NumPy array.
        kernels: tensors (length, channels, filters) of one size.
        bias: a vector (filters,) or `None`. Added to the product itself, it costs TensorFlow no pass at inference.
    """
    (rows, length), vertices = values.shape, x.shape[1]
    _, channels, filters = kernels[0].shape
    used, owners = _sorted(values, vertices)
    count = len(kernels)

    @tf.custom_gradient
    def run(x, *weights):
        kernels, vectors = weights[:count], weights[count:]
        padded = tf.pad(x, ((0, 0), (0, 1), (0, 0)))
        gathered = tf.reshape(tf.gather(padded, table, axis=1), (-1, length * channels))
        flattened = [tf.reshape(kernel, (length * channels, filters)) for kernel in kernels]
        outputs = [tf.matmul(gathered, kernel) for kernel in flattened]
        outputs = [tf.nn.bias_add(output, vector) for output in outputs for vector in vectors] or outputs
        outputs = [tf.reshape(output, (-1, rows, filters)) for output in outputs]

        def gradient(*upstream):
            products = [tf.matmul(gathered, tf.reshape(dy, (-1, filters)), transpose_a=True) for dy in upstream]
            dkernels = [tf.reshape(product, (length, channels, filters)) for product in products]
            dvectors = [tf.reduce_sum(tf.add_n(upstream), (0, 1)) for _ in vectors]
            # Rows (length * rows, batch * channels).
            dy = tf.concat(upstream, -1) if len(upstream) > 1 else upstream[0]
            dy = tf.reshape(tf.transpose(dy, (1, 0, 2)), (1, -1, filters * len(kernels)))
            joined = tf.concat(kernels, -1) if len(kernels) > 1 else kernels[0]
            spread = tf.reshape(tf.matmul(dy, joined, transpose_b=True), (length * rows, -1))
            return _summed(spread, used, owners, vertices, channels), *dkernels, *dvectors

        return outputs, gradient

    return run(x, *map(tf.convert_to_tensor, kernels if bias is None else [*kernels, bias]))


def narrow_maps(x, table, values, kernels):
    """Returns sum_j kernel[j]^T x[table[:, j]] for every kernel of few filters, as `maps`.

    Each vertex is mapped to what it gives to a position of the spirals before that is gathered, one position after the
    other, so that what is at work stays small. Rows hold a vertex of the whole batch.
    """
    (rows, length), vertices = values.shape, x.shape[1]
    _, channels, filters = kernels[0].shape
    count, width = len(kernels), len(kernels) * filters
    flat = values.reshape(-1)
    used = np.flatnonzero(flat < vertices)
    places = flat[used].astype("int64") * length + used % length
    order = np.argsort(places, kind="stable")
    sources, places = (used // length)[order].astype("int32"), places[order].astype("int32")

    @tf.custom_gradient
    def run(x, kernel):
        by_vertex = tf.reshape(tf.transpose(x, (1, 0, 2)), (vertices, -1))
        padded = tf.reshape(tf.pad(by_vertex, ((0, 1), (0, 0))), (-1, channels))
        y = None
        for position in range(length):
            mapped = tf.reshape(tf.matmul(padded, kernel[position]), (vertices + 1, -1))
            gathered = tf.gather(mapped, table[:, position])
            y = gathered if y is None else y + gathered

        def gradient(dy):
            # For each vertex and position the sum over the spirals in which it has this position.
            dy = tf.reshape(tf.transpose(dy, (2, 1, 0, 3)), (rows, -1))
            spread = tf.raw_ops.SparseSegmentSumWithNumSegments(
                data=dy, indices=sources, segment_ids=places, num_segments=vertices * length
            )
            spread = tf.transpose(tf.reshape(spread, (vertices, length, -1, width)), (0, 2, 1, 3))
            spread = tf.reshape(spread, (-1, length * width))
            joined = tf.reshape(tf.transpose(kernel, (1, 0, 2)), (channels, length * width))
            dx = tf.reshape(tf.matmul(spread, joined, transpose_b=True), (vertices, -1, channels))
            dkernel = tf.matmul(tf.reshape(by_vertex, (-1, channels)), spread, transpose_a=True)
            dkernel = tf.transpose(tf.reshape(dkernel, (channels, length, width)), (1, 0, 2))
            return tf.transpose(dx, (1, 0, 2)), dkernel

        # The outputs of each kernel lie together, so that taking them copies nothing.
        return tf.transpose(tf.reshape(y, (rows, -1, count, filters)), (2, 1, 0, 3)), gradient

    return tf.unstack(run(x, tf.concat(list(map(tf.convert_to_tensor, kernels)), -1)))


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
