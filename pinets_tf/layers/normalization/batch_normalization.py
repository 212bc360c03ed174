"""Batch normalisation as one operation where TensorFlow has it."""

import math

import keras
from keras import ops

from pinets_tf.fused import batch_normalization as kernel


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
        ValueError: as `keras.layers.BatchNormalization`, in the words of Keras: if the size of `axis` is not known.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import BatchNormalization
    >>> BatchNormalization(momentum=0.9)(np.ones((2, 6, 6, 3), "float32")).shape[-1]
    3

    Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift", ICML 2015.
    """

    acts_as = "linear"

    def multiply_adds(self, input_shape):
        return 0, math.prod(input_shape)

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

    def affine(self, dtype, bias=None):
        """Returns scale and offset, with `bias`, of the affine map that this is at inference."""
        mean, variance = ops.cast(self.moving_mean, dtype), ops.cast(self.moving_variance, dtype)
        gamma, beta, bias = (None if x is None else ops.cast(x, dtype) for x in (self.gamma, self.beta, bias))
        scale, offset = affine_at_inference(mean, variance, gamma, beta, self.epsilon)
        return scale, offset if bias is None else offset + bias

    def _scale_and_offset(self):
        size = self.moving_mean.shape
        gamma = ops.ones(size) if self.gamma is None else self.gamma
        beta = ops.zeros(size) if self.beta is None else self.beta
        return ops.cast(gamma, "float32"), ops.cast(beta, "float32")

    def _update(self, mean, variance):
        """Moves the moving averages towards the statistics of a batch."""
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            before = ops.cast(moving, now.dtype)
            moving.assign(before * self.momentum + now * (1.0 - self.momentum))


def affine_at_inference(mean, variance, gamma, beta, epsilon, rsqrt=ops.rsqrt):
    """Returns scale and offset of a batch normalisation at inference, from arrays or tensors; no gamma is `None`."""
    scale = rsqrt(variance + epsilon)
    scale = scale if gamma is None else scale * gamma
    return scale, -mean * scale if beta is None else beta - mean * scale


def affine_of_product(factor, x, scale, offset, add_factor, add_x):
    """Returns scale * factor * x + offset, plus `factor` and `x` where asked, in few passes."""
    y = factor * (x * scale + 1.0) if add_factor else factor * x * scale
    return y + (x + offset) if add_x else y + offset


class ProductBatchNormalization(BatchNormalization):
    """BatchNormalization(factor * z), plus `factor` and `z` where asked; BatchNormalization(z) if there is no factor.

    A `bias`, a vector of the size of `axis`, is added to all of it.

    Where this is one operation on TensorFlow, training keeps neither the product nor, if they come out of a batch
    normalisation, `factor` and `z`. Otherwise the product is formed in at least float32 and normalised as Keras does.
    """

    acts_as = "linear"
    multiply_adds = BatchNormalization.multiply_adds

    def call(self, inputs, training=None, mask=None, factor=None, add_factor=False, add_inputs=False, bias=None):
        if factor is None:
            y = super().call(inputs, training=training, mask=mask)
            return y if bias is None else ops.add(y, ops.cast(bias, y.dtype))
        if training and self._fuses(inputs, mask, training):
            scale, offset = self._scale_and_offset()
            y, mean, variance = kernel.normalize_product(
                factor, inputs, scale, offset, self.epsilon, add_factor, add_inputs
            )
            self._update(mean, variance)
            return ops.cast(y if bias is None else ops.add(y, bias), self.compute_dtype)
        wide = keras.backend.result_type(inputs.dtype, "float32")
        factor, inputs = ops.cast(factor, wide), ops.cast(inputs, wide)
        if add_factor and not add_inputs and not (training and self.trainable) and self.axis in (-1, inputs.ndim - 1):
            scale, offset = self.affine(wide, bias)
            y = affine_of_product(factor, inputs, scale, offset, add_factor, add_inputs)
            return ops.cast(y, self.compute_dtype)
        # Keras's own: at inference the fused operation is slower where there is no convolution to join it to.
        y = keras.layers.BatchNormalization.call(self, ops.multiply(factor, inputs), training=training, mask=mask)
        for x, is_added in ((inputs, add_inputs), (factor, add_factor)):
            y = y + ops.cast(x, y.dtype) if is_added else y
        return ops.cast(y if bias is None else ops.add(y, bias), self.compute_dtype)


class _ProductMap(keras.layers.Layer):
    """Base of what folding makes of the above: an affine map with a vector `beta` along an axis."""

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def build(self, input_shape):
        self.beta = self.add_weight(shape=(input_shape[self.axis],), initializer="zeros", name="beta")
        self._vector_shape = [1] * len(input_shape)
        self._vector_shape[self.axis] = -1

    def _along_axis(self, vector, dtype):
        return ops.reshape(ops.cast(vector, dtype), self._vector_shape)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


class ProductAffine(_ProductMap):
    """scale * factor * z + offset, plus `factor`, `z` and `bias` where asked: what the above is at inference."""

    acts_as = "linear"

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(input_shape[self.axis],), initializer="ones", name="gamma")
        super().build(input_shape)

    def set_map(self, scale, offset):
        """Sets the two vectors."""
        self.gamma.assign(scale)
        self.beta.assign(offset)

    def multiply_adds(self, input_shape):
        return 0, math.prod(input_shape)

    def call(self, inputs, factor=None, add_factor=False, add_inputs=False, bias=None):
        wide = keras.backend.result_type(inputs.dtype, "float32")
        offset = self.beta if bias is None else ops.add(self.beta, ops.cast(bias, self.beta.dtype))
        scale, offset = self._along_axis(self.gamma, wide), self._along_axis(offset, wide)
        inputs = ops.cast(inputs, wide)
        if factor is None:
            y = inputs * scale + offset
        else:
            y = affine_of_product(ops.cast(factor, wide), inputs, scale, offset, add_factor, add_inputs)
        return ops.cast(y, self.compute_dtype)


class ProductOffset(_ProductMap):
    """z + offset: what is left of the above where the scale is part of a linear map before it."""

    acts_as = "linear"
    multiplies = False

    def call(self, inputs):
        return inputs + self._along_axis(self.beta, inputs.dtype)
