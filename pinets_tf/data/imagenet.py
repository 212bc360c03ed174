"""Photographs that do not fit in memory as arrays: a folder or a name in, endless `tf.data` batches of crops out."""

import dataclasses
import functools
import itertools
import math
import os
import struct

import numpy as np
import tensorflow as tf

from pinets_tf import files
from pinets_tf.data import class_folders
from pinets_tf.data.encoded_images import CHUNK, EPOCH, Files, Records, cached
from pinets_tf.data.epochs import Share, full_batches
from pinets_tf.data.fingerprints import fingerprint
from pinets_tf.data.picture_files import (
    ENDINGS,
    KINDS,
    damage_of,
    defect_of,
    on_white,
    orientation_of,
    read_picture,
    stored_window,
    turned,
)

# What a folder beside `train` may be called, the first that is there.
HELD_OUT = ("val", "validation")
ENCODED, LABEL = "image/encoded", "image/class/label"
NAMES = ("image/class/synset", "image/class/text")
# Training records whose labels are looked at.
LABELS_READ = 10_000
# Windows drawn for an image.
ATTEMPTS = 10


@dataclasses.dataclass(frozen=True)
class Photographs:
    """Encoded training and validation images with their classes.

    `skipped` maps the name of every unreadable image that was met so far to what is wrong with it. `notes` are lines
    that whoever trains should read first, such as what was left out.
    """

    class_names: tuple[str, ...]
    training: "Files | Records"
    validation: "Files | Records"
    skipped: dict[str, str] = dataclasses.field(default_factory=dict, compare=False)
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def fingerprint(self):
        """A short string that differs where names or sizes of the files, labels, or names of the classes do."""
        return fingerprint(self.class_names, *self.training.facts(), *self.validation.facts())

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

    Which files of a folder are read and which are left out is in `docs/readers.md`.

    Args:
        dataset: one of
            - the path of a folder `train/CLASS/*.jpeg` (or jpg, jfif, png, bmp, gif, webp; also in folders below CLASS)
              with the same classes in `val` or `validation`; they are numbered in the order of their names;
            - the path of a folder `CLASS/*.jpeg` of at least two classes, of which a tenth of each is for validation,
              chosen by a hash of the file name; a class keeps one image for training, and one of two for validation;
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
        ValueError: if there are no images, classes differ between the splits or are empty, records are compressed, or
            lack a feature or have it of another type, or TensorFlow Datasets cannot prepare the set.
    """
    folder = files.expanded(dataset)
    if folder.is_dir():
        if class_folders.is_split(folder):
            return _load_folder(folder)
        if any(path.is_file() for path in folder.glob("train-*")):
            return _load_records(folder)
        if class_folders.is_of_classes(folder):
            return _load_folder(folder)
        raise ValueError(
            "A folder of photographs holds train/CLASS/*.jpeg and val/CLASS/*.jpeg, CLASS/*.jpeg of at least two "
            f"classes, or TFRecords train-* and validation-*. Received: {files.shown(folder)}, with neither a folder "
            "'train' nor files 'train-*' nor folders of classes. Pass the folder that holds them."
        )
    if folder.is_absolute() or str(dataset).startswith((".", "~")):
        raise FileNotFoundError(
            "A dataset is a folder that exists or a name of TensorFlow Datasets. "
            f"Received: {files.shown(dataset)!r}, which is not a folder. Correct the path."
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
    is decoded, and resized bilinearly; all of it is seen as it is looked at, turned as the EXIF data of the image say,
    with what is transparent on white. If it has at least 2, 4 or 8 times the size asked for, JPEG decodes it at a
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
        contents, label = _checked(source.read(item), photographs.classes)
        window = functools.partial(_random_window, sides=sides, place=place, ratio=ratio)
        image = _decode(contents, window, size, _orientation(contents))
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
        return _reported(batches, source, photographs).take(steps * part.replicas)

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
        contents, label = _checked(source.read(item), photographs.classes)
        return _decode(contents, window, size, _orientation(contents)), label, number, recent

    images = source.in_order(part).map(decode, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    # An empty batch after the last tells apart the end of the images and unreadable images at the end.
    end = (tf.zeros((0, size, size, 3)), tf.zeros(0, tf.int32), *source.end(part))
    batches = _resized(images, size).batch(part.of_replica).concatenate(tf.data.Dataset.from_tensors(end))
    batches = _reported(batches, source, photographs)
    return batches.filter(lambda x, y: tf.size(y) > 0).prefetch(tf.data.AUTOTUNE)


def read_image(path, *, size=224, resize=256):
    """Returns the central square of an image file as `validation_batches` does, a float32 array (size, size, 3).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image that can be read, or `resize` is less than `size`.
    """
    _check_crop(size, resize)
    path = files.expanded(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"An image is read from a file that exists. Received: {files.shown(path)!r}, which is no file in "
            f"{files.shown(path.resolve().parent)}. Correct the path."
        )
    contents = path.read_bytes()
    defect = defect_of(contents)
    try:
        if not defect:
            orientation = tf.constant(orientation_of(contents))
            image = _decode(tf.constant(contents), _central_window(size, resize), size, orientation)
            return _resize(image, size).numpy()
    except tf.errors.OpError:
        defect = damage_of(contents)
    raise ValueError(
        f"An image is {KINDS}. Received: {files.shown(path)!r}, which cannot be read ({defect}). Save or copy it again."
    )


def decode_image(contents, *, size=224, resize=256):
    """Returns what `read_image` makes of the contents of a file, also in a graph, except that nothing is turned.

    The transparent pixels of a GIF, and of a PNG in which one colour is transparent, are not white there.

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


