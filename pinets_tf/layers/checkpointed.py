"""Layers all of whose parts a `tf.train.Checkpoint` finds."""

from typing import Any

import keras


class Checkpointed(keras.layers.Layer):
    """A layer whose lists of layers and weights TensorFlow saves and restores.

    Keras on TensorFlow makes only attributes that are layers or weights themselves known to TensorFlow (Keras 3.15),
    so that a `tf.train.Checkpoint` passes over those in lists, without an error. Here each gets the name of its list
    and its number, such as `S_0`. A list must be complete when it is assigned.
    """

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        # Other backends have no such method.
        track: Any = getattr(self, "_track_trackable", None)
        for number, part in enumerate(value if track and isinstance(value, list) else ()):
            if isinstance(part, (keras.layers.Layer, keras.Variable)):
                track(part, f"{name}_{number}", overwrite=True)
