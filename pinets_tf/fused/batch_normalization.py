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


def normalize_product(factor, state, scale, offset, epsilon, add_factor=False, add_state=False):
    """Returns `normalize_batch` of factor * state, plus `factor` and `state` where asked, in float32.

    The product is not kept for the gradient but formed again.
    """
    # What is added is added as a difference to the negative: TensorFlow would join sums of three tensors, also of
    # gradients, to an operation that cannot work in place, and is slower (2.21).
    sign = -1.0 if add_factor or add_state else 1.0

    @tf.custom_gradient
    def run(factor, state, scale, offset):
        y, mean, variance, *reserved = _fused(_product(factor, state), sign * scale, sign * offset, epsilon)
        if add_state:
            y = tf.cast(state, tf.float32) - y
        if add_factor:
            y = y + tf.cast(factor, tf.float32) if add_state else tf.cast(factor, tf.float32) - y

        def gradient(dy, *_):
            # Without the dependency the second computation is found to equal the first, and that is kept after all.
            with tf.control_dependencies([dy]):
                product = _product(factor, state)
            dproduct, dscale, doffset = _gradient(dy, product, sign * scale, reserved, epsilon)
            dfactor, dstate = _product(dproduct, state), _product(dproduct, factor)
            if sign < 0:
                dfactor = dy - dfactor if add_factor else -dfactor
                dstate = dy - dstate if add_state else -dstate
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


def _gradient(dy, x, scale, reserved, epsilon):
    """Returns the gradients of a normalisation with its own statistics with respect to x, scale and offset."""
    reserved = {f"reserve_space_{i}": tensor for i, tensor in enumerate(reserved, start=1)}
    return tf.raw_ops.FusedBatchNormGradV3(y_backprop=dy, x=x, scale=scale, epsilon=epsilon, **reserved)[:3]
