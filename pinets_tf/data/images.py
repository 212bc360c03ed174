"""Labelled images that fit in memory: a name or a path in, arrays and endless `tf.data` batches out."""

import dataclasses
import functools
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import numpy as np
import tensorflow as tf

from pinets_tf import files
from pinets_tf.data import class_folders, notes
from pinets_tf.data.epochs import full_batches, shuffled
from pinets_tf.data.fingerprints import fingerprint
from pinets_tf.data.picture_files import (
    ENDINGS,
    KINDS,
    MOST_PIXELS,
    defect_of,
    on_white,
    orientation_of,
    read_picture,
)
from pinets_tf.npz import Npz

__all__ = [
    "MOST_PIXELS",
    "LabelledImages",
    "decode_image",
    "defect_of",
    "load",
    "orientation_of",
    "read_image",
    "steps_per_epoch",
    "test_batches",
    "training_batches",
]

SAMPLE = "sample"
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# What a folder beside `train` may be called, the first that is there.
HELD_OUT = ("test", "val", "validation")
GREY = np.array([[0.299], [0.587], [0.114]], "float32")
NAMED = 5
# More labels than that are numbers of something else, such as products or days.
MOST_CLASSES = 10**6
# What arrays that are no images in uint8 have to become.
CONVERSIONS = {
    "b": "Save grey levels 0 to 255: 255 * x.astype('uint8').",
    "f": "Save grey levels 0 to 255 as uint8; of x from 0 to 1: (255 * x).round().astype('uint8').",
    "u": "Save grey levels 0 to 255 as uint8; of x of 16 bits: (x // 257).astype('uint8').",
    "i": "Save grey levels 0 to 255: x.astype('uint8').",
}


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Training and test images, uint8 in [0, 255] of shape (n, height, width, channels), and integer labels.

    `skipped` maps the name of every file of a folder that was left out as unusable to what is wrong with it. `notes`
    are lines that whoever trains should read first: what was left out, classes without images, test images that are
    trained with.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int
    class_names: tuple[str, ...]
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def fingerprint(self):
        """A short string that differs where images, labels or names of classes do."""
        return fingerprint(self.x_train, self.y_train, self.x_test, self.y_test, self.class_names)

    def mean_and_variance(self):
        """Returns the mean and the variance of each channel over the training images, in grey levels."""
        # In parts, since float64 pixels of the whole set are eight times its size.
        sums = np.zeros((2, self.x_train.shape[-1]))
        for part in np.array_split(self.x_train, 1 + len(self.x_train) // 1000):
            pixels = part.reshape(-1, part.shape[-1]).astype("float64")
            sums += np.stack([pixels.sum(0), np.square(pixels).sum(0)])
        mean, square = sums / (self.x_train.size / self.x_train.shape[-1])
        return mean, square - np.square(mean)


def load(dataset, data_dir=None):
    """Loads labelled images by name or from a file.

    Which files of a folder are read and which are left out is in `docs/readers.md`.

    Args:
        dataset: one of
            - `"sample"` (6,500 Fashion-MNIST images that come with the package);
            - the path of an `.npz` file with the arrays x_train, y_train, x_test and y_test, and perhaps class_names;
            - the path of a folder `train/CLASS/*` with the same classes in `test`, `val` or `validation`, or of a
              folder `CLASS/*`, of which a tenth of each class is for the test, chosen by a hash of the file name. The
              pictures have one size, and become colour. They are turned as their EXIF data say, and what is transparent
              lies on white;
            - the name of an image classification set of TensorFlow Datasets with the splits train and test, such as
              `"cifar10"`.
        data_dir: the folder of TensorFlow Datasets, or `None` for its default.

    Returns:
        A `LabelledImages`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ImportError: if TensorFlow Datasets is needed and not installed.
        ValueError: if the file cannot be read, an array is missing, shapes, types or labels do not fit, or a folder has
            no classes or pictures of several sizes.
    """
    if dataset == SAMPLE:
        with resources.as_file(resources.files("pinets_tf.data") / "fashion_mnist_sample.npz") as path:
            return _load_npz(path)
    path = files.expanded(dataset)
    if path.is_dir():
        return _load_folder(path)
    if path.suffix.lower() == ".npz":
        return _load_npz(path)
    return _load_tfds(dataset, data_dir)


def training_batches(images, batch_size, *, epochs, first_epoch=0, crop_padding=0, flip=False, seed=0):
    """Returns shuffled, augmented batches for epochs `first_epoch` to `epochs`, as one `tf.data.Dataset`.

    Order and augmentation of each image depend on `seed` and the number of the batch alone, so a run that starts at
    a later epoch sees what an uninterrupted one sees. Every epoch draws a new order; the images after the last full
    batch of an epoch are left out of that epoch.

    Args:
        images: a `LabelledImages`.
        batch_size: images in a batch.
        epochs: the number of the last epoch.
        first_epoch: how many epochs to leave out at the start.
        crop_padding: each image is shifted by up to so many pixels along both axes, with black coming in.
        flip: whether half of the images are mirrored left to right.
        seed: an integer.

    Returns:
        A dataset of pairs of float32 images in [0, 255] and int32 labels, `steps_per_epoch` batches an epoch.

    Raises:
        ValueError: if there are fewer training images than `batch_size`.
    """
    steps = steps_per_epoch(images, batch_size)
    count, height, width, _ = images.x_train.shape
    x_train, y_train = tf.constant(images.x_train), tf.constant(images.y_train)

    def batch(step):
        epoch, first = step // steps, (step % steps) * batch_size
        positions = first + tf.range(batch_size, dtype=tf.int64)
        positions = shuffled(positions, seed, epoch, count)
        x = tf.gather(x_train, positions)
        rows, columns = tf.range(height)[None, :], tf.range(width)[None, :]
        if crop_padding:
            x = tf.pad(x, [[0, 0], [crop_padding] * 2, [crop_padding] * 2, [0, 0]])
            shape, largest = (2, batch_size, 1), 2 * crop_padding + 1
            shifts = tf.random.stateless_uniform(shape, tf.stack([seed, step]), maxval=largest, dtype=tf.int32)
            rows, columns = rows + shifts[0], columns + shifts[1]
        if flip:
            mirrored = tf.random.stateless_uniform((batch_size, 1), tf.stack([seed + 1, step])) < 0.5
            columns = tf.where(mirrored, tf.reverse(columns, [1]), columns)
        if crop_padding or flip:
            rows = tf.broadcast_to(rows, (batch_size, height))
            columns = tf.broadcast_to(columns, (batch_size, width))
            x = tf.gather(tf.gather(x, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
        return tf.cast(x, tf.float32), tf.gather(y_train, positions)

    dataset = tf.data.Dataset.range(first_epoch * steps, epochs * steps)
    return dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(images, batch_size):
    """Returns how many full batches an epoch of `training_batches` has."""
    return full_batches(len(images.x_train), batch_size, "images")


def test_batches(images, batch_size):
    """Returns all test images in their order as a dataset of float32 images in [0, 255] and int32 labels."""
    dataset = tf.data.Dataset.from_tensor_slices((images.x_test, images.y_test)).batch(batch_size)
    return dataset.map(lambda x, y: (tf.cast(x, tf.float32), y)).prefetch(tf.data.AUTOTUNE)


def read_image(path, shape):
    """Reads one picture in the shape that a network takes.

    Args:
        path: a JPEG, PNG, GIF, BMP or WebP file.
        shape: `(height, width, channels)`, of 1, 3 or 4 channels; the picture is turned as its EXIF data say, what is
            transparent in it is laid on white unless the fourth channel says so, and it is resized, and made grey or
            coloured.

    Returns:
        A float32 tensor of that shape in [0, 255].

    Raises:
        ValueError: if there is no such file, it is not a picture, or one of more than 2^26 pixels, or a picture has no
            such number of channels.
    """
    if shape[-1] not in (1, 3, 4):
        raise ValueError(
            "A picture has 1, 3 or 4 channels: grey, colour, or colour with alpha. "
            f"Received: shape={tuple(shape)}. Pass an array to a network of other channels."
        )
    try:
        picture, defect = read_picture(files.expanded(path).read_bytes(), "RGBA" if shape[-1] == 4 else "RGB")
        if not defect:
            return _fitted(picture, shape)
    except OSError as error:
        defect = error.strerror
    raise ValueError(
        f"A picture is {KINDS}. Received: {files.shown(path)}, which cannot be read ({defect}). "
        "Pass the path of a picture."
    )


def decode_image(contents, shape):
    """Returns what `read_image` makes of the contents of a file, also in a graph, except that nothing is turned.

    The transparent pixels of a GIF, and of a PNG in which one colour is transparent, are not white there.

    Args:
        contents: a string tensor, the bytes of a JPEG, PNG, GIF, BMP or WebP file.
        shape: `(height, width, channels)`.

    Returns:
        A float32 tensor of that shape in [0, 255].
    """
    if shape[-1] in (1, 3):
        return _fitted(on_white(contents), shape)
    picture = tf.io.decode_image(contents, channels=shape[-1], expand_animations=False)
    return _resized(tf.ensure_shape(picture, (None, None, shape[-1])), shape)


def _fitted(picture, shape):
    picture = _resized(picture, shape)
    return tf.tensordot(picture, GREY, 1) if shape[-1] == 1 else picture


def _resized(picture, shape):
    return tf.clip_by_value(tf.image.resize(picture, shape[:2], antialias=True), 0.0, 255.0)


def usable(folder, names, read):
    """Reads files, several at once, and returns what is wrong with those that cannot be used, by name, with a warning.

    Args:
        folder: where they are.
        names: their names below it.
        read: a function from the number of a file and its contents to what is wrong with it, or an empty string.

    Raises:
        ValueError: if most of them cannot be used.
    """

    def defect(number):
        try:
            return read(number, (folder / names[number]).read_bytes())
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    with ThreadPoolExecutor() as pool:
        defects = list(pool.map(defect, range(len(names))))
    skipped = {files.shown(name): defect for name, defect in zip(names, defects) if defect}
    if skipped:
        listed = ", ".join(f"{name} ({defect})" for name, defect in list(skipped.items())[:NAMED])
        received = (
            f"Received: {files.shown(folder)} with {len(names):,} files, of which {len(skipped):,} are not: "
            f"{listed}{', ...' * (len(skipped) > NAMED)}."
        )
        if 2 * len(skipped) > len(names):
            raise ValueError(
                f"At least half of the pictures must be usable. {received} Copy them again or remove them."
            )
        warnings.warn(
            f"Pictures that are not usable are left out. {received} Copy them again or remove them.",
            stacklevel=4,
        )
    return skipped


def _load_folder(folder):
    if not class_folders.is_split(folder) and not class_folders.is_of_classes(folder):
        raise ValueError(
            "A folder of labelled images holds train/CLASS/* and test/CLASS/*, or CLASS/* of at least two classes. "
            f"Received: {files.shown(folder)} with the folders "
            f"{', '.join(map(files.shown, files.subfolders(folder)[:NAMED])) or 'none'}. "
            "Pass the folder that holds the classes."
        )
    found = class_folders.read(folder, ENDINGS, HELD_OUT)
    names = found.training + found.held_out
    pictures = [np.zeros(0)] * len(names)

    def read(number, contents):
        picture, defect = read_picture(contents)
        if not defect:
            pictures[number] = picture
        return defect

    skipped = usable(folder, names, read)
    sizes: dict[tuple, str] = {}
    for name, picture in zip(names, pictures):
        if picture.size:
            sizes.setdefault(picture.shape[:2], name)
    if len(sizes) > 1:
        listed = ", ".join(f"{h}x{w} ({files.shown(name)})" for (h, w), name in list(sizes.items())[:NAMED])
        raise ValueError(
            f"Labelled images that are read from a folder have one size. Received: {files.shown(folder)} with "
            f"{len(sizes)} sizes: {listed}{', ...' * (len(sizes) > NAMED)}. "
            "Resize them, or train with examples/imagenet.py, which crops photographs of any size."
        )
    arrays = {}
    for split, part, labels in (
        ("train", pictures[: len(found.training)], found.training_labels),
        ("test", pictures[len(found.training) :], found.held_out_labels),
    ):
        kept = [bool(picture.size) for picture in part]
        if not any(kept):
            raise ValueError(
                "Training and test images are at least one each. "
                f"Received: {files.shown(folder)} with none for {split}. Add images."
            )
        arrays[f"x_{split}"] = np.stack([picture for picture in part if picture.size])
        arrays[f"y_{split}"] = labels[kept]
    lines = found.notes
    if skipped:
        lines += (f"{len(skipped):,} files left out that cannot be used, such as {next(iter(skipped))}",)
    images = _checked(arrays, found.class_names, files.shown(folder))
    return dataclasses.replace(images, skipped=skipped, notes=lines + images.notes)


def _load_npz(path):
    wanted = f"an .npz file with the arrays {', '.join(ARRAYS)}"
    if not path.is_file():
        raise FileNotFoundError(
            "A dataset is a file or folder that exists, 'sample', or a name of TensorFlow Datasets. "
            f"Received: {path.name!r}, "
            f"which is not in {path.resolve().parent}. Pass the path of {wanted} with --dataset."
        )
    with Npz(path, f"A dataset must be {wanted}") as file:
        missing = [name for name in ARRAYS if name not in file.names]
        if missing:
            raise ValueError(
                f"A dataset must be {wanted}. "
                f"Received: {path} with {', '.join(file.names) or 'no arrays'}. Add {', '.join(missing)}."
            )
        arrays = {name: file[name] for name in ARRAYS}
        class_names = file["class_names"] if "class_names" in file.names else ()
    names = (files.text_of(name) if isinstance(name, bytes) else str(name) for name in np.ravel(class_names))
    return _checked(arrays, tuple(names), files.shown(path))


def _load_tfds(name, data_dir):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"The dataset {name!r} is read with TensorFlow Datasets. Received: it is not installed. "
            "Install it with: pip install 'pinets_tf[data]'. A local .npz file and 'sample' need nothing."
        ) from error
    if name not in tfds.list_builders(with_community_datasets=False):
        raise ValueError(
            "A dataset is 'sample', the path of an .npz file, or a name of TensorFlow Datasets. "
            f"Received: {name!r}. Pass for example cifar10, cifar100 or fashion_mnist, or a path that ends in .npz."
        )
    builder = tfds.builder(name, data_dir=data_dir and files.expanded(data_dir))
    features = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    size = getattr(image, "shape", (None,))
    if None in size or not isinstance(label, tfds.features.ClassLabel):
        raise ValueError(
            "Images are classified if all have one size and each has one label. "
            f"Received: {name!r} with {', '.join(features)}, images of size {size}. "
            "Pass for example cifar10, or save images and labels of your own as an .npz."
        )
    arrays: list[np.ndarray] = []
    try:
        builder.download_and_prepare()
        for split in ("train", "test"):
            batches = tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True).batch(1024))
            arrays += map(np.concatenate, zip(*batches))
    except Exception as error:  # Of many classes, those of TensorFlow Datasets, of the network and of the disk.
        raise ValueError(
            "A dataset of TensorFlow Datasets is downloaded, prepared and read, with splits train and test. "
            f"Received: {name!r} in {builder.data_dir}, where this failed ({type(error).__name__}: {error}). "
            "Check the network and the space on the disk, pass another --data_dir, or an .npz instead."
        ) from error
    names = tuple(builder.info.features["label"].names)
    return _checked(dict(zip(ARRAYS, arrays)), names, name)


