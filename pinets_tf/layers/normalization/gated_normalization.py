"""Normalisations whose output is multiplied with a learned gate, at the cost of a vector instead of a tensor."""

from typing import Any

import keras
from keras import ops

from pinets_tf.layers.normalization.batch_normalization import ProductAffine, ProductBatchNormalization


class _Gate(keras.layers.Layer):
    """Multiplies scale and offset of a Keras normalisation with a scalar `gate` that starts at zero.

    gate * (gamma * x + beta) = (gate * gamma) * x + gate * beta: the whole output need not be touched, nor kept for the
    gradient of the gate.
    """

    gate: Any = None

    def build(self, input_shape):
        super().build(input_shape)
        self.gate = self.add_weight(shape=(), initializer="zeros", name="gate", autocast=False)

    @property
    def gamma(self):
        return self._gated(self._gamma)

    @gamma.setter
    def gamma(self, value):
        self._gamma = value

    @property
    def beta(self):
        return self._gated(self._beta)

    @beta.setter
    def beta(self, value):
        self._beta = value

    def _gated(self, value):
        return value if value is None or self.gate is None else ops.multiply(value, self.gate)


class GatedProductBatchNormalization(_Gate, ProductBatchNormalization):
    """gate * BatchNormalization(factor * x)."""


class GatedProductAffine(_Gate, ProductAffine):
    """gate * (scale * factor * x + offset)."""

    def set_map(self, scale, offset):
        self.gate.assign(1)
        self._gamma.assign(scale)
        self._beta.assign(offset)


class GatedLayerNormalization(_Gate, keras.layers.LayerNormalization):
    """gate * LayerNormalization(x)."""


class GatedGroupNormalization(_Gate, keras.layers.GroupNormalization):
    """gate * GroupNormalization(x)."""
