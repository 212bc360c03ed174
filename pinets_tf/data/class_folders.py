"""A folder with a folder of files for each class, in splits or not: which files are trained with, of which classes."""

import dataclasses

import numpy as np

from pinets_tf import files
from pinets_tf.data.splits import held_out

TRAIN = "train"
# What a folder beside `train` is called.
HELD_OUT = ("val", "validation", "test")


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """The files of two splits, by their names below a folder, with the number of the class of each.

    Args:
        folder: where they are.
        class_names: the names of the classes, sorted, as they can be printed.
        training: the files that are trained with.
        training_labels: the class of each, int32.
        held_out: the files that are tested with.
        held_out_labels: the class of each, int32.
        notes: lines that say what was left out and how the files were split.
    """

    folder: files.Path
    class_names: tuple[str, ...]
    training: tuple[str, ...]
    training_labels: np.ndarray
    held_out: tuple[str, ...]
    held_out_labels: np.ndarray
    notes: tuple[str, ...]


def is_split(folder):
    """Returns whether a folder has a folder `train` with classes, which another folder is for."""
    train = folder / TRAIN
    return train.is_dir() and bool(files.subfolders(train) or any((folder / name).is_dir() for name in HELD_OUT))


def is_of_classes(folder):
    """Returns whether the folders in a folder, two at least, can be classes of one split."""
    names = files.subfolders(folder)
    return len(names) > 1 and not set(names) & set(HELD_OUT)


def read(folder, suffixes, held_out_names):
    """Finds the files of a folder of classes.

    Args:
        folder: one for which `is_split` or `is_of_classes` holds.
        suffixes: endings of the files in lower case.
        held_out_names: what the folder beside `train` may be called, the first that is there.

    Returns:
        A `ClassFolders`.

    Raises:
        ValueError: if there are no classes, one of them is empty, or they differ between the splits.
    """
    if not is_split(folder):
        return _divided(folder, suffixes)
    other = next((name for name in held_out_names if (folder / name).is_dir()), None)
    if other is None:
        raise ValueError(
            f"A folder of images holds train/CLASS/* and {held_out_names[0]}/CLASS/*. "
            f"Received: {files.shown(folder)} without a folder {' or '.join(map(repr, held_out_names))}. "
            "Put images of every class there too."
        )
    found, classes = _classes(folder, (TRAIN, other), suffixes)
    names, differ = sorted(classes[TRAIN]), sorted(classes[TRAIN].keys() ^ classes[other].keys())
    if differ:
        raise ValueError(
            "Training and validation images must have the same classes. "
            f"Received: {files.shown(folder)} with {_listed(differ)} in one of them only "
            f"({len(names)} and {len(classes[other])} classes). Add or remove these folders."
        )
    splits = [[classes[part][name] for name in names] for part in (TRAIN, other)]
    return _labelled(folder, names, splits[0], splits[1], [found.description])


def _divided(folder, suffixes):
    found, classes = _classes(folder, ("",), suffixes)
    names = sorted(classes[""])
    below = [{path.split("/")[1] if path.count("/") > 1 else "" for path in classes[""][name]} for name in names]
    if all(each == below[0] for each in below) and len(below[0]) > 1 and "" not in below[0]:
        raise ValueError(
            "A folder holds a folder of images for each class. "
            f"Received: {files.shown(folder)}, in which {_listed(names)} have the same folders {_listed(below[0])}, so "
            "these may be the classes. Call the folders above them train and val, or pass one of them."
        )
    out = [held_out(classes[""][name]) for name in names]
    splits = [
        [[path for path in classes[""][name] if (path in those) == which] for name, those in zip(names, out)]
        for which in (False, True)
    ]
    if not any(out):
        raise ValueError(
            "A folder of classes is split, for which one class has two images at least. "
            f"Received: {files.shown(folder)} with one image in each of {len(names)} classes. Add images."
        )
    notes = [
        found.description,
        f"{files.shown(folder)} has no split: a tenth of each class is held out, by file name",
    ]
    few = [name for name, those in zip(names, out) if not those]
    if few:
        notes.append(f"classes with one image, which is trained with: {_listed(few)}")
    return _labelled(folder, names, splits[0], splits[1], notes)


def _labelled(folder, names, training, testing, notes):
    def paths(split):
        return tuple(path for each in split for path in each)

    def labels(split):
        return np.repeat(np.arange(len(names), dtype="int32"), list(map(len, split)))

    return ClassFolders(
        folder,
        tuple(map(files.shown, names)),
        paths(training),
        labels(training),
        paths(testing),
        labels(testing),
        tuple(filter(None, notes)),
    )


def _classes(folder, parts, suffixes):
    """Returns what was found in the classes of parts of a folder, and for each part the sorted files of each class."""
    classes: dict[str, dict[str, list[str]]] = {part: {} for part in parts}
    starts = {}
    for part in parts:
        for name in files.subfolders(folder / part):
            starts[f"{part}/{name}" if part else name] = classes[part].setdefault(name, [])
        if not classes[part]:
            raise ValueError(
                f"A folder of images has a folder for each class. Received: {files.shown(folder / part)} without any. "
                f"Put the images of a class into {files.shown(folder / part / 'CLASS')}."
            )
    found = files.find(folder, suffixes, below=starts)
    for path in found.names:
        depth = 2 if parts[0] else 1
        starts["/".join(path.split("/")[:depth])].append(path)
    loose = files.find(folder, suffixes, nested=False, below=parts)
    found = found.joined(loose.left_out).joined({"in no folder of a class": loose.names})
    for part in parts:
        empty = sorted(name for name, paths in classes[part].items() if not paths)
        if empty:
            raise ValueError(
                f"Every class needs images that end in {', '.join(suffixes)}. "
                f"Received: {files.shown(folder / part)} with nothing in {_listed(empty)}. "
                f"Add images or remove the folder. {found.description}"
            )
    return found, classes


def _listed(names):
    return f"{', '.join(map(files.shown, sorted(names)[:5]))}{' ...' * (len(names) > 5)}"
