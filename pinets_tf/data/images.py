"""Labelled images that fit in memory: a name or a path in, arrays and endless `tf.data` batches out."""

import dataclasses
import struct
from importlib import resources
from pathlib import Path

import numpy as np
import tensorflow as tf

from pinets_tf.data.epochs import full_batches, shuffled
from pinets_tf.npz import Npz

SAMPLE = "sample"
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# No picture of more pixels is decoded, which takes three bytes for each and more where it is resized.
MOST_PIXELS = 2**26
# A progressive JPEG has ten scans; each goes over all pixels, and takes a few bytes.
MOST_SCANS = 100


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Training and test images, uint8 in [0, 255] of shape (n, height, width, channels), and integer labels."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int
    class_names: tuple[str, ...]

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

    Args:
        dataset: `"sample"` (6,500 Fashion-MNIST images that come with the package), the path of an `.npz` file with the
            arrays x_train, y_train, x_test and y_test, or the name of an image classification set of TensorFlow
            Datasets with the splits train and test, such as `"cifar10"`.
        data_dir: the folder of TensorFlow Datasets, or `None` for its default.

    Returns:
        A `LabelledImages`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ImportError: if TensorFlow Datasets is needed and not installed.
        ValueError: if the file cannot be read, an array is missing, or shapes, types or labels do not fit.
    """
    if dataset == SAMPLE:
        with resources.as_file(resources.files("pinets_tf.data") / "fashion_mnist_sample.npz") as path:
            return _load_npz(path)
    if str(dataset).endswith(".npz"):
        return _load_npz(Path(dataset))
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
        path: a JPEG, PNG, GIF or BMP file.
        shape: `(height, width, channels)`; the picture is resized, and made grey or coloured.

    Returns:
        A float32 tensor of that shape in [0, 255].

    Raises:
        ValueError: if there is no such file, it is not a picture, or one of more than 2^26 pixels.
    """
    try:
        contents = tf.io.read_file(str(path)).numpy()
        defect = defect_of(contents)
        if not defect:
            return decode_image(contents, shape)
    except (tf.errors.OpError, OSError) as error:
        defect = str(error).splitlines()[0]
    raise ValueError(
        "A picture is a JPEG, PNG, GIF or BMP file. "
        f"Received: {path}, which cannot be read ({defect}). Pass the path of a picture."
    )


def defect_of(contents):
    """Returns why the contents of a file should not be decoded, as far as its headers tell, or an empty string.

    A header that is cut off is left to the decoder, which refuses it. TensorFlow 2.21 also looks for JPEG XL.
    """
    if not contents:
        return "an empty file"
    try:
        pixels = _promised_pixels(contents)
    except (struct.error, tf.errors.OpError):
        return ""
    if pixels is None:
        return "Unknown image file format"
    if pixels > MOST_PIXELS:
        return f"{pixels:,} pixels, more than {MOST_PIXELS:,}"
    scans = contents.count(b"\xff\xda") if contents.startswith(b"\xff\xd8") else 0
    return f"{scans:,} scans, more than {MOST_SCANS}" if scans > MOST_SCANS else ""


def _promised_pixels(contents):
    """Returns how many pixels the decoder would make, all frames of a GIF together, or `None` for another file."""
    if contents.startswith(b"\x89PNG"):
        width, height = struct.unpack_from(">II", contents, 16)
    elif contents.startswith(b"\xff\xd8\xff"):
        height, width, _ = tf.image.extract_jpeg_shape(contents).numpy().tolist()
    elif contents.startswith(b"GIF8"):
        return _promised_by_gif(contents)
    elif contents.startswith(b"BM"):
        width, height = map(abs, struct.unpack_from("<ii", contents, 18))
    elif contents[8:16] == b"WEBPVP8X":
        width, height = (1 + int.from_bytes(contents[place : place + 3], "little") for place in (24, 27))
    elif contents[8:16] == b"WEBPVP8L":
        (bits,) = struct.unpack_from("<I", contents, 21)
        width, height = 1 + bits % 2**14, 1 + (bits >> 14) % 2**14
    elif contents[8:16] == b"WEBPVP8 ":
        width, height = (size % 2**14 for size in struct.unpack_from("<HH", contents, 26))
    else:
        return None
    return height * width


def _promised_by_gif(contents):
    width, height, flags = struct.unpack_from("<HHB", contents, 6)
    pixels, place = width * height, 13 + _size_of_colours(flags)
    try:
        while contents[place] in b"!,":
            if contents[place : place + 1] == b",":
                width, height, flags = struct.unpack_from("<HHB", contents, place + 5)
                pixels += width * height
                place += 8 + _size_of_colours(flags)
            place += 2
            while contents[place]:
                place += 1 + contents[place]
            place += 1
    except (IndexError, struct.error):
        pass  # The decoder takes the frames that are there.
    return pixels


def _size_of_colours(flags):
    """Returns how many bytes a table of colours has, from the flags before it."""
    return 3 * 2 ** (1 + flags % 8) if flags >= 128 else 0


def decode_image(contents, shape):
    """Returns what `read_image` makes of the contents of a file, also in a graph.

    Args:
        contents: a string tensor, the bytes of a JPEG, PNG, GIF or BMP file.
        shape: `(height, width, channels)`.

    Returns:
        A float32 tensor of that shape in [0, 255].
    """
    picture = tf.io.decode_image(contents, channels=shape[-1], expand_animations=False)
    # In a graph its rank is not known otherwise.
    picture = tf.ensure_shape(picture, (None, None, shape[-1]))
    return tf.clip_by_value(tf.image.resize(picture, shape[:2], antialias=True), 0.0, 255.0)


def _load_npz(path):
    wanted = f"an .npz file with the arrays {', '.join(ARRAYS)}"
    if not path.is_file():
        raise FileNotFoundError(
            f"A dataset is a file that exists, 'sample', or a name of TensorFlow Datasets. Received: {path.name!r}, "
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
    names = tuple(map(str, np.ravel(class_names)))
    return _checked(arrays, names, str(path))


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
    builder = tfds.builder(name, data_dir=data_dir)
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
        if x.ndim != 4 or x.dtype != np.uint8 or len(x) == 0:
            raise ValueError(
                "Images must be uint8 arrays of shape (n, height, width) or (n, height, width, channels), n > 0. "
                f"Received: x_{part} of shape {x.shape} and type {x.dtype} in {source}. Save grey levels 0 to 255."
            )
        y = y.reshape(-1) if y.ndim == 2 and y.shape[1] == 1 else y
        if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(
                "Labels must be one integer for each image. "
                f"Received: y_{part} of shape {y.shape} and type {y.dtype} for {len(x)} images in {source}. "
                "Save class numbers, not one-hot vectors or names."
            )
        arrays = {**arrays, f"x_{part}": x, f"y_{part}": y.astype(np.int32)}
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise ValueError(
            "Training and test images must have one shape. "
            f"Received: {arrays['x_train'].shape[1:]} and {arrays['x_test'].shape[1:]} in {source}. Resize one of them."
        )
    classes = len(names) or int(arrays["y_train"].max()) + 1
    for part in ("train", "test"):
        y = arrays[f"y_{part}"]
        if y.min() < 0 or y.max() >= classes:
            raise ValueError(
                f"Labels must lie in 0 to {classes - 1} for {classes} classes. "
                f"Received: y_{part} from {y.min()} to {y.max()} in {source}. Number the classes from 0 without gaps."
            )
    return LabelledImages(**arrays, classes=classes, class_names=names or tuple(map(str, range(classes))))
