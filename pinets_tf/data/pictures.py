"""Pictures without labels, for generators: a name or a path in, square pictures and endless `tf.data` batches out."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from pinets_tf import files
from pinets_tf.data import images, notes
from pinets_tf.data.epochs import full_batches, shuffled
from pinets_tf.data.fingerprints import fingerprint
from pinets_tf.data.images import GREY
from pinets_tf.data.picture_files import ENDINGS, read_picture
from pinets_tf.npz import Npz

SPLITS = ("train", "test")
# What an .npz without splits calls its pictures.
WHOLE = ("images", "x")
# Black pixels on each side that are added before a small picture is enlarged instead.
WIDEST_BORDER = 4
PART = 1000


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures of one size, and where they are from.

    Args:
        train: what to learn from, uint8 in [0, 255] of shape (n, size, size, channels), channels being 1 or 3.
        name: the name or path that they were loaded from.
        split: `"train"` or `"test"`, the part of it.
        changes: what was done to them, a few words each.
        skipped: the files that were left out as unusable, and what is wrong with each.
        notes: lines that whoever trains should read first, such as what else was left out.
    """

    train: np.ndarray
    name: str
    split: str
    changes: tuple[str, ...] = ()
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def fingerprint(self):
        """A short string that differs where the pictures do."""
        return fingerprint(self.train)

    @property
    def description(self):
        """A line that says what these pictures are and what was done to them."""
        count, height, width, channels = self.train.shape
        left_out = (f"{len(self.skipped):,} left out",) if self.skipped else ()
        return (
            f"{count:,} {'grey' if channels == 1 else 'colour'} pictures of {height}x{width} from {self.name} "
            f"({self.split}): {', '.join(self.changes + left_out) or 'unchanged'}"
        )


