"""Functions that return the networks of the paper as plain functional Keras models, and make them quicker."""

from pinets_tf.models.folding import fold_normalization
from pinets_tf.models.linear_generator import linear_generator
from pinets_tf.models.mel_front_end import mel_front_end, mel_mean_and_variance
from pinets_tf.models.mesh_autoencoder import mesh_autoencoder
from pinets_tf.models.resnet import resnet
from pinets_tf.models.sngan import sngan_discriminator, sngan_generator
from pinets_tf.models.stylegan import (
    carry_weights,
    stylegan_discriminator,
    stylegan_generator,
    stylegan_mapping,
    stylegan_synthesis,
)

__all__ = [
    "carry_weights",
    "fold_normalization",
    "linear_generator",
    "mel_front_end",
    "mel_mean_and_variance",
    "mesh_autoencoder",
    "resnet",
    "sngan_discriminator",
    "sngan_generator",
    "stylegan_discriminator",
    "stylegan_generator",
    "stylegan_mapping",
    "stylegan_synthesis",
]
