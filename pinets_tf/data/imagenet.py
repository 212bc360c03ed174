"""Photographs that do not fit in memory as arrays: a folder or a name in, endless `tf.data` batches of crops out."""

import dataclasses
import functools
import math
import os
import struct
from pathlib import Path

import numpy as np
import tensorflow as tf

from pinets_tf.data.encoded_images import CHUNK, EPOCH, Files, Records, cached
from pinets_tf.data.epochs import Share, full_batches
from pinets_tf.data.images import defect_of

SUFFIXES = (".jpeg", ".jpg", ".png")
# Training records whose labels are looked at.
LABELS_READ = 10_000
# Windows drawn for an image.
ATTEMPTS = 10


@dataclasses.dataclass(frozen=True)
class Photographs:
    """Encoded training and validation images with their classes.

    `skipped` maps the name of every unreadable image that was met so far to what is wrong with it.
    """

    class_names: tuple[str, ...]
    training: "Files | Records"
    validation: "Files | Records"
    skipped: dict[str, str] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def classes(self):
        return len(self.class_names)

    @property
    def train_size(self):
        return self.training.size

    @property
    def validation_size(self):
        return self.validation.size


def load(dataset, data_dir=None):
    """Finds photographs and their classes, and looks at whatever can be wrong with them before training starts.

    Args:
        dataset: one of
            - the path of a folder `train/CLASS/*.jpeg` (or jpg, png) with the same classes in `val` or `validation`;
              they are numbered in the order of their names;
            - the path of a folder of TFRecords `train-00000-of-01024`, `validation-00000-of-00128` with the features
              image/encoded, image/class/label and perhaps image/class/text or image/class/synset, the names. Labels
              count from 0 if a 0 occurs in the validation files or in the first 10,000 training records, else from 1,
              as in the classical files, where 0 is a background that no image shows;
            - the name of an image classification set of TensorFlow Datasets with the splits train and validation or
              test, such as `"imagenet2012"`.
        data_dir: the folder of TensorFlow Datasets, or `None` for its default.

    Returns:
        A `Photographs`.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ImportError: if TensorFlow Datasets is needed and not installed.
        ValueError: if there are no images, classes differ between the splits or are empty, a record lacks a feature,
            or TensorFlow Datasets cannot prepare the set.
    """
    folder = Path(dataset).expanduser()
    if folder.is_dir():
        if (folder / "train").is_dir():
            return _load_folder(folder)
        if any(folder.glob("train-*")):
            return _load_records(folder)
        raise ValueError(
            "A folder of photographs holds train/CLASS/*.jpeg and val/CLASS/*.jpeg, or TFRecords train-* and "
            f"validation-*. Received: {folder}, with neither a folder 'train' nor files 'train-*'. "
            "Pass the folder that holds them."
        )
    if folder.is_absolute() or str(dataset).startswith((".", "~")):
        raise FileNotFoundError(
            "A dataset is a folder that exists or a name of TensorFlow Datasets. "
            f"Received: {str(dataset)!r}, which is not a folder. Correct the path."
        )
    return _load_tfds(str(dataset), data_dir)


def steps_per_epoch(photographs, batch_size):
    """Returns how many full batches an epoch of `training_batches` has."""
    return full_batches(photographs.train_size, batch_size, "images")


