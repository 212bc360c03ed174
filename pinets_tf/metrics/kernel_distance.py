"""The Kernel Inception Distance of features that come in batches."""

import warnings

import numpy as np

from pinets_tf.layers.checks import positive_integer
from pinets_tf.metrics.feature_statistics import checked_features


class KernelInceptionDistance:
    """Kernel Inception Distance: unbiased squared MMD with a polynomial kernel, mean and deviation over subsets.

        k(x, y) = (x . y / d + 1)^3
        KID     = mean of k(x, x') + mean of k(y, y') - 2 mean of k(x, y),   without pairs of a vector with itself

    It is right on average for any number of images, where the Fréchet distance is too large, and may be below zero.
    Subsets are drawn without replacement from the images and from the reference. Sums are float64. All features are
    kept, in float32: 4 n d bytes, 410 MB for 50,000 images of 2,048 features, twice that for a moment when they are put
    together, and as much for the reference.

    Args:
        reference: features of the reference, (n, d).
        subsets: how many subsets the distance is averaged over.
        subset_size: how many features of each side a subset has.
        seed: an integer, from which the subsets follow.

    Raises:
        ValueError: if numbers are not positive integers, if features are not (n, d) or not finite, or if there are
            fewer than two on either side.

    Warns:
        UserWarning: if there are fewer images than `subset_size` on a side; subsets are then that much smaller.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.metrics import KernelInceptionDistance
    >>> features = np.random.default_rng(0).normal(size=(300, 8))
    >>> distance = KernelInceptionDistance(features[:100], subsets=10, subset_size=100)
    >>> distance.update(features[100:200] + 2.0)
    >>> distance.update(features[200:] + 2.0)
    >>> mean, deviation = distance.result()
    >>> mean > 10 * deviation
    True

    Source: Bińkowski et al., "Demystifying MMD GANs", ICLR 2018.
    """

    def __init__(self, reference, *, subsets=100, subset_size=1000, seed=0):
        self.reference = checked_features(reference).astype("float32")
        self.subsets = positive_integer("subsets", subsets, "Pass 100 for distances as they are published.")
        self.subset_size = positive_integer(
            "subset_size", subset_size, "Pass 1000 for distances as they are published."
        )
        self.seed = seed
        self._batches = []

    def update(self, features):
        """Adds features, an array or a tensor of shape (n, d)."""
        self._batches.append(checked_features(features, self.reference.shape[1]).astype("float32"))

    def result(self):
        """Returns mean and deviation over the subsets, two floats."""
        features = np.concatenate(self._batches or [self.reference[:0]])
        self._batches = [features]
        count = min(len(features), len(self.reference))
        if count < 2:
            raise ValueError(
                "A kernel distance is between two images or more. "
                f"Received: {len(features)} for a reference of {len(self.reference)}. Pass features to `update` first."
            )
        size = min(self.subset_size, count)
        if size < max(self.subset_size, 2):
            warnings.warn(
                f"A subset has {self.subset_size} images of each side. Received: {len(features)} for a reference of "
                f"{len(self.reference)}. Subsets have {size} here, which widens the deviation; score more images, or "
                f"pass subset_size={size}.",
                UserWarning,
                stacklevel=2,
            )
        random = np.random.default_rng(self.seed)
        distances = [
            squared_mmd(*(side[random.choice(len(side), size, replace=False)] for side in (features, self.reference)))
            for _ in range(self.subsets)
        ]
        return float(np.mean(distances)), float(np.std(distances))


def squared_mmd(x, y):
    """Returns the unbiased squared maximum mean discrepancy of two arrays (m, d), with the kernel of KID."""
    both = np.concatenate([x, y]).astype("float64")
    products = both @ both.T
    products /= both.shape[1]
    products += 1
    # The third power by multiplication; NumPy's is many times slower.
    kernel = products * products * products
    m, n = len(x), len(y)
    within = (kernel[:m, :m].sum() - np.trace(kernel[:m, :m])) / (m * (m - 1))
    within += (kernel[m:, m:].sum() - np.trace(kernel[m:, m:])) / (n * (n - 1))
    return within - 2 * kernel[:m, m:].mean()
