"""Adam whose weight decay is part of the gradient, as the recipe for meshes has it."""

import math

import keras
from keras import ops

from pinets_tf._keras import has_weight_decay


@keras.saving.register_keras_serializable(package="pinets_tf")
class CoupledAdam(keras.optimizers.Adam):
    """Adam with L2 weight decay that goes through both moments.

        g <- g + l2 * w,    then a step of Adam with g

    `keras.optimizers.Adam(weight_decay=...)` subtracts learning_rate * weight_decay * w beside the step, as AdamW does.
    A regularizer of Keras reaches only weights of layers that take one, and would be part of the loss that is shown.

    Args:
        learning_rate, epsilon: those of `keras.optimizers.Adam`.
        l2: the weight decay of the recipe, applied to every trainable variable but those that
            `exclude_from_weight_decay` names, such as `normalization_variables(network)`.
        **kwargs: those of `keras.optimizers.Adam`.

    Raises:
        ValueError: if `l2` is negative.
    """

    def __init__(self, learning_rate=0.001, l2=0.0, epsilon=1e-8, **kwargs):
        super().__init__(learning_rate, epsilon=epsilon, **kwargs)
        if not 0 <= l2 < math.inf:
            raise ValueError(f"`l2` must be 0 or more. Received: l2={l2!r}. Pass a small number such as l2=5e-5.")
        self.l2 = float(l2)

    def update_step(self, gradient, variable, learning_rate):
        if self.l2 and has_weight_decay(self, variable):
            gradient = ops.add(ops.cast(gradient, variable.dtype), ops.multiply(variable, self.l2))
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}
