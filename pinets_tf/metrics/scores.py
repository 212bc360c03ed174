"""Scores of generated images: features of each batch, FID, IS and KID, and the statement beside them."""

import dataclasses
import hashlib
import os

from pinets_tf.layers.checks import positive_integer
from pinets_tf.metrics.feature_statistics import FeatureStatistics
from pinets_tf.metrics.frechet_distance import frechet_distance
from pinets_tf.metrics.inception_2015 import Inception2015
from pinets_tf.metrics.inception_score import InceptionScore
from pinets_tf.metrics.kernel_distance import KernelInceptionDistance
from pinets_tf.metrics.pixels import checked_images
from pinets_tf.metrics.statement import Statement

ROUNDING = "uint8, before the network"


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores by name, such as `{"FID-EL0": 31.2, "IS-EL0": 5.3, "IS-EL0 deviation": 0.1}`, and what they are of."""

    values: dict[str, float]
    statement: Statement

    def __str__(self):
        return "\n".join([*(f"{name}: {value:.6g}" for name, value in self.values.items()), str(self.statement)])


def score_images(
    batches,
    extractor,
    reference,
    *,
    images,
    reference_split,
    averaged_weights,
    splits=10,
    reference_features=None,
    kernel_options=None,
):
    """Scores generated images by FID, Inception Score and KID.

    Of the images no more than a batch is in memory. The names of the scores come from the extractor: FID, IS and KID
    are those of `Inception2015`, others have its suffix, such as FID-EL0.

    Args:
        batches: an iterable of uint8 images (n, height, width, channels) with 1 or 3 channels, as arrays or tensors;
            it may be endless. Grey images are tiled to three channels.
        extractor: `Inception2015`, `EfficientNetLite0`, `KerasExtractor`, or a callable from such a batch to features
            (n, d) and logits (n, classes) or `None`, with the texts `suffix`, `network` and `resize`.
        reference: the `FeatureStatistics` of the reference images by the same extractor, or the path of their file.
        images: how many images are scored: the first ones of `batches`.
        reference_split: a text that says which images the reference is of, such as `"CIFAR-10 train"`.
        averaged_weights: whether the weights of the generator are averaged over training.
        splits: of the Inception Score; `None` leaves it out.
        reference_features: features (m, d) of reference images, for KID, or `None` to leave it out.
        kernel_options: a dict of arguments of `KernelInceptionDistance`: subsets, subset_size, seed.

    Returns:
        `Scores`.

    Raises:
        FileNotFoundError: if the file of the reference does not exist.
        ValueError: if there are fewer images than `images`, or copies of a batch, or not uint8; if the extractor has no
            logits and `splits` is not `None`; if the reference was made by another extractor; if part of the statement
            is missing.

    Example:

    >>> import keras, numpy as np
    >>> from pinets_tf.metrics import KerasExtractor, reference_statistics, score_images
    >>> colour = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])
    >>> extractor = KerasExtractor(colour, "-colour", resize="none", network="mean colour")
    >>> pixels = np.random.default_rng(0).integers(0, 256, (10, 20, 4, 4, 3)).astype("uint8")
    >>> reference = reference_statistics(pixels, extractor)
    >>> options = {"reference_split": "noise", "averaged_weights": False, "splits": None}
    >>> scores = score_images(pixels, extractor, reference, images=200, **options)
    >>> {name: round(value, 6) for name, value in scores.values.items()}
    {'FID-colour': 0.0}
    >>> print(scores.statement)
    network: mean colour; resize: none; rounding: uint8, before the network; images: 200; reference: noise (200 images);
    IS splits: no IS; weights: not averaged
    """
    suffix = _earned_suffix(extractor)
    images = positive_integer("images", images, "Pass how many images to score, such as 50000.")
    if not isinstance(reference, FeatureStatistics):
        if not isinstance(reference, (str, os.PathLike)):
            raise ValueError(
                "A reference is a FeatureStatistics, or the path of one. "
                f"Received: a {type(reference).__name__}. Make one with reference_statistics(batches, extractor)."
            )
        reference = FeatureStatistics.load(reference)
    if reference.source not in (None, source_of(extractor)):
        raise ValueError(
            "Reference and images go through the same extractor. "
            f"Received: a reference of {reference.source!r} for {source_of(extractor)!r}. "
            "Make the reference anew with reference_statistics(batches, extractor)."
        )
    if not isinstance(averaged_weights, bool):
        raise ValueError(
            "Scores say whether the weights of the generator are averaged. "
            f"Received: averaged_weights={averaged_weights!r}. Pass True or False."
        )
    size = "" if reference.count is None else f" ({reference.count:,} images)"
    # Before the images, which take hours, and not behind them.
    statement = Statement(
        network=extractor.network,
        resize=extractor.resize,
        rounding=ROUNDING,
        images=images,
        reference=reference_split and f"{reference_split}{size}",
        splits="no IS" if splits is None else splits,
        weights="averaged" if averaged_weights else "not averaged",
    )
    statistics = FeatureStatistics(source_of(extractor))
    inception = None if splits is None else InceptionScore(images, splits)
    kernel = None
    if reference_features is not None:
        kernel = KernelInceptionDistance(reference_features, **(kernel_options or {}))

    for features, logits in image_features(batches, extractor, images):
        statistics.update(features)
        if kernel is not None:
            kernel.update(features)
        if inception is not None:
            if logits is None:
                raise ValueError(
                    "An Inception Score is of class predictions. "
                    f"Received: an extractor without logits, {extractor.network}. Pass splits=None to leave it out."
                )
            inception.update(logits)

    values = {f"FID{suffix}": frechet_distance(statistics, reference)}
    for name, score in (("IS", inception), ("KID", kernel)):
        if score is not None:
            values[f"{name}{suffix}"], values[f"{name}{suffix} deviation"] = score.result()
    return Scores(values, statement)


def reference_statistics(batches, extractor, images=None):
    """Returns the `FeatureStatistics` of images, to score others against and to save.

    Args:
        batches: an iterable of uint8 images, as `score_images` takes it.
        extractor: as for `score_images`.
        images: how many to take, or `None` for all.
    """
    statistics = FeatureStatistics(source_of(extractor))
    for features, _ in image_features(batches, extractor, images):
        statistics.update(features)
    return statistics


def image_features(batches, extractor, images=None):
    """Yields features (n, d) and logits (n, classes), or `None`, of each batch, for the first `images` or all of them.

    Raises:
        ValueError: if there are fewer than `images`, or if a batch of several images comes a second time.
    """
    count, seen = 0, set[bytes]()
    for batch in batches:
        batch = checked_images(batch)
        mark = hashlib.sha256(batch.tobytes()).digest()
        if len(batch) > 1 and mark in seen:
            raise ValueError(
                "Scores are of different images, not of copies of a few. "
                f"Received: a batch of {len(batch)} images that came before, after {count:,} images. "
                "Draw new latents for each batch, and go through a dataset once."
            )
        seen.add(mark)
        # A remainder is cut from the outputs, so that the network sees batches of one size.
        features, logits = extractor(batch)
        kept = len(features) if images is None else min(len(features), images - count)
        count += kept
        yield features[:kept], None if logits is None else logits[:kept]
        if count == images:
            return
    if images is not None:
        raise ValueError(
            "There are as many images as are scored. "
            f"Received: {count:,} in `batches` for images={images:,}. Generate more, or pass images={count}."
        )


def source_of(extractor):
    """Returns the text by which statistics of one extractor are told from those of another."""
    return f"{extractor.network}; {extractor.resize}"


def _earned_suffix(extractor):
    if not extractor.suffix and not isinstance(extractor, Inception2015):
        raise ValueError(
            "FID, IS and KID without a suffix are scores of the 2015 Inception graph, which Inception2015 reads. "
            f"Received: {type(extractor).__name__} with suffix={extractor.suffix!r}. "
            "Give it one that names its network."
        )
    return extractor.suffix
