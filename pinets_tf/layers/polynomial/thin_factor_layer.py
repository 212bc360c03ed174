"""The base of layers whose factors are copies of one layer, of vectors for all positions of a map (Sec. 5.1)."""

import keras

from pinets_tf.layers.checks import one_of
from pinets_tf.layers.polynomial.horner import HornerLayer


class ThinFactorLayer(HornerLayer):
    """A layer that multiplies maps with thin factors: with vectors that are the same at every position.

    Args:
        factor: the layer that is copied for the factors.
        order: N, as in `HornerLayer`.
        data_format: that of the maps, `"channels_last"` or `"channels_first"`; by default that of the Keras
            configuration.
        **kwargs: those of `HornerLayer`.
    """

    def __init__(self, factor, order, *, data_format=None, **kwargs):
        super().__init__(order, **kwargs)
        data_format = keras.config.image_data_format() if data_format is None else data_format
        self.data_format = one_of("data_format", data_format, ("channels_last", "channels_first"))
        self.channel_axis = -1 if self.data_format == "channels_last" else 1
        self._keep_untracked(factor=factor)
        # How many axes the map has.
        self._rank = 0

    @property
    def _positions(self):
        """The axes between batch and channels, of a layer that is built."""
        first = 1 if self.channel_axis == -1 else 2
        return tuple(range(first, first + self._rank - 2))

    def get_config(self):
        factor = keras.saving.serialize_keras_object(self.factor)
        return {**super().get_config(), "factor": factor, "data_format": self.data_format}
