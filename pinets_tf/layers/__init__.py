"""Polynomial layers: one recursion, with the decompositions of the paper as its cases."""

from pinets_tf.layers.batch_normalization import BatchNormalization
from pinets_tf.layers.ccp import CCP
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
