"""Batch normalisation as one operation where TensorFlow has it."""

import keras
from keras import ops

from pinets_tf.kernels import batch_normalization as kernel


@keras.saving.register_keras_serializable(package="pinets_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, computed as one fused operation on TensorFlow.

        y = gamma * (z - mean) / sqrt(variance + epsilon) + beta

    with mean and variance of the batch in training and their moving averages at inference, where it is an affine map.
    The same numbers and weights as the layer of Keras, which passes over the memory several times (Keras 3.15 on
    TensorFlow); the fused operation also joins the convolution before it at inference. It takes maps
    `(batch, height, width, channels)` of float32, float16 or bfloat16. Whatever it does not take (other shapes and
    types, masks, `synchronized`, `renorm`, other backends) is computed as Keras does.

    Args:
        axis, momentum, epsilon, **kwargs: those of `keras.layers.BatchNormalization`, with its defaults.

    Input shape:
        Any; the size of `axis` must be known.

    Output shape:
        That of the input.

    Raises:
        ValueError: as `keras.layers.BatchNormalization`.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import BatchNormalization
    >>> BatchNormalization(momentum=0.9)(np.ones((2, 6, 6, 3), "float32")).shape[-1]
    3

    Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift", ICML 2015.
    """

    def call(self, inputs, training=None, mask=None):
        if not self._fuses(inputs, mask, training):
            return super().call(inputs, training=training, mask=mask)
        scale, offset = self._scale_and_offset()
        if training:
            y, mean, variance = kernel.normalize_batch(inputs, scale, offset, self.epsilon)
            self._update(mean, variance)
        else:
            mean, variance = ops.cast(self.moving_mean, "float32"), ops.cast(self.moving_variance, "float32")
            y = kernel.normalize(inputs, scale, offset, mean, variance, self.epsilon)
        return ops.cast(y, self.compute_dtype)

    def _fuses(self, x, mask, training):
        # A frozen layer in training may need the gradient of `normalize`, which is not deterministic on GPUs.
        frozen = training and not self.trainable
        plain = mask is None and not (self.synchronized or self.renorm or frozen)
        return plain and kernel.fuses(x, self.axis)

    def _scale_and_offset(self):
        size = self.moving_mean.shape
        gamma = ops.ones(size) if self.gamma is None else self.gamma
        beta = ops.zeros(size) if self.beta is None else self.beta
        return ops.cast(gamma, "float32"), ops.cast(beta, "float32")

    def _update(self, mean, variance):
        """Moves the moving averages towards the statistics of a batch."""
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1.0 - self.momentum))


class ProductBatchNormalization(BatchNormalization):
    """BatchNormalization(factor * z), plus `factor` and `z` where asked; BatchNormalization(z) if there is no factor.

    Where this is one operation on TensorFlow, training keeps neither the product nor, if they come out of a batch
    normalisation, `factor` and `z`. Otherwise the product is formed in at least float32 and normalised as Keras does.
    """

    def call(self, inputs, training=None, mask=None, factor=None, add_factor=False, add_inputs=False):
        if factor is None:
            return super().call(inputs, training=training, mask=mask)
        if training and self._fuses(inputs, mask, training):
            scale, offset = self._scale_and_offset()
            y, mean, variance = kernel.normalize_product(
                factor, inputs, scale, offset, self.epsilon, add_factor, add_inputs
            )
            self._update(mean, variance)
            return ops.cast(y, self.compute_dtype)
        wide = keras.backend.result_type(inputs.dtype, "float32")
        factor, inputs = ops.cast(factor, wide), ops.cast(inputs, wide)
        # Keras's own: at inference the fused operation is slower where there is no convolution to join it to.
        y = keras.layers.BatchNormalization.call(self, ops.multiply(factor, inputs), training=training, mask=mask)
        for x, is_added in ((inputs, add_inputs), (factor, add_factor)):
            y = y + ops.cast(x, y.dtype) if is_added else y
        return ops.cast(y, self.compute_dtype)