def training_batches(
    photographs,
    batch_size,
    *,
    size=224,
    epochs,
    first_epoch=0,
    area=(0.08, 1.0),
    ratio=(3 / 4, 4 / 3),
    flip=True,
    seed=0,
    cache="auto",
    share=(0, 1, 1),
):
    """Returns shuffled batches of random crops for epochs `first_epoch` to `epochs`, as one `tf.data.Dataset`.

    A crop has a random share of the area of its image and a random ratio of width to height, uniform in its logarithm;
    of ten windows drawn the first that lies in the image is taken, else the largest of such a ratio. Only that window
    is decoded, and resized bilinearly. If it has at least 2, 4 or 8 times the size asked for, JPEG decodes it at a
    half, a quarter or an eighth of its resolution, which averages pixels that the resizing would leave out.

    Order and crops depend on `seed`, the epoch and the position in it alone, so a run that starts at a later epoch sees
    what an uninterrupted one sees. TFRecords that are not cached are read from 16 files at a time, in random order, and
    shuffled in blocks of 2,048.

    An unreadable image goes to `photographs.skipped` and is replaced by the next of its epoch. Damage inside of a JPEG
    that has its end is seen when a window reaches it.

    Args:
        photographs: a `Photographs`.
        batch_size: images in a batch.
        size: height and width of a crop, in pixels.
        epochs: the number of the last epoch.
        first_epoch: how many epochs to leave out at the start.
        area: the least and the greatest share of the image that a crop shows.
        ratio: the least and the greatest width of a crop over its height.
        flip: whether half of the crops are mirrored left to right.
        seed: an integer.
        cache: whether the encoded files are read into memory at the start; `"auto"` if they take at most a quarter of
            it.
        share: the number of this host, the number of hosts, and the replicas of each, of those that train together.
            Each host reads what is its own in each batch, and gets as many parts of it in turn as it has replicas.
            Together these are the batches of one host, but for what replaces unreadable images. Of TFRecords that are
            not cached each host reads all files, and decodes its part.

    Returns:
        A dataset of pairs of float32 images in [0, 255] and int32 labels, `steps_per_epoch` batches an epoch, or that
        many for each replica of this host.

    Raises:
        ValueError: if there are fewer training images than `batch_size`, `area`, `ratio` or `cache` make no sense, or
            the replicas cannot have the same part of a batch.
    """
    steps = steps_per_epoch(photographs, batch_size)
    for name, (low, high), most in (("area", area, 1), ("ratio", ratio, math.inf)):
        if not 0 < low <= high <= most:
            raise ValueError(
                f"A range of `{name}` must be two numbers above 0{' and at most 1' * (most == 1)}, the smaller first. "
                f"Received: {name}={(low, high)}. Pass for example {(0.08, 1.0) if most == 1 else (0.75, 1.33)}."
            )
    source, part = cached(photographs.training, cache), Share(batch_size, *share)

    def decode(candidate, draws):
        (item, number, recent), (sides, place, mirrored) = candidate, draws
        contents, label = source.read(item)
        image = _decode(contents, lambda shape: _random_window(shape, sides, place, ratio), size)
        if flip:
            image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
        return image, label, number, recent

    def one_epoch(epoch):
        # The second pass holds the replacements for what is unreadable in the first.
        draws = _draws(2 * source.size, epoch, seed, area, ratio, part)
        images = tf.data.Dataset.zip(source.shuffled(seed, epoch, part), draws)
        images = images.map(decode, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        images = images.concatenate(_too_few(images, source))
        batches = _resized(images, size).batch(part.of_replica, drop_remainder=True)
        return _reported(batches, source, photographs.skipped).take(steps * part.replicas)

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(one_epoch)
    count = (epochs - first_epoch) * steps * part.replicas
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return dataset.prefetch(tf.data.AUTOTUNE)


def validation_batches(photographs, batch_size, *, size=224, resize=256, cache="auto", share=(0, 1, 1)):
    """Returns all validation images in their order, each as its central square, as a `tf.data.Dataset`.

    The square is what a central crop of `size` pixels shows of the image resized to a short side of `resize` pixels.
    Only that square is decoded, of large images at a lower resolution as in `training_batches`. The last batch may
    be smaller. An unreadable image goes to `photographs.skipped` and is left out.

    Args:
        photographs: a `Photographs`.
        batch_size: images in a batch.
        size: height and width of a crop, in pixels.
        resize: the short side of the image that the crop is taken from, in pixels.
        cache: as in `training_batches`.
        share: as in `training_batches`; together the hosts have every image once.

    Returns:
        A dataset of pairs of float32 images in [0, 255] and int32 labels.

    Raises:
        ValueError: if `resize` is less than `size`, `cache` makes no sense, or the replicas cannot have the same part
            of a batch.
    """
    part = Share(batch_size, *share)
    window = _central_window(size, resize)
    source = cached(photographs.validation, cache)

    def decode(item, number, recent):
        contents, label = source.read(item)
        return _decode(contents, window, size), label, number, recent

    images = source.in_order(part).map(decode, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    # An empty batch after the last tells apart the end of the images and unreadable images at the end.
    end = (tf.zeros((0, size, size, 3)), tf.zeros(0, tf.int32), *source.end(part))
    batches = _resized(images, size).batch(part.of_replica).concatenate(tf.data.Dataset.from_tensors(end))
    batches = _reported(batches, source, photographs.skipped)
    return batches.filter(lambda x, y: tf.size(y) > 0).prefetch(tf.data.AUTOTUNE)


def read_image(path, *, size=224, resize=256):
    """Returns the central square of an image file as `validation_batches` does, a float32 array (size, size, 3).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image that can be read, or `resize` is less than `size`.
    """
    _check_crop(size, resize)
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"An image is read from a file that exists. Received: {str(path)!r}, which is no file in "
            f"{path.resolve().parent}. Correct the path."
        )
    contents = path.read_bytes()
    defect = defect_of(contents)
    if defect:
        raise ValueError(
            "An image is a JPEG, PNG, GIF, BMP or WebP file. "
            f"Received: {str(path)!r}, which cannot be read ({defect}). Save or copy it again."
        )
    try:
        return decode_image(tf.constant(contents), size=size, resize=resize).numpy()
    except (tf.errors.OpError, UnicodeDecodeError) as error:  # TensorFlow cites the bytes of a very short file.
        raise ValueError(
            "An image is a JPEG, PNG, GIF, BMP or WebP file. "
            f"Received: {str(path)!r}, which cannot be read ({_what_is_wrong(contents)}). Save or copy it again."
        ) from error


def decode_image(contents, *, size=224, resize=256):
    """Returns what `read_image` makes of the contents of a file, also in a graph.

    Args:
        contents: a string tensor, the bytes of a JPEG, PNG, GIF, BMP or WebP file.
        size: height and width of the square, in pixels.
        resize: the short side of the image that the square is taken from, in pixels.

    Returns:
        A float32 tensor of shape `(size, size, 3)` in [0, 255].

    Raises:
        ValueError: if `resize` is less than `size`.
    """
    # The last two bytes are looked at. Without them the message of TensorFlow cites what there is, perhaps no text.
    contents = tf.where(tf.strings.length(contents) < 2, "\0\0", contents)
    return _resize(_decode(contents, _central_window(size, resize), size), size)


def random_windows(shapes, epoch, *, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), seed=0):
    """Returns the windows that `training_batches` cuts at the first positions of an epoch.

    Args:
        shapes: integers (n, 2), height and width of the images at these positions.
        epoch: the number of the epoch.
        area: as in `training_batches`.
        ratio: as in `training_batches`.
        seed: as in `training_batches`.

    Returns:
        An int32 array (n, 4), y, x, height and width of each window.
    """
    shapes = tf.data.Dataset.from_tensor_slices(tf.convert_to_tensor(shapes, tf.int32))
    pairs = tf.data.Dataset.zip(
        shapes, _draws(shapes.cardinality(), tf.constant(epoch, tf.int64), seed, area, ratio, Share(1))
    )
    windows = pairs.map(lambda shape, draws: _random_window(shape, draws[0], draws[1], ratio))
    return np.stack(list(windows.as_numpy_iterator()))


