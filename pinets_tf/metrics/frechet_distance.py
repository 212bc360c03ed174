"""The Fréchet distance of two normal distributions, which is FID where features are those of the 2015 Inception."""

import warnings

import numpy as np


def frechet_distance(first, second):
    """Returns the squared Fréchet (2-Wasserstein) distance of two normal distributions.

        |mu_1 - mu_2|^2 + tr(S_1) + tr(S_2) - 2 tr((S_1^(1/2) S_2 S_1^(1/2))^(1/2))

    The last trace is the sum of the singular values of F_1^T F_2, where S = F F^T from the eigenvectors of S. This is
    real, and right for singular covariances, without the general square root of the product S_1 S_2, and without
    squaring, which halves the digits of small eigenvalues. Everything is float64.

    The distance of samples is too large on average, the more so the fewer images there are; compare distances of the
    same number of images alone.

    Args:
        first: a `FeatureStatistics`.
        second: another one, of as many features.

    Returns:
        A float.

    Warns:
        UserWarning: if either has fewer images than features + 1, or a singular covariance.

    Raises:
        ValueError: if the numbers of features differ, or there are fewer than two images.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.metrics import FeatureStatistics, frechet_distance
    >>> first = FeatureStatistics.of(np.zeros(2), np.diag([1.0, 4.0]))
    >>> round(frechet_distance(first, FeatureStatistics.of(np.ones(2), np.diag([9.0, 4.0]))), 6)
    6.0

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
    NeurIPS 2017.
    """
    if first.features != second.features:
        raise ValueError(
            "A distance is between features of one network. "
            f"Received: {first.features} and {second.features} features. Extract both with the same extractor."
        )
    roots = []
    for name, statistics in (("first", first), ("second", second)):
        roots.append(statistics.root())
        _warn(name, statistics, roots[-1].shape[1])
    means = np.square(first.mean - second.mean).sum()
    # Traces of what the roots hold, so that equal covariances cancel.
    traces = sum(np.square(root).sum() for root in roots)
    shared = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum() if min(map(np.size, roots)) else 0.0
    return float(max(means + traces - 2 * shared, 0.0))


def _warn(name, statistics, rank):
    features, count = statistics.features, statistics.count
    if count is not None and count <= features:
        warnings.warn(
            f"A covariance of {features} features needs at least {features + 1} images. Received: {count} in the "
            f"{name} statistics. The distance is right for these images, but above that of many; take more, or use the "
            "kernel distance (KID).",
            UserWarning,
            stacklevel=3,
        )
    elif rank < features:
        warnings.warn(
            f"A covariance of {features} features has the rank {features}. Received: rank {rank} in the {name} "
            "statistics. The distance is right; if the features should not depend on each other, look at the images, "
            "which may be all alike, and at the network.",
            UserWarning,
            stacklevel=3,
        )
