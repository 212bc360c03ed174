"""Functions that return the networks of the paper as plain functional Keras models."""

from pinets_tf.models.resnet import resnet

__all__ = ["resnet"]