def _draws(count, epoch, seed, area, ratio, share):
    """Returns for those of `count` positions of an epoch that are in a share, or some more, what is random about them.

    That is sides of windows in units of the root of the area of the image, a place between 0 and 1 along both axes, and
    whether to mirror.
    """

    def chunk(start):
        seeds = tf.stack([tf.cast(seed, tf.int64), epoch * EPOCH + start])
        numbers = tf.random.stateless_uniform((CHUNK, 2 * ATTEMPTS + 3), seeds)
        part, aspect, place, mirror = tf.split(numbers, [ATTEMPTS, ATTEMPTS, 2, 1], axis=1)
        part = area[0] + part * (area[1] - area[0])
        aspect = tf.exp(math.log(ratio[0]) + aspect * math.log(ratio[1] / ratio[0]))
        draws = tf.sqrt(tf.stack([part / aspect, part * aspect], axis=-1)), place, mirror[:, 0] < 0.5
        if share.hosts == 1:
            return draws
        own = share.holds(start + tf.range(CHUNK, dtype=tf.int64))
        return tuple(tf.boolean_mask(values, own) for values in draws)

    return tf.data.Dataset.range(0, count, CHUNK).map(chunk, num_parallel_calls=tf.data.AUTOTUNE).unbatch()


def _random_window(shape, sides, place, ratio):
    """Returns the window of the first of `sides` that lies in an image of this shape."""
    box = tf.cast(shape, tf.float32)
    sides = tf.round(sides * tf.sqrt(tf.reduce_prod(box)))
    # What always fits: the image, cut along one axis to the ratio nearest to its own.
    whole = tf.maximum(tf.minimum(box, tf.floor(box[::-1] * [1 / ratio[0], ratio[1]])), 1.0)
    sides = tf.concat([sides, whole[None]], 0)
    chosen = tf.gather(sides, tf.argmax(tf.reduce_all((sides <= box) & (sides >= 1), 1)))
    return tf.cast(tf.concat([tf.floor(place * (box - chosen + 1)), chosen], 0), tf.int32)


