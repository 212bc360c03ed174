"""Layers all of whose parts a `tf.train.Checkpoint` finds."""

import keras

from pinets_tf._keras import track


class Checkpointed(keras.layers.Layer):
    """A layer whose lists of layers and weights TensorFlow saves and restores.

    Keras on TensorFlow makes only attributes that are layers or weights themselves known to TensorFlow (Keras 3.15),
    so that a `tf.train.Checkpoint` passes over those in lists, without an error. Here each gets the name of its list
    and its number, such as `S_0`. A list must be complete when it is assigned.
    """

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        for number, part in enumerate(value if isinstance(value, list) else ()):
            if isinstance(part, (keras.layers.Layer, keras.Variable)):
                track(self, part, f"{name}_{number}")
