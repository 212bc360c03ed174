"""Batch normalisation, also of a product, by TensorFlow's fused operation."""

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

_DTYPES = ("float16", "bfloat16", "float32")


def fuses(x, axis):
    """Whether the functions below take `x`: TensorFlow, maps `(batch, height, width, channels)`, at most float32."""
    last = axis in (-1, 3)
    return (
        keras.backend.backend() == "tensorflow"
        and last
        and len(x.shape) == 4
        and x.shape[-1] is not None
        and keras.backend.standardize_dtype(x.dtype) in _DTYPES
    )


def normalize(x, scale, offset, mean, variance, epsilon):
    """Returns scale * (x - mean) / sqrt(variance + epsilon) + offset."""
    return _fused(x, scale, offset, epsilon, mean=mean, variance=variance, is_training=False)[0]


def normalize_batch(x, scale, offset, epsilon):
    """Returns `x` normalised with its own mean and variance over all axes but the last, and these two."""
    y, mean, variance, *_ = _fused(x, scale, offset, epsilon)
    return y, mean, _biased(variance, x)


def normalize_product(factor, state, scale, offset, epsilon):
    """Returns what `normalize_batch` returns for factor * state, in float32, and keeps less for the gradient.

    The product is not kept but formed again. Neither is a factor of it, in a graph and where it is itself the result
    of `normalize_batch`, whose input is kept anyway.
    """
    factor_again, state_again = _again(factor), _again(state)

    @tf.custom_gradient
    def run(factor, state, scale, offset):
        y, mean, variance, *reserved = _fused(_product(factor, state), scale, offset, epsilon)

        def gradient(dy, *_):
            # Without the dependency the second computation is found to equal the first, and that is kept after all.
            with tf.control_dependencies([dy]):
                f, x = factor_again(), state_again()
                product = _product(f, x)
            dproduct, dscale, doffset, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=dy,
                x=product,
                scale=scale,
                reserve_space_1=reserved[0],
                reserve_space_2=reserved[1],
                reserve_space_3=reserved[2],
                epsilon=epsilon,
            )
            dfactor, dstate = _product(dproduct, x), _product(dproduct, f)
            return tf.cast(dfactor, factor.dtype), tf.cast(dstate, state.dtype), dscale, doffset

        return (y, mean, variance), gradient

    y, mean, variance = run(factor, state, scale, offset)
    return y, mean, _biased(variance, y)


def _product(a, b):
    return tf.cast(a, tf.float32) * tf.cast(b, tf.float32)


def _fused(x, scale, offset, epsilon, mean=(), variance=(), is_training=True):
    return tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=tf.convert_to_tensor(scale),
        offset=tf.convert_to_tensor(offset),
        mean=tf.convert_to_tensor(mean, tf.float32),
        variance=tf.convert_to_tensor(variance, tf.float32),
        epsilon=epsilon,
        is_training=is_training,
    )


def _biased(variance, x):
    # The operation returns n / (n - 1) times the mean square, Keras's moving variance is that of the mean square.
    n = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
    return variance * ((n - 1.0) / n)


def _again(x):
    """Returns a function that computes `x` again where a fused normalisation made it, and else returns it."""
    if not tf.is_symbolic_tensor(x) or x.op.type != "FusedBatchNormV3" or not x.op.get_attr("is_training"):
        return lambda: x
    source, scale, offset, *unused = x.op.inputs
    # With its statistics, so that gradients of the gradient are right too.
    return lambda: _fused(source, scale, offset, x.op.get_attr("epsilon"), *unused)[0]
