"""The base of layers that hold a model and compute something else of it than its call."""

import keras

from pinets_tf.analysis.model_graph import input_shapes
from pinets_tf.layers.copying import deserialize_layers


class ModelLayer(keras.layers.Layer):
    """A layer that holds a model, of its dtype policy, with which it is saved.

    Args:
        model: a functional or sequential model, or a layer.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(self, model, **kwargs):
        super().__init__(**{"dtype": model.dtype_policy, **kwargs}, autocast=False)
        self.model = model

    def build(self, input_shape):
        if not self.model.built:
            self.model.build(input_shape)
        self.built = True

    def get_config(self):
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config):
        return cls(**deserialize_layers(config))

    def alone(self):
        """Returns a functional model of this layer alone, with inputs like those of its model, and its name."""
        model = self.model
        if getattr(model, "inputs", None):
            structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
            inputs = keras.tree.map_structure(
                lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), structure
            )
        else:
            inputs = [keras.Input(shape[1:], dtype=model.compute_dtype) for shape in input_shapes(model)]
            inputs = inputs if len(inputs) > 1 else inputs[0]
        return keras.Model(inputs, self(inputs), name=self.name)