def _checked(arrays, names, source):
    """Returns the arrays as `LabelledImages`, or says in which of them something does not fit."""
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.ndim == 3:
            x = x[..., None]
        if x.ndim != 4 or x.dtype != np.uint8 or x.size == 0:
            raise ValueError(
                "Images must be uint8 arrays of shape (n, height, width) or (n, height, width, channels), n > 0. "
                f"Received: x_{part} of shape {x.shape} and type {x.dtype} in {source}. "
                f"{CONVERSIONS.get(x.dtype.kind if x.dtype != np.uint8 else '', 'Save grey levels 0 to 255.')}"
            )
        check_axes(x, f"x_{part}", source)
        y = y.reshape(-1) if y.ndim == 2 and y.shape[1] == 1 else y
        if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(
                "Labels must be one integer for each image. "
                f"Received: y_{part} of shape {y.shape} and type {y.dtype} for {len(x)} images in {source}. "
                f"Save class numbers, not one-hot vectors or names{_how(x, y)}."
            )
        arrays = {**arrays, f"x_{part}": x, f"y_{part}": y}
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise ValueError(
            "Training and test images must have one shape. "
            f"Received: {arrays['x_train'].shape[1:]} and {arrays['x_test'].shape[1:]} in {source}. Resize one of them."
        )
    # Labels are compared as they are, since the larger ones would become others as int32.
    classes = len(names) or min(int(arrays["y_train"].max()) + 1, MOST_CLASSES)
    for part in ("train", "test"):
        y = arrays[f"y_{part}"]
        if y.min() < 0 or y.max() >= classes:
            raise ValueError(
                f"Labels must lie in 0 to {classes - 1:,} for {classes:,} classes{' at most' * (not names)}. "
                f"Received: y_{part} from {y.min()} to {y.max()} in {source}. Number the classes from 0 without gaps."
            )
        arrays[f"y_{part}"] = y.astype(np.int32)
    names = names or tuple(map(str, range(classes)))
    said = (
        *notes.of_labels(arrays["y_train"], arrays["y_test"], names),
        *notes.of_pixels(arrays["x_train"], "training"),
        *notes.of_pixels(arrays["x_test"], "test"),
        *notes.of_copies(arrays["x_train"], arrays["x_test"]),
    )
    return LabelledImages(**arrays, classes=classes, class_names=names, notes=said)


def check_axes(x, name, source):
    """Looks whether the channels of images are their last axis.

    Raises:
        ValueError: if they seem to be on another.
    """
    _, height, width, channels = x.shape
    if height in (1, 3, 4) and channels > 4 and width > 4:
        raise ValueError(
            "Images have their channels last: (n, height, width, channels). "
            f"Received: {name} of shape {x.shape} in {source}, whose axis 1 looks like channels. "
            "Save np.moveaxis(x, 1, -1)."
        )


def _how(x, y):
    """Returns how to make labels of what was passed instead, as far as it can be told."""
    if y.ndim == 2 and len(y) == len(x):
        return ": y.argmax(1)"
    if y.shape == x.shape[:1] and y.dtype.kind in "fb":
        return ": y.astype('int32')"
    if y.shape == x.shape[-1:]:
        return ", and images along axis 0: np.moveaxis(x, -1, 0)"
    return ""
