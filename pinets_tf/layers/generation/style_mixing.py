"""The styles of all layers of a StyleGAN, from one latent for each image."""

import math
import numbers

import keras
from keras import ops

from pinets_tf.layers.checks import positive_integer


@keras.saving.register_keras_serializable(package="pinets_tf")
class StyleMixing(keras.layers.Layer):
    """Repeats a latent w for every layer; mixes two of them in training, and pulls it to its average at inference.

    In training an image takes, with probability `mixing`, its styles from a random layer on from its neighbour in the
    batch; so the mapping network runs once. Karras et al. draw the second latent anew. The average of w moves by
    1 - `decay` of the way to the mean of each batch. At inference w becomes average + truncation * (w - average) in the
    first `truncated` layers.

    Args:
        styles: how many layers take a style.
        mixing: the probability of mixing, 0.9 in StyleGAN.
        decay: that of the average, 0.995 in StyleGAN.
        truncation: 1 leaves w as it is, 0 makes it the average.
        truncated: the number of layers, from the coarsest on, in which w is truncated; `None` for all.
        seed: an integer for the mixing; by default drawn from Python's random state.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, d)`.

    Output shape:
        `(batch, styles, d)`.

    Raises:
        ValueError: if `styles` is not a positive integer, or if a number is not between 0 and 1.

    Source: Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019, Sec. 3.1 and appendix B.
    """

    acts_as = "linear"

    def __init__(self, styles, *, mixing=0.9, decay=0.995, truncation=1.0, truncated=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        for name, value in (("mixing", mixing), ("decay", decay), ("truncation", truncation)):
            if not isinstance(value, numbers.Real) or not 0 <= float(value) <= 1:
                raise ValueError(f"`{name}` must be from 0 to 1. Received: {name}={value!r}. Pass {name}=1.0.")
        self.styles = positive_integer("styles", styles, "Pass the number of layers that take a style.")
        self.mixing = float(mixing)
        self.decay = float(decay)
        self.truncation = float(truncation)
        self.truncated = truncated
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        self.average = self.add_weight(
            shape=(input_shape[-1],), initializer="zeros", trainable=False, autocast=False, name="average"
        )

    def call(self, w, training=None):
        styles = ops.repeat(ops.expand_dims(w, 1), self.styles, axis=1)
        if training:
            self._move_average(w)
            return self._mixed(styles)
        if self.truncation == 1:
            return styles
        average = ops.cast(self.average, self.compute_dtype)
        pulled = ops.add(average, ops.multiply(ops.subtract(styles, average), self.truncation))
        return ops.where(self._numbers() < (self.styles if self.truncated is None else self.truncated), pulled, styles)

    def _numbers(self):
        return ops.reshape(ops.arange(self.styles, dtype="int32"), (1, -1, 1))

    def _move_average(self, w):
        average = ops.convert_to_tensor(self.average)
        mean = ops.mean(ops.cast(ops.stop_gradient(w), average.dtype), axis=0)
        self.average.assign(ops.add(average, ops.multiply(ops.subtract(mean, average), 1 - self.decay)))

    def _mixed(self, styles):
        if self.mixing == 0 or self.styles == 1:
            return styles
        shape = (ops.shape(styles)[0], 1, 1)
        first = keras.random.randint(shape, 1, self.styles, seed=self.seed_generator)
        mixes = keras.random.uniform(shape, seed=self.seed_generator) < self.mixing
        return ops.where(ops.logical_and(mixes, self._numbers() >= first), ops.roll(styles, 1, axis=0), styles)

    def multiply_adds(self, input_shape):
        return 0, 0 if self.truncation == 1 else self.styles * math.prod(input_shape)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.styles, input_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "styles": self.styles,
            "mixing": self.mixing,
            "decay": self.decay,
            "truncation": self.truncation,
            "truncated": self.truncated,
            "seed": self.seed,
        }
