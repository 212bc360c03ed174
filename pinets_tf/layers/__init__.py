"""Polynomial layers: one recursion, with the decompositions of the paper as its cases."""

# Layers of StyleGAN that are not public, and must be known where a saved one is loaded.
from pinets_tf.layers.audio.log_mel_spectrogram import LogMelSpectrogram
from pinets_tf.layers.generation import (  # noqa: F401
    fade,
    learned_constant,
    minibatch_deviation,
    noise_injection,
    style_mixing,
)
from pinets_tf.layers.generation.equalized_learning_rate import EqualizedLearningRate
from pinets_tf.layers.generation.spectral_normalization import SpectralNormalization
from pinets_tf.layers.mesh.feast_conv import FeaStConv
from pinets_tf.layers.mesh.gat_conv import GATConv
from pinets_tf.layers.mesh.gmm_conv import GMMConv
from pinets_tf.layers.mesh.spiral_conv import SpiralConv
from pinets_tf.layers.mesh.spiral_polynomial import SpiralPolynomial
from pinets_tf.layers.mesh.vertex_resample import VertexResample
from pinets_tf.layers.normalization.batch_normalization import BatchNormalization
from pinets_tf.layers.normalization.vertex_standardization import VertexStandardization
from pinets_tf.layers.polynomial.ccp import CCP
from pinets_tf.layers.polynomial.decomposition import Polynomial
from pinets_tf.layers.polynomial.injection import Injection
from pinets_tf.layers.polynomial.ncp import NCP
from pinets_tf.layers.polynomial.ncp_skip import NCPSkip
from pinets_tf.layers.polynomial.polynomial_residual import PolynomialResidual
from pinets_tf.layers.polynomial.pooled_product import PooledProduct
from pinets_tf.layers.polynomial.prod_poly import ProdPoly

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
    "Polynomial",
    "PolynomialResidual",
    "PooledProduct",
    "ProdPoly",
    "SpectralNormalization",
    "SpiralConv",
    "SpiralPolynomial",
    "VertexResample",
    "VertexStandardization",
]
