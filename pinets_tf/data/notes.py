"""What a user should know of a data set before training starts, since it is allowed and seldom meant: a line each."""

import numpy as np

NAMED = 5


def of_labels(train, test, class_names):
    """Returns notes on labels, integers of two splits."""
    counts = {split: np.bincount(y, minlength=len(class_names)) for split, y in (("training", train), ("test", test))}
    notes = []
    for split, count in counts.items():
        if (count == 0).any():
            absent = np.flatnonzero(count == 0)
            from_zero = split == "training" and absent[0] == 0
            lowest = f"; the lowest label is {train.min()}, and labels count from 0" if from_zero else ""
            notes.append(
                f"{len(absent):,} of {len(class_names):,} classes have no {split} image: "
                f"{_listed([class_names[label] for label in absent])}{lowest}"
            )
    unseen = np.flatnonzero((counts["training"] == 0) & (counts["test"] > 0))
    if len(unseen):
        names = _listed([class_names[label] for label in unseen])
        notes.append(f"{counts['test'][unseen].sum():,} test images are of classes without training images: {names}")
    return notes


def of_pixels(x, split):
    """Returns notes on uint8 pictures (n, height, width, channels)."""
    flat = x.reshape(len(x), -1)
    low, high = flat.min(1), flat.max(1)
    constant = np.flatnonzero(low == high)
    notes = []
    if high.max() <= 1:
        notes.append(f"all {split} images have grey levels 0 and 1 alone, of 0 to 255: multiply them by 255")
    if len(constant):
        notes.append(f"{len(constant):,} {split} images show one colour and nothing else: numbers {_listed(constant)}")
    return notes


def of_copies(train, test):
    """Returns notes on test pictures that are training pictures too."""
    if train.shape[1:] != test.shape[1:]:
        return []
    # Hashes, since the pictures themselves would take the memory of the set again.
    known = {hash(picture.tobytes()) for picture in train}
    copies = [number for number, picture in enumerate(test) if hash(picture.tobytes()) in known]
    if not copies:
        return []
    return [f"{len(copies):,} of {len(test):,} test images are training images too: numbers {_listed(copies)}"]


def _listed(names):
    return f"{', '.join(map(str, names[:NAMED]))}{', ...' * (len(names) > NAMED)}"
