"""Mean and deviation of every vertex taken out of shapes, or put back."""

import math

import keras
import numpy as np
from keras import ops

from pinets_tf.layers.mesh.template_layer import TemplateLayer


@keras.saving.register_keras_serializable(package="pinets_tf")
class VertexStandardization(TemplateLayer):
    """Standardises every coordinate of every vertex with its own mean and deviation, or undoes that.

        y = (x - mean) / deviation, or y = deviation * x + mean with `invert`

    `keras.layers.Normalization` does the same and writes the arrays into the config; here they are stored with the
    weights. Where the deviation is zero, x - mean is not divided, and `invert` returns the mean.

    Float16: millimetres beside a mean of some hundreds need float32, `dtype="float32"`.

    Args:
        mean: an array (vertices, channels).
        deviation: an array of the same shape, not negative.
        invert: whether standardisation is undone.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, vertices, channels)`.

    Output shape:
        That of the input.

    Raises:
        ValueError: if the two arrays do not have the same shape of two axes, if a number is not finite or a deviation
            negative, or if the input has another number of vertices or channels.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import VertexStandardization
    >>> shapes = np.random.default_rng(0).normal(5, 2, size=(100, 7, 3))
    >>> y = VertexStandardization(shapes.mean(0), shapes.std(0))(shapes)
    >>> round(float(np.std(y)), 4)
    1.0

    Source: the data preparation of Bouritsas et al., "Neural 3D Morphable Models", ICCV 2019.
    """

    acts_as = "linear"

    def __init__(self, mean, deviation, invert=False, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(mean, dict):
            mean, deviation = np.asarray(mean), np.asarray(deviation)
            finite = mean.dtype.kind in "fiu" and np.isfinite(mean).all() and np.isfinite(deviation).all()
            if mean.ndim != 2 or mean.shape != deviation.shape or not finite or (deviation < 0).any():
                raise ValueError(
                    "`mean` and `deviation` must have the shape (vertices, channels), be finite, and the deviation not "
                    f"negative. Received: arrays of shape {mean.shape} and {deviation.shape}"
                    f"{'' if finite else ', not all finite'}. "
                    "Pass those of the training shapes, such as shapes.mean(0) and shapes.std(0)."
                )
        self.invert = bool(invert)
        self._set_tables(mean=(mean, "float32"), deviation=(deviation, "float32"))

    def build(self, input_shape):
        vertices, channels = self._table_shape("mean")
        self._check_vertices(input_shape, vertices)
        if input_shape[2] != channels:
            raise ValueError(
                f"Shapes to standardise have as many channels as their mean. Received: an input of shape "
                f"{tuple(input_shape)} for a mean of shape {(vertices, channels)}. Pass an input that fits."
            )
        self._build_tables()

    def call(self, x):
        mean, deviation = ops.cast(self.mean, x.dtype), ops.cast(self.deviation, x.dtype)
        if self.invert:
            return ops.add(ops.multiply(x, deviation), mean)
        return ops.divide(ops.subtract(x, mean), ops.where(deviation > 0, deviation, ops.ones_like(deviation)))

    def multiply_adds(self, input_shape):
        return 0, math.prod(input_shape)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "invert": self.invert}
