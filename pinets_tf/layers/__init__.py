"""Polynomial layers: one recursion, with the decompositions of the paper as its cases."""

# Layers of StyleGAN that are not public, and must be known where a saved one is loaded.
from pinets_tf.layers import fade, learned_constant, minibatch_deviation, noise_injection, style_mixing  # noqa: F401
from pinets_tf.layers.batch_normalization import BatchNormalization
from pinets_tf.layers.ccp import CCP
from pinets_tf.layers.equalized_learning_rate import EqualizedLearningRate
from pinets_tf.layers.feast_conv import FeaStConv
from pinets_tf.layers.gat_conv import GATConv
from pinets_tf.layers.gmm_conv import GMMConv
from pinets_tf.layers.injection import Injection
from pinets_tf.layers.log_mel_spectrogram import LogMelSpectrogram
from pinets_tf.layers.ncp import NCP
from pinets_tf.layers.ncp_skip import NCPSkip
from pinets_tf.layers.polynomial_residual import PolynomialResidual
from pinets_tf.layers.pooled_product import PooledProduct
from pinets_tf.layers.prod_poly import ProdPoly
from pinets_tf.layers.spectral_normalization import SpectralNormalization
from pinets_tf.layers.spiral_conv import SpiralConv
from pinets_tf.layers.spiral_polynomial import SpiralPolynomial
from pinets_tf.layers.vertex_resample import VertexResample
from pinets_tf.layers.vertex_standardization import VertexStandardization

__all__ = [
    "CCP",
    "NCP",
    "BatchNormalization",
    "EqualizedLearningRate",
    "FeaStConv",
    "GATConv",
    "GMMConv",
    "Injection",
    "LogMelSpectrogram",
    "NCPSkip",
    "PolynomialResidual",
    "PooledProduct",
    "ProdPoly",
    "SpectralNormalization",
    "SpiralConv",
    "SpiralPolynomial",
    "VertexResample",
    "VertexStandardization",
]