def load(dataset, size, channels=None, data_dir=None, split="train"):
    """Loads pictures and makes them squares of one size.

    Of an oblong picture the central square is taken. Pictures of a folder are then resized, bilinearly and with
    antialiasing. So are those of arrays, except that up to four black pixels on each side, the same number on all, are
    put around smaller ones: 28x28 becomes 32x32 as in the recipe for Fashion-MNIST. Which files of a folder are read
    and which are left out is in `docs/readers.md`.

    Args:
        dataset: one of
            - `"sample"` (Fashion-MNIST images that come with the package);
            - the path of a folder of JPEG, PNG, GIF, BMP and WebP files, also in folders below it, in the order of
              their paths. They are turned as their EXIF data say, and what is transparent lies on white. A file that
              cannot be read or has more than 2^26 pixels, or whose shorter side has less than half of `size`, is left
              out and warned of;
            - the path of an `.npz` with uint8 pictures (n, height, width) or (n, height, width, channels) under the
              name x_train (and x_test), images or x; other arrays in it are not looked at;
            - the name of a set of TensorFlow Datasets that `pinets_tf.data.images` reads, such as `"cifar10"`.
        size: height and width to make.
        channels: 1 makes colour grey, 3 repeats grey three times; `None` leaves what there is, in a folder 3.
        data_dir: the folder of TensorFlow Datasets, or `None` for its default.
        split: `"train"` or `"test"`; a folder, and an `.npz` without x_test, have the first alone.

    Returns:
        A `Pictures`.

    Raises:
        FileNotFoundError: if the file or folder does not exist.
        ImportError: if TensorFlow Datasets is needed and not installed.
        ValueError: if an argument makes no sense, there are no pictures, most files of a folder cannot be used, an
            array has another shape or type, or the set is not known.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"`size` must be a positive integer. Received: size={size!r}. Pass for example 32.")
    if channels not in (None, 1, 3):
        raise ValueError(
            f"`channels` must be 1, 3 or None. Received: channels={channels!r}. "
            "Pass 1 for grey, 3 for colour, None for what the pictures have."
        )
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}. Received: split={split!r}. Pass one of them.")
    name = str(dataset)
    path = files.expanded(dataset)
    if name != images.SAMPLE and path.is_dir():
        _check_not_split(path, split)
        train, changes, skipped, lines = _read_folder(path, size, channels or 3)
    else:
        train, changes = _squares(_arrays(name, path, data_dir, split), size, channels)
        skipped, lines = {}, ()
    lines += tuple(notes.of_pixels(train, split))
    return Pictures(train, files.shown(name), split, changes, skipped, lines)


def batches_from(pictures, batch_size, **options):
    """Returns a function from the number of the first batch to what `real_batches` returns of it.

    Raises:
        ValueError: at once, if there are fewer pictures than `batch_size`.
    """
    full_batches(len(pictures.train), batch_size, "pictures")
    return lambda first_step: real_batches(pictures, batch_size, first_step=first_step, **options)


def real_batches(pictures, batch_size, *, first_step=0, flip=False, dequantise=False, seed=0):
    """Returns endless shuffled batches, starting with number `first_step`, as one `tf.data.Dataset`.

    A batch depends on `seed` and its number alone, so a run that starts at a later step sees what an uninterrupted one
    sees. Every epoch draws a new order; the pictures after the last full batch of an epoch are left out of that epoch.

    Args:
        pictures: a `Pictures`.
        batch_size: pictures in a batch.
        first_step: the number of the first batch.
        flip: whether half of the pictures are mirrored left to right.
        dequantise: whether a uniform number below one grey level is added to each value, as in SNGAN: x / 128 - 1 +
            U(0, 1/128) instead of x / 127.5 - 1.
        seed: an integer.

    Returns:
        A dataset of float32 pictures in [-1, 1].

    Raises:
        ValueError: if there are fewer pictures than `batch_size`.
    """
    count = len(pictures.train)
    steps = full_batches(count, batch_size, "pictures")
    with tf.device("CPU"):
        train = tf.constant(pictures.train)

    def batch(step):
        positions = (step % steps) * batch_size + tf.range(batch_size, dtype=tf.int64)
        x = tf.gather(train, shuffled(positions, seed, step // steps, count))
        own = tf.stack([tf.constant(seed, tf.int64), step])
        if flip:
            draws = tf.random.stateless_uniform((batch_size, 1, 1, 1), tf.random.experimental.stateless_fold_in(own, 0))
            x = tf.where(draws < 0.5, tf.reverse(x, [2]), x)
        x = tf.cast(x, tf.float32)
        if not dequantise:
            return x / 127.5 - 1.0
        noise = tf.random.stateless_uniform(tf.shape(x), tf.random.experimental.stateless_fold_in(own, 1))
        return (x + noise) / 128.0 - 1.0

    dataset = tf.data.Dataset.counter(first_step)
    return dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _arrays(name, path, data_dir, split):
    """Returns the pictures of a set that is no folder, uint8 (n, height, width, channels)."""
    if name != images.SAMPLE:
        if path.suffix.lower() == ".npz":
            return _read_npz(path, split)
        if path.is_file():
            raise ValueError(
                "Pictures are in an .npz file, or in a folder as JPEG, PNG, GIF, BMP or WebP files. "
                f"Received: {path}, another file. Pass the folder that it is in, or save an array with numpy.savez."
            )
        if path.is_absolute() or name.startswith((".", "~")) or len(path.parts) > 1:
            raise FileNotFoundError(
                "Pictures are in a folder or an .npz file that exists, or have a name of TensorFlow Datasets. "
                f"Received: {name!r}, which does not exist. Correct the path."
            )
    try:
        return getattr(images.load(name, data_dir), f"x_{split}")
    except (ImportError, ValueError) as error:
        kind = ImportError if isinstance(error, ImportError) else ValueError
        raise kind(f"{error} A folder of pictures may be passed too, but {path.resolve()} is none.") from error


def _check_not_split(path, split):
    if split != "train":
        raise ValueError(
            "A folder, or an .npz with one array of pictures, has no splits and is loaded as 'train'. "
            f"Received: split={split!r} for {path}. Leave `split` out, or pass the folder or file of that split."
        )


def _read_npz(path, split):
    wanted = f"an .npz file with uint8 pictures under the name x_{split}" + (
        f", {' or '.join(WHOLE)}" if split == "train" else ""
    )
    if not path.is_file():
        raise FileNotFoundError(
            "Pictures are in a folder or a file that exists, or have a name. "
            f"Received: {path.name!r}, which is not in {path.resolve().parent}. Pass the path of {wanted}."
        )
    with Npz(path, f"Pictures must be {wanted}") as file:
        name = next((name for name in (f"x_{split}", *WHOLE) if name in file.names), None)
        x = None if name is None else file[name]
    if x is None:
        raise ValueError(
            f"Pictures must be {wanted}. Received: {path} with {', '.join(file.names) or 'no arrays'}. "
            "Save the pictures under such a name."
        )
    if name in WHOLE:
        _check_not_split(path, split)
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim == 4 and x.size:
        images.check_axes(x, name, path)
    if x.ndim != 4 or x.dtype != np.uint8 or x.shape[-1] not in (1, 3) or x.size == 0:
        remedy = images.CONVERSIONS.get(x.dtype.kind if x.dtype != np.uint8 else "", "Save grey levels 0 to 255.")
        raise ValueError(
            "Pictures must be a uint8 array of shape (n, height, width) or (n, height, width, channels), n > 0, with 1 "
            f"or 3 channels. Received: {name} of shape {x.shape} and type {x.dtype} in {path}. "
            f"{remedy} Save channels last."
        )
    return x


def _read_folder(folder, size, channels):
    """Returns the pictures of a folder, what was done to them, which files are of no use, and notes."""
    found = files.find(folder, ENDINGS)
    if not found.names:
        raise ValueError(
            f"A folder of pictures has files that end in {', '.join(ENDINGS)}, in itself or in folders below it. "
            f"Received: {files.shown(folder)} without any. Pass the folder that holds them. {found.description}"
        )
    x = np.empty((len(found.names), size, size, channels), "uint8")
    sides = np.zeros(len(x), "int64")

    def read(number, contents):
        picture, defect = read_picture(contents)
        if defect:
            return defect
        height, width = picture.shape[:2]
        if 2 * min(height, width) < size:
            return f"only {height}x{width} pixels"
        x[number] = _resized(picture[None], size, channels)[0]
        sides[number] = min(height, width)
        return ""

    skipped = images.usable(folder, found.names, read)
    if skipped:
        x, sides = x[sides > 0], sides[sides > 0]
    changes = [f"central squares of {_range(sides)} pixels, resized to {size}"]
    if (sides < size).any():
        changes.append(f"{(sides < size).sum():,} of them enlarged")
    return x, (*changes, *["made grey"] * (channels == 1)), skipped, (found.description,) * bool(found.left_out)


def _range(sides):
    low, high = sides.min(), sides.max()
    return f"{low}" if low == high else f"{low} to {high}"


def _squares(x, size, channels):
    """Returns pictures (n, height, width, c) as uint8 (n, size, size, channels), and what was done to them."""
    height, width, own = x.shape[1:]
    channels, changes = channels or own, []
    side = min(height, width)
    if height != width:
        changes.append(f"central squares of {height}x{width}")
    border, odd = divmod(size - side, 2)
    padded = not odd and 0 < border <= WIDEST_BORDER
    if padded:
        changes.append(f"padded with {border} black pixels on each side, from {side} to {size}")
    elif size != side:
        changes.append(f"{'enlarged' if size > side else 'resized'} from {side} to {size} pixels")
    if channels != own:
        changes.append("made grey" if channels == 1 else "grey repeated in three channels")
    if not changes:
        return x, ()
    done = np.zeros((len(x), size, size, channels), "uint8")
    inside = slice(border, size - border) if padded else slice(None)
    # In parts, since float32 pictures of the whole set are four times its size.
    for first in range(0, len(x), PART):
        part = slice(first, first + PART)
        done[part, inside, inside] = _resized(x[part], side if padded else size, channels)
    return done, tuple(changes)


def _resized(x, size, channels):
    """Returns the central squares of pictures, resized, and made grey or coloured, as uint8."""
    height, width, own = x.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    x = x[:, top : top + side, left : left + side]
    if side != size:
        with tf.device("CPU"):
            x = tf.image.resize(x, (size, size), antialias=True).numpy()
    if channels < own:
        x = x @ GREY
    return np.rint(np.broadcast_to(x, (*x.shape[:-1], channels))).astype("uint8")
