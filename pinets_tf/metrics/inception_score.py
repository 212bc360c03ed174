"""The Inception Score of class predictions that come in batches."""

import numpy as np
from keras import ops

from pinets_tf.layers.checks import positive_integer


class InceptionScore:
    """Inception Score: mean and deviation over splits, float64, of which only sums over each split are kept.

        IS = exp(mean over a split of KL(p(y|x) || p(y))),   p(y) the mean of p(y|x) over the split
           = exp(mean of sum_y p log p  -  sum_y p(y) log p(y))

    The images are taken in their order, and split i of s has those from floor(i n / s) to floor((i + 1) n / s), as in
    the script that published scores come from; so the number of images n is needed beforehand. Images that come sorted
    by class have to be shuffled. The deviation is that of the splits (divided by s, not by s - 1).

    Args:
        images: n, how many images there will be.
        splits: s.

    Raises:
        ValueError: if the numbers are not positive integers, or there are fewer images than splits; if predictions are
            not (n, classes), not finite, no probabilities, or more than `images`; if the score is asked for too early.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.metrics import InceptionScore
    >>> score = InceptionScore(images=40, splits=10)
    >>> for _ in range(10):
    ...     score.update(np.eye(4), probabilities=True)
    >>> mean, deviation = score.result()
    >>> round(mean, 6), round(deviation, 6)
    (4.0, 0.0)

    Source: Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016.
    """

    def __init__(self, images, splits=10):
        self.images = positive_integer("images", images, "Pass how many images will be scored.")
        self.splits = positive_integer("splits", splits, "Pass 10 for scores as they are published.")
        if self.images < self.splits:
            raise ValueError(
                "Every split has an image. "
                f"Received: images={images} for splits={splits}. Score more images, or in fewer splits."
            )
        self.count = 0
        self._ends = [(i + 1) * self.images // self.splits for i in range(self.splits)]
        self._classes = None
        self._negative_entropy = np.zeros(self.splits)

    def update(self, predictions, *, probabilities=False):
        """Adds predictions (n, classes): logits, or with `probabilities=True` what a softmax made of them."""
        predictions = ops.convert_to_numpy(predictions).astype("float64")
        classes = None if self._classes is None else self._classes.shape[1]
        if predictions.ndim != 2 or predictions.shape[1] < 2 or classes not in (None, predictions.shape[1]):
            raise ValueError(
                f"Predictions are of shape (n, {classes or 'classes'}). "
                f"Received: shape {predictions.shape}. Pass the logits of one network."
            )
        if self.count + len(predictions) > self.images:
            raise ValueError(
                f"The splits were made for {self.images} images. "
                f"Received: {self.count + len(predictions)}. Pass images={self.count + len(predictions)}."
            )
        p = _checked_probabilities(predictions) if probabilities else _softmax(predictions)
        if self._classes is None:
            self._classes = np.zeros((self.splits, p.shape[1]))
        # 0 log 0 is 0.
        negative_entropy = (p * np.log(np.where(p > 0, p, 1.0))).sum(1)
        splits = np.searchsorted(self._ends, np.arange(self.count, self.count + len(p)), side="right")
        for split in np.unique(splits):
            self._classes[split] += p[splits == split].sum(0)
            self._negative_entropy[split] += negative_entropy[splits == split].sum()
        self.count += len(p)

    def result(self):
        """Returns mean and deviation over the splits, two floats."""
        if self.count < self.images:
            raise ValueError(
                f"The score is that of all {self.images} images. "
                f"Received: {self.count} so far. Add the others, or pass images={self.count} from the start."
            )
        sizes = np.diff([0, *self._ends])
        mean = self._classes / sizes[:, None]
        divergence = self._negative_entropy / sizes - (mean * np.log(np.where(mean > 0, mean, 1.0))).sum(1)
        scores = np.exp(divergence)
        return float(scores.mean()), float(scores.std())


def _softmax(logits):
    largest = logits.max(1, keepdims=True)
    # A logit of minus infinity is a probability of zero.
    if not np.isfinite(largest).all() or np.isnan(logits).any():
        raise ValueError(
            "Logits are numbers below infinity. "
            f"Received: {np.count_nonzero(~np.isfinite(largest[:, 0]))} of {len(logits)} rows without. "
            "Look at the images and at the weights of the network."
        )
    p = np.exp(logits - largest)
    return p / p.sum(1, keepdims=True)


def _checked_probabilities(p):
    # Not the negation of the comparisons, which a NaN would pass.
    if not ((p >= 0).all() and (abs(p.sum(1) - 1) < 1e-2).all()):
        raise ValueError(
            "Probabilities are not negative and sum to 1. "
            f"Received: numbers from {p.min():.3g} to {p.max():.3g}, sums from {p.sum(1).min():.3g} to "
            f"{p.sum(1).max():.3g}. Pass logits without probabilities=True."
        )
    return p / p.sum(1, keepdims=True)
