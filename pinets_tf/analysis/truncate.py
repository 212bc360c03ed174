"""A polynomial network without its higher orders."""

import functools

import keras
from keras import ops

from pinets_tf.analysis.contributions import as_inputs, check_polynomial, highest_order
from pinets_tf.analysis.homogeneous_parts import HomogeneousParts
from pinets_tf.analysis.model_layer import ModelLayer
from pinets_tf.analysis.reading import as_outputs


def truncate(model, order):
    """Returns a model that computes the terms of a polynomial network up to an order, and none above.

    The terms are those of `contributions`, also in training, where batch normalisations keep the statistics they have.
    What it costs depends on `order`, about that many times the network, and not on the degree of the network.

    Args:
        model: a built Keras layer, functional or sequential model that is a polynomial at inference.
        order: the last order that is kept, from 0; 1 makes an affine map of the network.

    Returns:
        A functional Keras model of the same inputs and outputs. It holds `model`, and so shares its weights; saved and
        loaded again, where `pinets_tf.analysis` was imported, it has weights of its own.

    Raises:
        NotPolynomial: if a layer is no polynomial or not known, or quantised, or known by its degree alone.
        ValueError: if `model` is not built or not functional, or if `order` is not a number from 0.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.analysis import truncate
    >>> from pinets_tf.models import resnet
    >>> network = resnet((8, 8, 1), classes=3, stage_blocks=(1, 1), order=2, width=2, gate=False)
    >>> affine, z = truncate(network, order=1), np.ones((1, 8, 8, 1), "float32")
    >>> np.allclose(affine(2 * z) - affine(z), affine(z) - affine(0 * z), atol=1e-5)
    True

    Source: ours.
    """
    check_polynomial(model)
    return Truncation(model, highest_order("order", order), name=f"{model.name}_up_to_order_{order}").alone()


@keras.saving.register_keras_serializable(package="pinets_tf")
class Truncation(ModelLayer):
    """The layer that `truncate` puts a model in.

    Args:
        model: the model, a polynomial at inference.
        order: the last order that is kept.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        That of the model.

    Output shape:
        That of the model.
    """

    def __init__(self, model, order, **kwargs):
        super().__init__(model, **kwargs)
        self.order = order

    def __call__(self, inputs, training=None, **kwargs):
        # Also in training: it reaches the layers inside through Keras's call context.
        return super().__call__(inputs, training=False, **kwargs)

    def call(self, inputs, training=None):
        tensors = as_inputs(self.model, inputs)
        on = HomogeneousParts(ops.shape(tensors[0])[0], self.order)
        outputs = on.outputs(self.model, [on.start(x) for x in tensors])
        return as_outputs(self.model, [functools.reduce(lambda x, y: x + y, on.full(x)) for x in outputs])

    def get_config(self):
        return {**super().get_config(), "order": self.order}