def _orientation(contents):
    """Returns the EXIF orientation of a JPEG in a graph, and 1 for other files, which `read_picture` turns."""

    def look():
        found = tf.numpy_function(lambda own: np.int32(orientation_of(own)), [contents], tf.int32, stateful=False)
        return tf.ensure_shape(found, ())

    start = tf.strings.join([tf.strings.substr(contents, 0, 22), "\0" * 22])
    # Tables that follow at once, or after what JFIF says, come after EXIF data, so that there are none.
    tables, jfif, then = (tf.strings.substr(start, place, count) for place, count in ((2, 2), (2, 4), (20, 2)))
    without = (tables == b"\xff\xdb") | ((jfif == b"\xff\xe0\0\x10") & (then == b"\xff\xdb"))
    is_jpeg = tf.strings.substr(start, 0, 2) == b"\xff\xd8"
    return tf.cond(is_jpeg & ~without, look, lambda: 1)


def _decode(contents, window, size, orientation=None):
    """Returns the window of an image as uint8, at a half, a quarter or an eighth if it is so much larger than `size`.

    `window` is a function from height and width to the y, x, height and width that are wanted. Without an orientation
    nothing is turned, and no Python is needed, so that the graph can be exported.
    """

    def crop():
        shape = tf.image.extract_jpeg_shape(contents)[:2]
        if orientation is None:
            return reduced(window(shape))
        return tf.cond(
            orientation == 1,
            lambda: reduced(window(shape)),
            lambda: turned(reduced(stored_window(window, shape, orientation)), orientation),
        )

    def reduced(wanted):
        larger = tf.reduce_min(wanted[2:]) // size
        return tf.cond(larger < 2, lambda: scaled(wanted, 1), lambda: smaller(wanted, larger))

    def smaller(wanted, larger):
        level = tf.cast(larger >= 4, tf.int32) + tf.cast(larger >= 8, tf.int32)
        return tf.switch_case(level, [functools.partial(scaled, wanted // ratio, ratio) for ratio in (2, 4, 8)])

    def scaled(wanted, ratio):
        return tf.raw_ops.DecodeAndCropJpeg(contents=contents, crop_window=wanted, channels=3, ratio=ratio)

    def whole():
        image = on_white(contents) if orientation is None else _in_python(contents)
        y, x, height, width = tf.unstack(window(tf.shape(image)[:2]))
        return image[y : y + height, x : x + width]

    # A JPEG that ends too early is seen to be so when it is decoded to the end, and a crop may not be. No other format
    # ends like a JPEG.
    intact = tf.equal(tf.strings.substr(contents, -2, 2), b"\xff\xd9")
    return tf.ensure_shape(tf.cond(intact, crop, whole), (None, None, 3))


def _in_python(contents):
    """Returns what `read_picture` makes of the bytes of an image, in a graph; fails where it cannot be read."""

    def read(contents):
        picture, _ = read_picture(contents)
        return np.zeros((0, 0, 3), "uint8") if picture is None else picture

    if tf.executing_eagerly():
        image = read(contents.numpy())
    else:
        image = tf.ensure_shape(tf.numpy_function(read, [contents], tf.uint8, stateful=False), (None, None, 3))
    with tf.control_dependencies([tf.debugging.assert_positive(tf.size(image), "no picture")]):
        return tf.identity(image)


def _checked(item, classes):
    """Returns contents and label, and fails for a label that is none of so many classes."""
    contents, label = item
    with tf.control_dependencies([tf.debugging.Assert((label >= 0) & (label < classes), [label])]):
        return contents, tf.identity(label)


def _resize(image, size):
    # Faster on float32 than on uint8, the cast included.
    return tf.ensure_shape(tf.image.resize(tf.cast(image, tf.float32), (size, size)), (size, size, 3))


def _resized(images, size):
    # A step of its own after `ignore_errors`, so that resizing and batching become one operation.
    return images.map(lambda image, *rest: (_resize(image, size), *rest), num_parallel_calls=tf.data.AUTOTUNE)


def _reported(batches, source, photographs):
    """Drops the numbers from batches, and enters in `photographs.skipped` which images are missing between them."""
    skipped = photographs.skipped

    def report(recent, gaps):
        for keys, gap in zip(recent, gaps):
            for key in keys[:gap].tolist():
                skipped.setdefault(source.name(key), _what_is_wrong(source, key, photographs.classes))
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


def _what_is_wrong(source, key, classes):
    try:
        contents, label = source.item(key)
    except tf.errors.OpError:
        return source.unreadable
    if not 0 <= label < classes:
        return f"the label {label}, counted from 0, of {classes} classes"
    return read_picture(contents)[1] or "was not readable when it was asked for"


def _load_folder(folder):
    found = class_folders.read(folder, ENDINGS, HELD_OUT)
    training, held_out = (
        Files(labels, paths=[os.path.join(folder, name) for name in names])
        for names, labels in ((found.training, found.training_labels), (found.held_out, found.held_out_labels))
    )
    return Photographs(found.class_names, training, held_out, notes=found.notes)


def _load_records(folder):
    splits = []
    for start in ("train-", "validation-"):
        found = files.find(folder, "", nested=False)
        splits.append([str(folder / name) for name in found.names if name.startswith(start)])
    if not splits[1]:
        raise ValueError(
            "A folder of TFRecords holds files train-* and validation-*. "
            f"Received: {files.shown(folder)} without files 'validation-*'. Add them."
        )
    # First of all, since TensorFlow 2.21 ends the process where a record promises more bytes than there are.
    counts = [[_count_records(file) for file in paths] for paths in splits]
    for paths in splits:
        _check_first(paths[0])
    spec = {
        LABEL: tf.io.FixedLenFeature([], tf.int64),
        **dict.fromkeys(NAMES, tf.io.FixedLenFeature([], tf.string, "")),
    }
    labels: list[set[int]] = []
    seen: dict[int, bytes] = {}
    for paths, most in zip(splits, (LABELS_READ, -1)):
        encoded = list(map(os.fsencode, paths))
        records = tf.data.TFRecordDataset(encoded, num_parallel_reads=tf.data.AUTOTUNE).take(most).batch(256)
        parsed = records.map(lambda batch: tf.io.parse_example(batch, spec)).as_numpy_iterator()
        try:
            found = {name: np.concatenate(parts) for name, parts in _joined(parsed).items()}
        except tf.errors.OpError as error:
            raise ValueError(f"{_RULE} Received: {_first_defect(paths)}") from error
        labels.append(set(found[LABEL].tolist()))
        for name in NAMES:
            seen |= {label: text for label, text in zip(found[LABEL].tolist(), found[name]) if text}
    first = 0 if 0 in labels[0] | labels[1] else 1
    expected = set(range(first, max(labels[1]) + 1))
    if labels[1] != expected or not labels[0] <= expected:
        missing, more = sorted(expected - labels[1]), sorted((labels[0] | labels[1]) - expected)
        raise ValueError(
            "Every class needs validation images, and labels count from 0, or from 1, without gaps. "
            f"Received: {files.shown(folder)} with the labels {first} to {max(labels[1])} in the validation files, "
            f"{f'without {missing[:5]}' if missing else f'and {more[:5]} beside them'}. Write the files again."
        )
    names = tuple(files.text_of(seen[label]) if label in seen else str(label - first) for label in sorted(expected))

    def parse(record):
        features = tf.io.parse_single_example(
            record,
            {
                ENCODED: tf.io.FixedLenFeature([], tf.string, ""),
                LABEL: tf.io.FixedLenFeature([], tf.int64, -1),
            },
        )
        return features[ENCODED], tf.cast(features[LABEL], tf.int32) - first

    training, validation = (Records(paths, count, parse) for paths, count in zip(splits, counts))
    return Photographs(names, training, validation)


_RULE = (
    "A record is a tf.train.Example with the features image/encoded, the bytes of one JPEG or PNG file, and "
    "image/class/label, one integer."
)


def _joined(dicts):
    """Returns one dict of lists for many dicts."""
    lists: dict[str, list] = {}
    for each in dicts:
        for name, value in each.items():
            lists.setdefault(name, []).append(value)
    return lists


def _check_first(file):
    """Raises a `ValueError` for what is wrong with the first record, which is mostly wrong with all of them."""
    try:
        record = next(tf.data.TFRecordDataset(os.fsencode(file)).as_numpy_iterator(), None)
    except tf.errors.OpError as error:
        raise ValueError(f"{_RULE} Received: {_first_defect([file])}") from error
    defect = "holds no records. Write it again." if record is None else _defect_of_record(record, pixels=True)
    if defect:
        raise ValueError(f"{_RULE} Received: {files.shown(file)}, which {defect}")


def _first_defect(paths):
    """Returns which record of some files is the first that cannot be used, why, and what to do."""
    for path in paths:
        records = tf.data.TFRecordDataset(os.fsencode(path)).as_numpy_iterator()
        for number in itertools.count():
            try:
                record = next(records)
            except StopIteration:
                break
            except tf.errors.OpError:
                return f"{files.shown(path)}, whose record {number} is damaged. Copy it again."
            defect = _defect_of_record(record)
            if defect:
                return f"{files.shown(path)}, whose record {number} {defect}"
    return f"{files.shown(paths[0])} or one after it, which cannot be read. Copy them again."


def _defect_of_record(record, pixels=False):
    """Returns what is wrong with the features of a record, and what to do, or an empty string."""
    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception:  # Of protobuf, whose class depends on how it is built.
        return "is no tf.train.Example. Write it again."
    missing = sorted({ENCODED, LABEL} - set(features))
    if missing:
        return f"has the features {', '.join(sorted(features)) or 'none'}. Add {', '.join(missing)}."
    for name, kind, most in ((ENCODED, "bytes", 1), (LABEL, "int64", 1), *((name, "bytes", 1) for name in NAMES)):
        if name not in features:
            continue
        own = features[name].WhichOneof("kind") or "no_list"
        count = len(getattr(features[name], own).value) if own != "no_list" else 0
        if (own, count) != (f"{kind}_list", most):
            return (
                f"has in {name} {count} value{'s' * (count != 1)} of type {own.removesuffix('_list')} where one of "
                f"type {kind} is expected. Write {'class numbers' if name == LABEL else 'it'} so, one for each image."
            )
    defect = defect_of(features[ENCODED].bytes_list.value[0]) if pixels else ""
    if defect.startswith("no picture"):
        return f"has in {ENCODED} {defect}. Write the bytes of a JPEG or PNG file, as tf.io.encode_jpeg makes them."
    return ""


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
            "A file of photographs is a TFRecord of tf.train.Example, without compression, which ends with a whole "
            f"record. Received: {files.shown(file)} ({size:,} bytes), {_why_cut(file, count - 1)}"
        )
    return count


def _why_cut(file, record):
    with open(file, "rb") as stream:
        head = stream.read(2)
    if head == b"\x1f\x8b":
        return "which is compressed with GZIP. Decompress it with gunzip, since its images are compressed anyway."
    # What ZLIB begins with: a method and a checksum of two bytes.
    if head[:1] == b"\x78" and int.from_bytes(head, "big") % 31 == 0:
        return "which is compressed with ZLIB. Write it without compression, since its images are compressed anyway."
    return f"whose record {record} is cut off. Write or copy it again."


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
    builder = tfds.builder(name, data_dir=data_dir and files.expanded(data_dir))
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
