"""A transition between two inputs, by which networks are grown."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="pinets_tf")
class Fade(keras.layers.Layer):
    """Returns (1 - alpha) * old + alpha * new. `alpha` is a scalar that training sets: `layer.alpha.assign(0.5)`.

    It is a weight, not an input, so that a network has the same inputs while it grows, and starts at zero.

    Args:
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        A list of two tensors of one shape, old and new.

    Output shape:
        That of each.

    Source: Karras et al., "Progressive Growing of GANs", ICLR 2018, Sec. 2.
    """

    acts_as = "sum"

    def build(self, input_shape):
        self.alpha = self.add_weight(shape=(), initializer="zeros", trainable=False, name="alpha")

    def call(self, inputs):
        old, new = inputs
        alpha = ops.convert_to_tensor(self.alpha)
        return ops.add(ops.multiply(old, 1 - alpha), ops.multiply(new, alpha))

    def multiply_adds(self, input_shape):
        return 0, 2 * math.prod(input_shape[0])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])
