"""Noise that a generator scales for each channel, as StyleGAN does."""

import zlib

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="pinets_tf")
class NoiseInjection(keras.layers.Layer):
    """Adds noise, one number for each position, times a learned strength of each channel: x + strength * noise.

    In training the noise is drawn anew for every image. At inference there is none, or with `fixed_seed` the same for
    all images. Strengths start at zero.

    Args:
        fixed_seed: `None`, or an integer from which the noise at inference is drawn, together with the layer's name:
            what `randomize_noise=False` is in the code of Karras et al.
        seed: an integer for the noise in training; by default drawn from Python's random state.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, of known height and width with `fixed_seed`.

    Output shape:
        That of the input.

    Raises:
        ValueError: with `fixed_seed`, if the height or width of the input is not known.

    Source: Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019.
    """

    acts_as = "linear"
    multiplies = False

    def __init__(self, fixed_seed=None, *, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.fixed_seed = fixed_seed
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        if self.fixed_seed is not None and None in input_shape[1:]:
            raise ValueError(
                "Noise that is the same for all images is drawn for positions that are known. "
                f"Received: fixed_seed={self.fixed_seed!r} with an input of shape {tuple(input_shape)}. "
                "Give height and width, or pass fixed_seed=None."
            )
        self.strength = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="strength")

    def call(self, x, training=None):
        if training:
            shape = (*ops.shape(x)[:-1], 1)
            noise = keras.random.normal(shape, dtype=self.compute_dtype, seed=self.seed_generator)
        elif self.fixed_seed is not None:
            # NumPy's, so that the noise does not depend on the backend.
            rng = np.random.default_rng((self.fixed_seed, zlib.crc32(self.name.encode())))
            noise = ops.convert_to_tensor(rng.normal(size=(1, *x.shape[1:-1], 1)), self.compute_dtype)
        else:
            return x
        return ops.add(x, ops.multiply(noise, self.strength))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "fixed_seed": self.fixed_seed, "seed": self.seed}