def _check_crop(size, resize):
    if not 0 < size <= resize:
        raise ValueError(
            "A crop must lie in the resized image. "
            f"Received: size={size}, resize={resize}. Pass a `resize` of at least `size`."
        )


def _central_window(size, resize):
    _check_crop(size, resize)

    def window(shape):
        side = tf.cast(tf.reduce_min(shape), tf.float64) * (size / resize)
        side = tf.maximum(tf.cast(tf.round(side), tf.int32), 1)
        return tf.concat([(shape - side) // 2, [side, side]], 0)

    return window


def _decode(contents, window, size):
    """Returns the window of an image as uint8, at a half, a quarter or an eighth if it is so much larger than `size`.

    `window` is a function from height and width to the y, x, height and width that are wanted.
    """

    def crop():
        wanted = window(tf.image.extract_jpeg_shape(contents)[:2])
        larger = tf.reduce_min(wanted[2:]) // size
        return tf.cond(larger < 2, lambda: scaled(wanted, 1), lambda: smaller(wanted, larger))

    def smaller(wanted, larger):
        level = tf.cast(larger >= 4, tf.int32) + tf.cast(larger >= 8, tf.int32)
        return tf.switch_case(level, [functools.partial(scaled, wanted // ratio, ratio) for ratio in (2, 4, 8)])

    def scaled(wanted, ratio):
        return tf.raw_ops.DecodeAndCropJpeg(contents=contents, crop_window=wanted, channels=3, ratio=ratio)

    def whole():
        image = tf.io.decode_image(contents, channels=3, expand_animations=False)
        y, x, height, width = tf.unstack(window(tf.shape(image)[:2]))
        return image[y : y + height, x : x + width]

    # A JPEG that ends too early is seen to be so when it is decoded to the end, and a crop may not be. No other format
    # ends like a JPEG.
    intact = tf.equal(tf.strings.substr(contents, -2, 2), b"\xff\xd9")
    return tf.cond(intact, crop, whole)


def _resize(image, size):
    # Faster on float32 than on uint8, the cast included.
    return tf.ensure_shape(tf.image.resize(tf.cast(image, tf.float32), (size, size)), (size, size, 3))


def _resized(images, size):
    # A step of its own after `ignore_errors`, so that resizing and batching become one operation.
    return images.map(lambda image, *rest: (_resize(image, size), *rest), num_parallel_calls=tf.data.AUTOTUNE)


def _reported(batches, source, skipped):
    """Drops the numbers from batches, and enters in `skipped` which images are missing between them."""

    def report(recent, gaps):
        for keys, gap in zip(recent, gaps):
            for key in keys[:gap].tolist():
                skipped.setdefault(source.name(key), _what_is_wrong(source.contents(key)))
            if gap > len(keys):
                skipped.setdefault(
                    f"{gap - len(keys)} images before {source.name(int(keys[-1]))}",
                    f"more than {len(keys)} in a row, so without names",
                )
        return np.int64(0)

    def check(last, batch):
        x, y, number, recent = batch
        gaps = number - tf.concat([last[None], number[:-1]], 0) - 1
        tf.cond(
            tf.reduce_any(gaps > 0),
            lambda: tf.numpy_function(report, [recent, gaps], tf.int64),
            lambda: tf.constant(0, tf.int64),
        )
        return number[-1], (x, y)

    return batches.scan(tf.constant(-1, tf.int64), check)


def _too_few(images, source):
    """Returns a dataset like `images` whose only element is an error."""

    def fail(_):
        words = (
            "At least half of the training images must be readable. "
            f"Received: {source.size} images, of which more are not. Copy the files again."
        )
        tf.debugging.Assert(False, [words])
        return tf.nest.map_structure(
            lambda spec: tf.zeros([n or 1 for n in spec.shape], spec.dtype), images.element_spec
        )

    return tf.data.Dataset.range(1).map(fail)


def _what_is_wrong(contents):
    if not contents:
        return "an empty file"
    try:
        tf.io.decode_image(contents, channels=3, expand_animations=False)
    except tf.errors.OpError as error:
        if contents.startswith(b"\xff\xd8\xff") and b"\xff\xd9" not in contents[-64:]:
            return f"a JPEG without an end, {len(contents):,} bytes"
        return str(error.message).split("}} ")[-1].split(" [Op:")[0]
    return "was not readable when it was asked for"


def _load_folder(folder):
    validation = next((folder / name for name in ("val", "validation") if (folder / name).is_dir()), None)
    if validation is None:
        raise ValueError(
            "A folder of photographs holds train/CLASS/*.jpeg and val/CLASS/*.jpeg. "
            f"Received: {folder} without a folder 'val' or 'validation'. Put images of every class there too."
        )
    classes = {part: _class_files(part) for part in (folder / "train", validation)}
    names = sorted(classes[folder / "train"])
    if names != sorted(classes[validation]):
        differ = sorted(set(names) ^ set(classes[validation]))
        raise ValueError(
            "Training and validation images must have the same classes. "
            f"Received: {folder} with {', '.join(differ[:5])}{' ...' * (len(differ) > 5)} in one of them only "
            f"({len(names)} and {len(classes[validation])} classes). Add or remove these folders."
        )
    sources: list[Files] = []
    for part in classes.values():
        labels = np.repeat(np.arange(len(names)), [len(part[name]) for name in names])
        sources.append(Files(labels, paths=[path for name in names for path in part[name]]))
    training, held_out = sources
    return Photographs(tuple(names), training, held_out)


def _class_files(folder):
    """Returns the sorted image files of every class below `folder`."""
    files = {}
    for entry in Path(folder).iterdir():
        if entry.is_dir() and not entry.name.startswith("."):
            names = sorted(name for name in os.listdir(entry) if name.lower().endswith(SUFFIXES))
            files[entry.name] = [os.path.join(entry, name) for name in names]
    if not files:
        raise ValueError(
            f"A folder of photographs has a folder for each class. Received: {folder} without any. "
            f"Put the images of a class into {folder / 'CLASS'}."
        )
    empty = sorted(name for name in files if not files[name])
    if empty:
        raise ValueError(
            f"Every class needs images that end in {', '.join(SUFFIXES)}. "
            f"Received: {folder} with nothing in {', '.join(empty[:5])}{' ...' * (len(empty) > 5)}. "
            "Add images or remove the folder."
        )
    return files


def _load_records(folder):
    splits = [sorted(str(path) for path in folder.glob(pattern)) for pattern in ("train-*", "validation-*")]
    if not splits[1]:
        raise ValueError(
            "A folder of TFRecords holds files train-* and validation-*. "
            f"Received: {folder} without files 'validation-*'. Add them."
        )
    # First of all, since TensorFlow 2.21 ends the process where a record promises more bytes than there are.
    counts = [[_count_records(file) for file in files] for files in splits]
    for files in splits:
        _check_features(files[0])
    spec = {
        "image/class/label": tf.io.FixedLenFeature([], tf.int64, -1),
        "image/class/text": tf.io.FixedLenFeature([], tf.string, ""),
        "image/class/synset": tf.io.FixedLenFeature([], tf.string, ""),
    }
    labels: list[set[int]] = []
    seen: dict[int, bytes] = {}
    for files, most in zip(splits, (LABELS_READ, -1)):
        records = tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE).take(most).batch(256)
        parsed = records.map(lambda batch: tf.io.parse_example(batch, spec)).as_numpy_iterator()
        try:
            found = {name: np.concatenate(parts) for name, parts in _joined(parsed).items()}
        except tf.errors.OpError as error:
            raise ValueError(
                "A file of photographs is a TFRecord of tf.train.Example. "
                f"Received: {folder}, where {files[0]} or one after it is damaged ({error.message}). Copy it again."
            ) from error
        labels.append(set(found["image/class/label"].tolist()))
        for name in ("image/class/synset", "image/class/text"):
            seen |= {label: text for label, text in zip(found["image/class/label"], found[name]) if text}
    first = 0 if 0 in labels[0] | labels[1] else 1
    expected = set(range(first, max(labels[1]) + 1))
    if labels[1] != expected or not labels[0] <= expected:
        missing, more = sorted(expected - labels[1]), sorted((labels[0] | labels[1]) - expected)
        raise ValueError(
            "Every class needs validation images, and labels count from 0, or from 1, without gaps. "
            f"Received: {folder} with the labels {first} to {max(labels[1])} in the validation files, "
            f"{f'without {missing[:5]}' if missing else f'and {more[:5]} beside them'}. Write the files again."
        )
    names = tuple(seen[label].decode() if label in seen else str(label - first) for label in sorted(expected))

    def parse(record):
        features = tf.io.parse_single_example(
            record,
            {
                "image/encoded": tf.io.FixedLenFeature([], tf.string, ""),
                "image/class/label": tf.io.FixedLenFeature([], tf.int64, -1),
            },
        )
        return features["image/encoded"], tf.cast(features["image/class/label"], tf.int32) - first

    training, validation = (Records(files, count, parse) for files, count in zip(splits, counts))
    return Photographs(names, training, validation)


def _joined(dicts):
    """Returns one dict of lists for many dicts."""
    lists: dict[str, list] = {}
    for each in dicts:
        for name, value in each.items():
            lists.setdefault(name, []).append(value)
    return lists


def _check_features(file):
    try:
        record = next(tf.data.TFRecordDataset(file).as_numpy_iterator(), None)
        features = set() if record is None else set(tf.train.Example.FromString(record).features.feature)
    except (
        Exception
    ) as error:  # Of TensorFlow for a file that is no TFRecord, of protobuf for a record of another kind.
        raise ValueError(
            "A file of photographs is a TFRecord of tf.train.Example. "
            f"Received: {file}, which cannot be read ({type(error).__name__}). Write or copy it again."
        ) from error
    missing = {"image/encoded", "image/class/label"} - features
    if missing:
        raise ValueError(
            "A record needs the features image/encoded and image/class/label. "
            f"Received: {file} with {', '.join(sorted(features)) or 'no records'}. Add {', '.join(sorted(missing))}."
        )


def _count_records(file):
    """Returns the number of records, from their lengths alone: the images are not read."""
    count, end, size = 0, 0, os.path.getsize(file)
    with open(file, "rb", buffering=0) as stream:
        while end < size:
            stream.seek(end)
            head = stream.read(8)
            # A length and its checksum are 12 bytes, the checksum of the record 4.
            end += 16 + (struct.unpack("<Q", head)[0] if len(head) == 8 else size)
            count += 1
    if end != size:
        raise ValueError(
            "A file of photographs is a TFRecord of tf.train.Example, which ends with a whole record. "
            f"Received: {file} ({size:,} bytes), whose record {count - 1} is cut off. Write or copy it again."
        )
    return count


def _load_tfds(name, data_dir):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"The dataset {name!r} is no folder, and is read with TensorFlow Datasets. Received: it is not installed. "
            "Install it with: pip install 'pinets_tf[data]'. A folder of photographs needs nothing."
        ) from error
    if name.split(":")[0].split("/")[0] not in tfds.list_builders(with_community_datasets=False):
        raise ValueError(
            "A dataset is a folder of photographs or a name of TensorFlow Datasets. "
            f"Received: {name!r}. Pass for example imagenet2012, imagenette, or the path of a folder."
        )
    builder = tfds.builder(name, data_dir=data_dir)
    features = builder.info.features
    image, label = (dict(features.items()).get(key) for key in ("image", "label"))
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise ValueError(
            "Photographs are classified if each is an 'image' with a 'label'. "
            f"Received: {name!r} with {', '.join(features)}. Pass for example imagenet2012 or imagenette."
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # Of many classes, those of TensorFlow Datasets, of the network and of the disk.
        by_hand = bool(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)
        raise ValueError(
            "A dataset of TensorFlow Datasets is downloaded and prepared before it is read. "
            f"Received: {name!r} in {builder.data_dir}, where this failed ({type(error).__name__}: {error}). "
            + (
                "This set is not downloaded by itself: get its archives, put them where it looks for them, and "
                "pass the same --data_dir again, or pass a folder of photographs."
                if by_hand
                else "Check the network and the space on the disk, or pass another --data_dir."
            )
        ) from error
    splits = builder.info.splits
    validation = next((split for split in ("validation", "test") if split in splits), None)
    if "train" not in splits or validation is None or builder.info.file_format.value != "tfrecord":
        raise ValueError(
            "A set of photographs has the splits train and validation or test, in TFRecords. Received: "
            f"{name!r} with {', '.join(splits)}, in {builder.info.file_format.value}. Pass for example imagenet2012."
        )

    def parse(record):
        example = features.deserialize_example(record, decoders={"image": tfds.decode.SkipDecoding()})
        return example["image"], tf.cast(example["label"], tf.int32)

    training, held_out = (
        Records([str(path) for path in splits[split].filepaths], splits[split].shard_lengths, parse)
        for split in ("train", validation)
    )
    return Photographs(tuple(label.names), training, held_out)
