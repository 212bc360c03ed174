"""What a classifier gets right and what it confuses, as a text and a picture."""

import os
from pathlib import Path

import numpy as np

from pinets_tf.files import shown
from pinets_tf.training.workdir import write_atomically

NUMBERS_UP_TO = 20
NAMES_UP_TO = 40
WORST = 3


def write_report(labels, scores, class_names, folder):
    """Writes precision and recall of each class and the confusion matrix, and returns a summary in a few lines.

    `report.txt` has the summary and the table of scikit-learn's `classification_report`; `confusion.png` has the
    confusion matrix, each row divided by the samples of its class. A sample belongs to the class of its highest score,
    the first of several; a score that is not a number counts as the lowest. Classes without samples are left out of the
    table and its averages, and are grey in the picture.

    Args:
        labels: integers in [0, classes) of shape `(n,)`.
        scores: class scores, such as logits or probabilities, of shape `(n, classes)`.
        class_names: a name for each class.
        folder: where to write; made if it does not exist.

    Returns:
        Lines for the terminal: top-1, top-5 where there are more than five classes, and the classes with the lowest
        recall with what they are taken for.

    Raises:
        ImportError: if scikit-learn or matplotlib is not installed.
        ValueError: if shapes, types or class numbers do not fit.

    Example:

    >>> import tempfile
    >>> scores = [[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 2.0, 1.0], [0.0, 1.0, 2.0]]
    >>> print(write_report([0, 1, 2, 2], scores, ["cat", "dog", "cow"], tempfile.mkdtemp()))
    top-1 0.750 of 4 samples
    lowest recall: cow 0.500 (taken for dog 0.500)
    """
    try:
        from sklearn.metrics import classification_report, confusion_matrix
    except ImportError as error:
        raise ImportError(
            "Classes are compared with scikit-learn. Received: it is not installed. Install it with: "
            "pip install 'pinets_tf[examples]'"
        ) from error
    labels, scores = _checked(np.asarray(labels), np.asarray(scores), class_names)
    names = [shown(str(name)) for name in class_names]
    every_class = np.arange(len(names))
    undefined = np.isnan(scores)
    scores = np.where(undefined, -np.inf, scores)
    predictions = scores.argmax(1)
    counts = confusion_matrix(labels, predictions, labels=every_class)
    samples = counts.sum(1)
    with np.errstate(invalid="ignore"):
        shares = counts / samples[:, None]

    present = every_class[samples > 0]
    lines = [", ".join(_top(labels, scores)) + f" of {len(labels):,} samples"]
    if undefined.any():
        lines.append(f"scores that are not numbers: in {undefined.any(1).sum():,} samples")
    lines += [f"lowest recall: {_confused(shares, index, names)}" for index in _worst(shares, present)]
    absent = [name for name, count in zip(names, samples) if count == 0]
    if absent:
        named = absent[:WORST] + ["..."] * (len(absent) > WORST)
        lines.append(f"without samples: {len(absent)} of {len(names)} classes ({', '.join(named)})")
    table = classification_report(
        labels, predictions, labels=present, target_names=[names[i] for i in present], digits=3, zero_division=0
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _draw(shares, names, folder / "confusion.png")
    write_atomically(folder / "report.txt", "\n".join(lines) + "\n\n" + table)
    return "\n".join(lines)


def _top(labels, scores):
    """Yields the share of samples whose class has the highest score, and one of the five highest."""
    own = np.take_along_axis(scores, labels[:, None], 1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    rank = ((scores > own) | ((scores == own) & earlier)).sum(1)
    for k in (1, 5):
        if k == 1 or scores.shape[1] > k:
            yield f"top-{k} {(rank < k).mean():.3f}"


def _worst(shares, present):
    recall = shares.diagonal()
    ordered = present[np.argsort(recall[present], kind="stable")]
    return [index for index in ordered[:WORST] if recall[index] < 1]


def _confused(shares, index, names):
    ordered = [other for other in np.argsort(-shares[index], kind="stable")[:3] if other != index]
    taken = [f"{names[other]} {shares[index, other]:.3f}" for other in ordered[:2] if shares[index, other] > 0]
    return f"{names[index]} {shares[index, index]:.3f} (taken for {', '.join(taken)})"


def _draw(shares, names, picture):
    try:
        from matplotlib.colors import PowerNorm
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib. Received: it is not installed. Install it with: "
            "pip install 'pinets_tf[examples]'"
        ) from error
    classes = len(names)
    side = min(max(4.5, 2.5 + 0.35 * classes), 12)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("0.9")
    # A power below 1 shows confusions of a few percent, which is what one looks for; single pixels need a lower one.
    norm = PowerNorm(0.5 if classes <= NAMES_UP_TO else 0.3, 0, 100)
    image = axes.imshow(100 * shares, cmap="Blues", norm=norm, interpolation="nearest")
    if classes <= NAMES_UP_TO:
        axes.set_xticks(range(classes), names, rotation=90)
        axes.set_yticks(range(classes), names)
    if classes <= NUMBERS_UP_TO:
        for (row, column), share in np.ndenumerate(100 * shares):
            if share >= 0.5:
                color = "white" if norm(share) > 0.6 else "black"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=color, fontsize=9)
    axes.set(xlabel="answer", ylabel="class")
    figure.colorbar(image, label="samples of the class, percent", shrink=0.8)
    partial = picture.with_name(picture.name + ".partial")
    figure.savefig(partial, dpi=130, format="png")
    os.replace(partial, picture)


def _checked(labels, scores, class_names):
    if scores.ndim != 2 or scores.shape[0] == 0 or not np.issubdtype(scores.dtype, np.floating):
        raise ValueError(
            "Scores must be floating-point numbers of shape (n, classes), n > 0. "
            f"Received: scores of shape {scores.shape} and type {scores.dtype}. Pass the output of the network."
        )
    if labels.shape != scores.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            "Labels must be one integer for each sample. "
            f"Received: labels of shape {labels.shape} and type {labels.dtype} for {len(scores)} samples. "
            "Pass class numbers, not one-hot vectors or names."
        )
    if len(class_names) != scores.shape[1]:
        raise ValueError(
            "Each class must have one name. "
            f"Received: {len(class_names)} names for {scores.shape[1]} scores a sample. Pass a name for each score."
        )
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"Labels must lie in 0 to {scores.shape[1] - 1} for {scores.shape[1]} classes. "
            f"Received: labels from {labels.min()} to {labels.max()}. Number the classes from 0 without gaps."
        )
    return labels, scores
