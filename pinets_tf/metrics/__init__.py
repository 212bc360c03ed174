"""Scores of generated images: FID, Inception Score and KID, of a network that is an argument, on every Keras backend.

`score_images` is the way in. FID, IS and KID are names of scores by `Inception2015`; other networks have a suffix.
"""

from pinets_tf.metrics.efficientnet_lite0 import EfficientNetLite0
from pinets_tf.metrics.feature_statistics import FeatureStatistics
from pinets_tf.metrics.frechet_distance import frechet_distance
from pinets_tf.metrics.inception_2015 import Inception2015
from pinets_tf.metrics.inception_score import InceptionScore
from pinets_tf.metrics.keras_extractor import KerasExtractor
from pinets_tf.metrics.kernel_distance import KernelInceptionDistance
from pinets_tf.metrics.pixels import to_uint8
from pinets_tf.metrics.scores import Scores, image_features, reference_statistics, score_images
from pinets_tf.metrics.statement import Statement

__all__ = [
    "EfficientNetLite0",
    "FeatureStatistics",
    "Inception2015",
    "InceptionScore",
    "KerasExtractor",
    "KernelInceptionDistance",
    "Scores",
    "Statement",
    "frechet_distance",
    "image_features",
    "reference_statistics",
    "score_images",
    "to_uint8",
]
