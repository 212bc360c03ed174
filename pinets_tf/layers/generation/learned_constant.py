"""A map that is learned and the same for all inputs."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="pinets_tf")
class LearnedConstant(keras.layers.Layer):
    """Returns a learned map, which starts at one, for every element of the batch.

    Args:
        shape: of the map, without the batch.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        Any; only the size of the batch is used.

    Output shape:
        `(batch, *shape)`.

    Source: Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019.
    """

    acts_as = "constant"
    multiplies = False

    def __init__(self, shape, **kwargs):
        super().__init__(**kwargs)
        self.map_shape = tuple(shape)

    def build(self, input_shape):
        self.constant = self.add_weight(shape=self.map_shape, initializer="ones", name="constant")

    def call(self, inputs):
        constant = ops.convert_to_tensor(self.constant)
        return ops.broadcast_to(constant[None], (ops.shape(inputs)[0], *self.map_shape))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.map_shape)

    def get_config(self):
        return {**super().get_config(), "shape": list(self.map_shape)}
