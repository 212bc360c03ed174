"""How much the images of a batch differ, as a feature for discriminators."""

import math

import keras
from keras import ops

from pinets_tf.layers.checks import positive_integer


@keras.saving.register_keras_serializable(package="pinets_tf")
class MinibatchDeviation(keras.layers.Layer):
    """Appends a channel with the mean deviation of all features between images of a group.

    Images i, i + m, i + 2 m, ... of a batch of m groups make a group. The deviation is computed in at least float32.

    Args:
        group: how many images are in a group; in a batch that it does not divide, its largest divisor that does. Karras
            et al. have 4.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, ..., channels)`.

    Output shape:
        `(batch, ..., channels + 1)`.

    Raises:
        ValueError: if `group` is not a positive integer.

    Source: Karras et al., "Progressive Growing of GANs", ICLR 2018, Sec. 3.
    """

    not_polynomial = ("takes square roots", "Leave it out")

    def __init__(self, group=4, **kwargs):
        super().__init__(**kwargs)
        self.group = positive_integer("group", group, "Pass the number of images in a group, such as group=4.")

    def call(self, x):
        shape = ops.shape(x)
        divisors = [number for number in range(1, self.group + 1) if self.group % number == 0]
        if isinstance(shape[0], int):
            group = max(number for number in divisors if shape[0] % number == 0)
        else:
            divisors = ops.convert_to_tensor(divisors, "int32")
            group = ops.max(ops.where(ops.equal(ops.mod(shape[0], divisors), 0), divisors, 1))
        wide = keras.backend.result_type(self.compute_dtype, "float32")
        groups = ops.reshape(ops.cast(x, wide), (group, -1, *shape[1:]))
        apart = ops.subtract(groups, ops.mean(groups, axis=0, keepdims=True))
        deviation = ops.sqrt(ops.add(ops.mean(ops.square(apart), axis=0), 1e-8))
        deviation = ops.mean(deviation, axis=tuple(range(1, len(shape))), keepdims=True)
        deviation = ops.tile(deviation, (group, *shape[1:-1], 1))
        return ops.concatenate([x, ops.cast(deviation, x.dtype)], axis=-1)

    def multiply_adds(self, input_shape):
        return 0, math.prod(input_shape)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + 1)

    def get_config(self):
        return {**super().get_config(), "group": self.group}
