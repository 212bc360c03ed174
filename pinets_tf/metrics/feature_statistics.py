"""Mean and covariance of features that come in batches."""

from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from pinets_tf.npz import Npz, write_npz

BLOCK_ROWS = 1024
WANTED = "an .npz file with the arrays mu (d,) and sigma (d, d)"


class FeatureStatistics:
    """Mean and unbiased covariance of features, float64, of which only a block of rows is kept at a time.

        mu    = mean of x_i
        sigma = sum of (x_i - mu) (x_i - mu)^T / (n - 1)

    Blocks are centred on their own means and joined by the pairwise rule of Chan, Golub and LeVeque, so that a mean
    that is large beside the deviation costs no digits.

    Args:
        source: a text that says which network and resizing the features are of. It is saved with the statistics, and
            scores refuse statistics of another one; `None` is not compared.

    Raises:
        ValueError: if features are not of shape (n, d) with the d of those before, or not finite; if mean or covariance
            are asked for before there are enough features.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.metrics import FeatureStatistics
    >>> statistics = FeatureStatistics()
    >>> statistics.update(np.array([[0.0, 1.0], [2.0, 1.0]]))
    >>> statistics.update(np.array([[4.0, 4.0]]))
    >>> statistics.count, statistics.mean
    (3, array([2., 2.]))
    >>> statistics.covariance
    array([[4., 3.],
           [3., 3.]])
    """

    def __init__(self, source=None):
        self.source = source
        self._count = 0
        # Arrays from the first update on.
        self._mean: Any = None
        self._scatter: Any = None
        self._block: Any = None
        self._root: Any = None
        self._filled = 0

    def update(self, features):
        """Adds features, an array or a tensor of shape (n, d)."""
        if self._count is None:
            raise ValueError(
                "Statistics go on where the number of their features is known. Received: more features for statistics "
                "from a file without `count`. Begin anew with FeatureStatistics()."
            )
        features = checked_features(features, self.features)
        if self._block is None:
            self._start(features.shape[1])
        self._root = None
        while len(features):
            taken = features[: BLOCK_ROWS - self._filled]
            self._block[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            features = features[len(taken) :]
            if self._filled == BLOCK_ROWS:
                self._join()

    @property
    def count(self):
        """How many features there are, or `None` where a file does not say."""
        return None if self._count is None else self._count + self._filled

    @property
    def features(self):
        """d, or `None` before the first update."""
        return None if self._mean is None else len(self._mean)

    @property
    def mean(self):
        """The mean, float64 of shape (d,)."""
        self._need(1, "A mean")
        return self._mean.copy()

    @property
    def covariance(self):
        """The covariance, float64 of shape (d, d), divided by n - 1."""
        self._need(2, "A covariance")
        return self._scatter.copy() if self._count is None else self._scatter / (self._count - 1)

    def root(self):
        """Returns F of shape (d, r) with F F^T the covariance, and r its rank; kept until the next update."""
        self._need(2, "A covariance")
        if self._root is None:
            values, vectors = np.linalg.eigh(self.covariance)
            # What is below is rounding; its square root would not be.
            kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
            self._root = vectors[:, kept] * np.sqrt(values[kept])
        return self._root

    def save(self, path):
        """Writes an `.npz` file with `mu` and `sigma`, which other tools read, and with `count` and `source`.

        Whoever reads at the same time sees the old file, or none, or the whole new one.

        Raises:
            ValueError: if the name of the file does not end in .npz, or there are not enough features.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"Statistics are saved as an .npz file. Received: {path}. Let the path end in .npz.")
        arrays = {"mu": self.mean, "sigma": self.covariance}
        if self._count is not None:
            arrays["count"] = np.array(self._count)
        if self.source is not None:
            arrays["source"] = np.array(self.source)
        write_npz(path, **arrays)

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote, or a file of another tool with `mu` and `sigma` alone.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it cannot be read, an array is missing, or shapes and numbers are no mean and covariance.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"Statistics are {WANTED}. Received: {path.name!r}, which is not in {path.resolve().parent}. "
                "Pass the path of one that exists, or make it with reference_statistics."
            )
        with Npz(path, f"Statistics are {WANTED}") as file:
            arrays = {name: file[name] for name in ("mu", "sigma", "count", "source") if name in file.names}
        missing = [name for name in ("mu", "sigma") if name not in arrays]
        if missing:
            raise ValueError(
                f"Statistics are {WANTED}. Received: {path} without {' and '.join(missing)}. "
                "Pass the statistics of features, not features or images."
            )
        count = arrays.get("count")
        if count is not None and (count.shape != () or count.dtype.kind not in "iu"):
            raise ValueError(
                f"The number of features is one integer. Received: count of shape {count.shape} and type {count.dtype} "
                f"in {path}. Save it as one, or leave it out where it is not known."
            )
        count = None if count is None else int(count)
        source = str(arrays["source"]) if "source" in arrays else None
        try:
            return cls.of(arrays["mu"], arrays["sigma"], count, source)
        except ValueError as error:
            raise ValueError(f"{error} (in {path})") from error

    @classmethod
    def of(cls, mean, covariance, count=None, source=None):
        """Returns statistics of a mean (d,) and a covariance (d, d), of `count` features where that is known."""
        mean, covariance = np.array(mean), np.array(covariance)
        fits = mean.ndim == 1 and len(mean) and covariance.shape == (len(mean), len(mean))
        numbers = fits and all(np.issubdtype(array.dtype, np.floating) for array in (mean, covariance))
        if not numbers or not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError(
                "A mean is an array (d,) and a covariance one of (d, d), of finite floating point numbers. Received: "
                f"shapes {mean.shape} and {covariance.shape}, types {mean.dtype} and {covariance.dtype}"
                f"{', with numbers that are not finite' if numbers else ''}. Compute the statistics again."
            )
        mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
        if not np.allclose(covariance, covariance.T, rtol=1e-3, atol=1e-6 * abs(covariance).max()):
            raise ValueError(
                "A covariance is symmetric. Received: one that differs from its transpose by "
                f"{abs(covariance - covariance.T).max():.3g}. Compute the statistics again."
            )
        if count is not None and count < 2:
            raise ValueError(
                "A covariance is of at least two features. "
                f"Received: count={count}. Pass the number of features, or None where it is not known."
            )
        statistics = cls(source)
        statistics._start(len(mean))
        statistics._count, statistics._mean = count, mean
        with np.errstate(over="ignore"):
            statistics._scatter = (covariance / 2 + covariance.T / 2) * (1 if count is None else count - 1)
        if not np.isfinite(statistics._scatter).all():
            raise ValueError(
                "A covariance times the number of features is finite in float64. "
                f"Received: numbers up to {abs(covariance).max():.3g} and count={count}. Compute the statistics again."
            )
        return statistics

    def _start(self, features):
        self._mean = np.zeros(features)
        self._scatter = np.zeros((features, features))
        # One row more, for the difference of two means.
        self._block = np.empty((BLOCK_ROWS + 1, features))

    def _join(self):
        """Joins the rows of the block with those before."""
        new, old, total = self._filled, self._count, self._filled + self._count
        rows = self._block[: new + 1]
        mean = rows[:new].mean(0)
        rows[:new] -= mean
        difference = mean - self._mean
        rows[new] = difference * np.sqrt(old * new / total)
        self._scatter += rows.T @ rows
        self._mean = self._mean + difference * (new / total)
        self._count, self._filled = total, 0

    def _need(self, count, what):
        if self._filled:
            self._join()
        if self._count is not None and self._count < count:
            raise ValueError(
                f"{what} is of at least {count} feature{'s' * (count > 1)}. Received: {self._count}. "
                "Pass features to `update` first."
            )


def checked_features(features, expected=None):
    """Returns features as a NumPy array (n, d) of finite numbers, or raises a `ValueError`."""
    features = ops.convert_to_numpy(features)
    if features.ndim != 2 or features.shape[1] == 0 or expected not in (None, features.shape[1]):
        raise ValueError(
            f"Features are of shape (n, {'d' if expected is None else expected}). Received: shape {features.shape}. "
            "Pool over positions, and take features of one network."
        )
    if not np.isfinite(features).all():
        raise ValueError(
            "Features are finite numbers. "
            f"Received: {np.count_nonzero(~np.isfinite(features).all(1))} of {len(features)} rows with others. "
            "Look at the images and at the weights of the network."
        )
    return features
