"""Photographs: which crops come out, in which order, and what bad files say."""

import base64

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from pinets_tf.data import drawn_shapes, encoded_images, imagenet
from pinets_tf.data.epochs import Share

# 12x8 pixels of one colour, about (51, 208, 180) in RGB.
CMYK = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwANCQoLCggNCwoLDg4NDxMgFRMSEhMnHB4XIC4pMTAuKS0sMzpKPjM2RjcsLUBXQUZMTlJTUjI+"
    "WmFaUGBKUVJP/8AAFAgACAAMBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAAGB//EABQQAQAAAAAAAAAAAAAAAAAAAAD/"
    "2gAOBEMATQBZAEsAAD8Akl4qWhAD/9k="
)
CLASSES = ("bird", "cat", "dog")


def pixels(seed, height=40, width=56):
    """Smooth random colours, so that JPEG keeps them."""
    small = tf.random.stateless_uniform((5, 7, 3), (seed, 0), maxval=255.0)
    return tf.cast(tf.image.resize(small, (height, width), "bicubic"), tf.uint8)


def jpeg(seed, height=40, width=56):
    # Without subsampled colours, whose interpolation differs by a few grey levels at the borders of a decoded crop.
    return tf.io.encode_jpeg(pixels(seed, height, width), quality=95, chroma_downsampling=False).numpy()


def colour(label, size=24):
    """An image that shows its label in red."""
    image = np.full((size, size, 3), 60, "uint8")
    image[..., 0] = 40 + 60 * label
    return tf.io.encode_jpeg(image, quality=95).numpy()


def folder_of(path, train=8, validation=3, encode=colour):
    for split, count in (("train", train), ("val", validation)):
        for label, name in enumerate(CLASSES):
            (path / split / name).mkdir(parents=True)
            for number in range(count):
                (path / split / name / f"{number:02}.JPEG").write_bytes(encode(label))
    return path


def numbered(path):
    """Images that are all different."""
    seeds = iter(range(1000))
    return folder_of(path, encode=lambda label: jpeg(next(seeds)))


def records_of(path, first=1, name=b"image/class/text", drop=None, encode=colour):
    path.mkdir(exist_ok=True)
    for split, shards, count in (("train", 3, 4), ("validation", 2, 2)):
        for shard in range(shards):
            with tf.io.TFRecordWriter(str(path / f"{split}-{shard:05}-of-{shards:05}")) as writer:
                for label in range(len(CLASSES)):
                    for _ in range(count):
                        features = {
                            "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encode(label)])),
                            "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label + first])),
                            name.decode(): tf.train.Feature(
                                bytes_list=tf.train.BytesList(value=[CLASSES[label].encode()])
                            ),
                        }
                        features.pop(drop, None)
                        example = tf.train.Example(features=tf.train.Features(feature=features))
                        writer.write(example.SerializeToString())
    return path


def arrays(batches):
    return tuple(np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator()))


def labels_shown(x):
    return np.round((x[..., 0].mean((1, 2)) - 40) / 60).astype(int)


def test_folder(tmp_path):
    data = imagenet.load(folder_of(tmp_path))
    assert (data.class_names, data.classes) == (CLASSES, 3)
    assert (data.train_size, data.validation_size) == (24, 9)
    assert imagenet.steps_per_epoch(data, 5) == 4


@pytest.mark.parametrize("cache", [True, False, "auto"])
def test_batches_of_a_folder(tmp_path, cache):
    data = imagenet.load(folder_of(tmp_path))
    batches = imagenet.training_batches(data, 5, size=16, epochs=2, cache=cache)
    assert batches.cardinality() == 8
    x, y = arrays(batches)
    assert x.shape == (40, 16, 16, 3) and x.dtype == "float32" and y.dtype == "int32"
    np.testing.assert_array_equal(labels_shown(x), y)
    x, y = arrays(imagenet.validation_batches(data, 4, size=16, resize=20, cache=cache))
    assert x.shape == (9, 16, 16, 3) and x.dtype == "float32" and y.dtype == "int32"
    np.testing.assert_array_equal(labels_shown(x), np.repeat([0, 1, 2], 3))
    np.testing.assert_array_equal(y, np.repeat([0, 1, 2], 3))
    assert not data.skipped


def test_an_epoch_has_every_image_once_and_a_new_order(tmp_path):
    data = imagenet.load(numbered(tmp_path))
    # The whole image, not mirrored, tells which one it is.
    options = {"size": 8, "epochs": 2, "area": (1.0, 1.0), "ratio": (1.4, 1.4), "flip": False}
    x, y = arrays(imagenet.training_batches(data, 6, **options))
    whole = [imagenet._resize(tf.io.decode_jpeg(tf.io.read_file(path)), 8).numpy() for path in data.training.paths]
    found = [int(np.argmin([np.abs(image - each).max() for each in whole])) for image in x]
    assert sorted(found[:24]) == sorted(found[24:]) == list(range(24)) and found[:24] != found[24:]
    np.testing.assert_array_equal(y, np.array(found) // 8)


@pytest.mark.parametrize("make", [numbered, lambda path: records_of(path, encode=lambda label: jpeg(label))])
@pytest.mark.parametrize("cache", [pytest.param(True, marks=pytest.mark.long), False])
def test_a_later_start_sees_what_an_uninterrupted_run_sees(tmp_path, make, cache):
    data = imagenet.load(make(tmp_path))
    options = {"size": 12, "epochs": 3, "seed": 5, "cache": cache}
    whole = list(imagenet.training_batches(data, 7, **options).as_numpy_iterator())
    late = list(imagenet.training_batches(data, 7, first_epoch=2, **options).as_numpy_iterator())
    steps = imagenet.steps_per_epoch(data, 7)
    assert len(whole) == 3 * steps and len(late) == steps
    for (x, y), (x_late, y_late) in zip(whole[2 * steps :], late):
        np.testing.assert_array_equal(x, x_late)
        np.testing.assert_array_equal(y, y_late)
    other = next(imagenet.training_batches(data, 7, **{**options, "seed": 6}).as_numpy_iterator())
    assert not np.array_equal(whole[0][0], other[0])


def test_windows_keep_their_ranges():
    shapes = np.tile([[375, 500], [500, 375], [300, 300], [90, 700]], (250, 1))
    windows = imagenet.random_windows(shapes, 0, area=(0.2, 0.9), ratio=(0.75, 1.5))
    y, x, height, width = windows[:, :4].T
    assert (y >= 0).all() and (x >= 0).all()
    assert (y + height <= shapes[:, 0]).all() and (x + width <= shapes[:, 1]).all()
    share, aspect = height * width / shapes.prod(1), width / height
    # A pixel of rounding is one in a hundred of the smallest side.
    assert aspect.min() > 0.74 and aspect.max() < 1.52
    usual = shapes[:, 0] != 90
    assert share[usual].min() > 0.195 and share[usual].max() < 0.905
    assert 0.2 <= np.percentile(share[usual], 5) < 0.25 and np.percentile(share[usual], 95) > 0.75
    # Windows of nine tenths lie in no such image with another ratio, and the panorama has none of a fifth.
    np.testing.assert_array_equal(windows[~usual, 2:], np.tile([90, 135], (250, 1)))
    assert len(np.unique(x[~usual])) > 100


def test_windows_differ_between_epochs_and_seeds():
    shapes = np.full((100, 2), 200)
    first = imagenet.random_windows(shapes, 0)
    np.testing.assert_array_equal(first, imagenet.random_windows(shapes, 0))
    assert (first != imagenet.random_windows(shapes, 1)).any(1).mean() > 0.9
    assert (first != imagenet.random_windows(shapes, 0, seed=1)).any(1).mean() > 0.9


def test_a_crop_is_the_window_of_the_whole_image_resized(tmp_path):
    data = imagenet.load(numbered(tmp_path))
    windows = imagenet.random_windows([(40, 56)] * 24, 1, seed=3)
    items = data.training.shuffled(3, tf.constant(1, tf.int64), Share(24)).take(24)
    order = [int(index) for (index, _), *_ in items.as_numpy_iterator()]
    x, _ = arrays(imagenet.training_batches(data, 24, size=21, epochs=2, first_epoch=1, seed=3))
    mirrored = 0
    for image, index, (top, left, height, width) in zip(x, order, windows):
        whole = tf.io.decode_jpeg(tf.io.read_file(data.training.paths[index]))
        expected = tf.image.resize(whole[top : top + height, left : left + width], (21, 21)).numpy()
        if not np.allclose(image, expected, atol=1e-3):
            expected = expected[:, ::-1]
            mirrored += 1
        np.testing.assert_allclose(image, expected, atol=1e-3)
    assert 0 < mirrored < 24


@pytest.mark.parametrize("times, ratio", [(1, 1), (2, 2), (3, 2), (4, 4), (9, 8)])
def test_large_windows_are_decoded_smaller(times, ratio):
    contents = jpeg(0, 16 * 9 + 3, 16 * 9 + 5)
    window = tf.constant([0, 0, 16 * times + 1, 16 * times])
    image = imagenet._decode(tf.constant(contents), lambda shape: window, 16)
    whole = tf.io.decode_jpeg(contents, channels=3, ratio=ratio)
    height, width = window.numpy()[2:] // ratio
    np.testing.assert_array_equal(image, whole[:height, :width])


@pytest.mark.parametrize("height, width", [(40, 56), (57, 31), (30, 30), (130, 90)])
def test_validation_is_the_central_square(tmp_path, height, width):
    (tmp_path / "one.jpg").write_bytes(jpeg(1, height, width))
    side = round(min(height, width) * 28 / 32)
    top, left = (height - side) // 2, (width - side) // 2
    ratio = 2 if side >= 56 else 1
    whole = tf.io.decode_jpeg(jpeg(1, height, width), ratio=ratio)
    top, left, side = top // ratio, left // ratio, side // ratio
    expected = tf.image.resize(whole[top : top + side, left : left + side], (28, 28))
    found = imagenet.read_image(tmp_path / "one.jpg", size=28, resize=32)
    assert found.shape == (28, 28, 3) and found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_read_image_is_what_validation_sees(tmp_path):
    data = imagenet.load(numbered(tmp_path))
    x, _ = arrays(imagenet.validation_batches(data, 4, size=14, resize=16))
    for image, path in zip(x, data.validation.paths.numpy()):
        np.testing.assert_array_equal(image, imagenet.read_image(path.decode(), size=14, resize=16))


def test_grey_cmyk_and_png(tmp_path):
    grey = pixels(3)[..., :1]
    (tmp_path / "grey.jpeg").write_bytes(tf.io.encode_jpeg(grey).numpy())
    (tmp_path / "cmyk.jpeg").write_bytes(CMYK)
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(pixels(3)).numpy())
    (tmp_path / "alpha.png").write_bytes(tf.io.encode_png(tf.concat([pixels(3), pixels(3)[..., :1]], -1)).numpy())
    (tmp_path / "more.jpeg").write_bytes(jpeg(3) + bytes(7))
    read = {path.stem: imagenet.read_image(path, size=10, resize=10) for path in tmp_path.iterdir()}
    assert {image.shape for image in read.values()} == {(10, 10, 3)}
    assert np.ptp(read["grey"], axis=-1).max() == 0 and np.ptp(read["grey"]) > 20
    np.testing.assert_allclose(read["cmyk"].mean((0, 1)), (51, 208, 180), atol=6)
    plain = tf.cast(pixels(3)[:, 8:48], tf.float32)
    expected = tf.image.resize(plain, (10, 10))
    np.testing.assert_allclose(read["a"], expected, atol=1e-3)
    alpha = plain[..., :1] / 255
    np.testing.assert_allclose(read["alpha"], tf.image.resize(alpha * plain + (1 - alpha) * 255, (10, 10)), atol=1)
    np.testing.assert_allclose(read["more"], expected, atol=12)


def damaged(contents):
    """An image damaged in each way: what it holds, and what is said of it."""
    middle = len(contents) // 2
    return {
        "empty": (b"", "an empty file"),
        "byte": (b"\xff", "no picture of a known kind"),
        "text": (b"404: Not Found", "no picture of a known kind"),
        "cut": (contents[:middle], "a JPEG without an end, "),
        # Begins and ends as it should.
        "marker": (contents[:middle] + b"\xff\xc8" + contents[middle + 2 :], "a JPEG that is damaged or of"),
        "header": (contents[:4] + bytes(200) + contents[204:], "a JPEG that is damaged or of"),
        "png": (tf.io.encode_png(pixels(0)).numpy()[:300], "a PNG that is damaged or of a rare kind"),
    }


@pytest.mark.parametrize("cache", [True, False])
def test_damaged_images_are_named_and_replaced(tmp_path, cache):
    data = imagenet.load(folder_of(tmp_path))
    # Whether damage inside is met depends on the windows.
    bad = [each for name, each in damaged(jpeg(0)).items() if name != "marker"]
    names = {}
    for path, (contents, words) in zip(sorted((tmp_path / "train").rglob("*.JPEG"))[::3], bad):
        path.write_bytes(contents)
        names[str(path)] = words
    for path, (contents, words) in zip(sorted((tmp_path / "val").rglob("*.JPEG"))[4:], bad):
        path.write_bytes(contents)
        names[str(path)] = words
    batches = imagenet.training_batches(data, 5, size=16, epochs=3, cache=cache)
    x, y = arrays(batches)
    assert len(x) == 60
    np.testing.assert_array_equal(labels_shown(x), y)
    assert set(data.skipped) == {name for name in names if "/train/" in name}
    again = arrays(imagenet.training_batches(data, 5, size=16, epochs=3, first_epoch=1, cache=cache))
    np.testing.assert_array_equal(x[20:], again[0])
    x, y = arrays(imagenet.validation_batches(data, 4, size=16, resize=16, cache=cache))
    np.testing.assert_array_equal(labels_shown(x), y)
    np.testing.assert_array_equal(y, [0, 0, 0, 1])
    assert set(data.skipped) == set(names)
    for name, words in names.items():
        assert words in data.skipped[name]


def test_damage_inside_is_seen_when_a_window_reaches_it(tmp_path):
    data = imagenet.load(numbered(tmp_path))
    bad = tmp_path / "train/cat/03.JPEG"
    bad.write_bytes(damaged(bad.read_bytes())["marker"][0])
    whole = {"area": (1.0, 1.0), "ratio": (1.4, 1.4)}
    _, y = arrays(imagenet.training_batches(data, 23, size=16, epochs=1, **whole))
    assert np.bincount(y).tolist() == [8, 7, 8]
    assert list(data.skipped) == [str(bad)] and "a JPEG that is damaged" in data.skipped[str(bad)]


def test_damaged_at_the_end_of_validation(tmp_path):
    data = imagenet.load(folder_of(tmp_path))
    for number in (1, 2):
        (tmp_path / "val/dog" / f"{number:02}.JPEG").write_bytes(b"")
    _, y = arrays(imagenet.validation_batches(data, 7, size=16, resize=16))
    np.testing.assert_array_equal(y, [0, 0, 0, 1, 1, 1, 2])
    assert [name[-11:] for name in sorted(data.skipped)] == ["dog/01.JPEG", "dog/02.JPEG"]


def test_many_damaged_in_a_row(tmp_path):
    data = imagenet.load(folder_of(tmp_path, validation=10))
    for path in (tmp_path / "val").rglob("*"):
        if path.is_file() and path.parent.name != "dog":
            path.write_bytes(b"")
    _, y = arrays(imagenet.validation_batches(data, 7, size=16, resize=16))
    assert (y == 2).all() and len(y) == 10 and len(data.skipped) == 17
    (words,) = (name for name in data.skipped if "images before" in name)
    assert words.startswith("4 images before ") and "more than 16 in a row" in data.skipped[words]


def test_most_images_damaged(tmp_path):
    data = imagenet.load(folder_of(tmp_path))
    for path in (tmp_path / "train").rglob("*.JPEG"):
        if path.parent.name != "dog":
            path.write_bytes(b"")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"At least half .*Received: 24 images.*Copy the files"):
        arrays(imagenet.training_batches(data, 24, size=16, epochs=1))


@pytest.mark.parametrize(
    "first, name, cache", [(0, b"image/class/text", True), (1, b"image/class/synset", False), (1, b"none", True)]
)
def test_records(tmp_path, first, name, cache):
    data = imagenet.load(records_of(tmp_path, first, name))
    names = CLASSES if name != b"none" else ("0", "1", "2")
    assert (data.class_names, data.train_size, data.validation_size) == (names, 36, 12)
    x, y = arrays(imagenet.training_batches(data, 9, size=16, epochs=2, cache=cache))
    np.testing.assert_array_equal(labels_shown(x), y)
    assert (np.bincount(y[:36]) == 12).all() and (np.bincount(y[36:]) == 12).all()
    assert not np.array_equal(y[:36], y[36:])
    x, y = arrays(imagenet.validation_batches(data, 5, size=16, resize=16, cache=cache))
    np.testing.assert_array_equal(labels_shown(x), y)
    np.testing.assert_array_equal(y, np.tile(np.repeat([0, 1, 2], 2), 2))


@pytest.mark.parametrize("cache", [True, False])
def test_damaged_records_are_named(tmp_path, cache):
    numbers = iter(range(1000))
    data = imagenet.load(
        records_of(tmp_path, encode=lambda label: colour(label)[: 99 if next(numbers) in (1, 13, 47) else None])
    )
    x, y = arrays(imagenet.training_batches(data, 12, size=16, epochs=2, cache=cache))
    np.testing.assert_array_equal(labels_shown(x), y)
    arrays(imagenet.validation_batches(data, 12, size=16, resize=16, cache=cache))
    assert sorted(name.rsplit("/", 1)[1] for name in data.skipped) == [
        "train-00000-of-00003, record 1",
        "train-00001-of-00003, record 1",
        "validation-00001-of-00002, record 5",
    ]
    assert set(data.skipped.values()) == {"a JPEG without an end, 99 bytes"}


def remove(path):
    for file in sorted(path.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    path.rmdir()


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda path: remove(path / "train"),
            ("train/CLASS/*.jpeg", "neither a folder 'train' nor", "Pass the folder"),
        ),
        (lambda path: remove(path / "val"), ("val/CLASS", "without a folder 'val' or 'validation'", "every class")),
        (lambda path: remove(path / "val/cat"), ("same classes", "with cat in one", "(3 and 2 classes)", "Add or")),
        (
            lambda path: (path / "train/emu").mkdir(),
            ("Every class needs images", "nothing in emu", "remove the folder"),
        ),
        (
            lambda path: [remove(path / "val" / name) for name in CLASSES],
            ("folder for each class", "without any", "Put"),
        ),
    ],
)
def test_bad_folders(tmp_path, change, words):
    change(folder_of(tmp_path))
    with pytest.raises(ValueError) as caught:
        imagenet.load(tmp_path)
    for word in words:
        assert word in str(caught.value)


def test_no_such_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (tmp_path / "none", "./none", "~/none-of-these"):
        with pytest.raises(FileNotFoundError, match=r"a folder that exists or a name.*none.*not a folder. Correct"):
            imagenet.load(path)


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda path: [file.unlink() for file in path.glob("val*")],
            ("files train-* and", "without files 'val", "Add"),
        ),
        (
            lambda path: records_of(path, drop="image/encoded"),
            ("with the features image/enc", "has the features image/class/label, image", "Add image/encoded"),
        ),
        (
            lambda path: records_of(path, drop="image/class/label"),
            ("with the features image/enc", "features image/class/text, image/encoded", "Add image/class/label"),
        ),
        (
            lambda path: (path / "train-00000-of-00003").write_bytes(b""),
            ("with the features image/encoded", "00000-of-00003, which holds no records", "Write it again"),
        ),
        (
            lambda path: (path / "train-00000-of-00003").write_bytes(b"not a record, but long enough to be one"),
            ("TFRecord of tf.train.Example", "whose record 0 is cut off", "copy it"),
        ),
        (
            lambda path: records_of(path, first=2),
            ("Every class needs validation images", "labels 1 to 4", "without [1]", "Write the files again"),
        ),
    ],
)
def test_bad_records(tmp_path, change, words):
    change(records_of(tmp_path))
    with pytest.raises(ValueError) as caught:
        imagenet.load(tmp_path)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("cut", [1, 9, 300])
def test_records_cut_off(tmp_path, cut):
    path = records_of(tmp_path) / "train-00001-of-00003"
    contents = path.read_bytes()
    path.write_bytes(contents[: len(contents) - cut])
    with pytest.raises(
        ValueError, match=r"whole record.*00001-of-00003 \([\d,]+ bytes\), whose record 11 is cut.*copy"
    ):
        imagenet._count_records(path)


def test_labels_only_in_training(tmp_path):
    records_of(tmp_path)
    for file in tmp_path.glob("validation-*"):
        contents = file.read_bytes()
        # The last third of the records is the last class.
        file.write_bytes(contents[: 2 * len(contents) // 3])
    with pytest.raises(ValueError, match=r"labels 1 to 2 in the validation files, and \[3\] beside them"):
        imagenet.load(tmp_path)


def test_bad_arguments(tmp_path):
    data = imagenet.load(folder_of(tmp_path))
    with pytest.raises(ValueError, match=r"one full batch.*batch_size=25 for 24 training images.*smaller batch"):
        imagenet.training_batches(data, 25, epochs=1)
    for area in ((0.0, 1.0), (0.5, 0.2), (0.5, 1.1)):
        with pytest.raises(
            ValueError, match=r"`area` must be two numbers.*at most 1.*Received: area=\(0.*\(0.08, 1.0\)"
        ):
            imagenet.training_batches(data, 5, epochs=1, area=area)
    with pytest.raises(ValueError, match=r"`ratio` must be two numbers above 0, the.*ratio=\(2, 1\).*\(0.75, 1.33\)"):
        imagenet.training_batches(data, 5, epochs=1, ratio=(2, 1))
    with pytest.raises(ValueError, match=r"`cache` must be 'auto', True or False. Received: cache='disk'. Pass one"):
        imagenet.validation_batches(data, 5, cache="disk")
    with pytest.raises(ValueError, match=r"must lie in the resized image.*size=224, resize=200.*at least `size`"):
        imagenet.validation_batches(data, 5, resize=200)


def test_read_image_says_what_is_wrong(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"file that exists. Received: .*none.jpg', which is no file in .*Correct"
    ):
        imagenet.read_image(tmp_path / "none.jpg")
    for contents, words in damaged(jpeg(0)).values():
        (tmp_path / "bad.jpg").write_bytes(contents)
        with pytest.raises(ValueError, match=rf"JPEG, PNG.*bad.jpg', which cannot be read \(.*{words}.*copy it again"):
            imagenet.read_image(tmp_path / "bad.jpg", size=10, resize=10)


def test_cache_is_decided_by_the_memory(tmp_path, monkeypatch):
    assert encoded_images._memory_bytes() > 2**20
    source = imagenet.load(folder_of(tmp_path)).training
    for share, cached in ((4, True), (3.9, False)):
        monkeypatch.setattr(encoded_images, "_memory_bytes", lambda share=share: source.bytes() * share)
        assert (encoded_images.cached(source, "auto").encoded is not None) == cached
    assert encoded_images.cached(source, True).encoded is not None and encoded_images.cached(source, False) is source


class Photos(tfds.core.GeneratorBasedBuilder):
    """A set of TensorFlow Datasets that needs no download."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=CLASSES)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(24), "validation": self._generate_examples(9)}

    def _generate_examples(self, count):
        for number in range(count):
            image = tf.io.decode_jpeg(colour(number % 3)).numpy()
            yield number, {"image": image, "label": number % 3}


def test_tensorflow_datasets(tmp_path):
    data = imagenet.load("photos", tmp_path)
    assert (data.class_names, data.train_size, data.validation_size) == (CLASSES, 24, 9)
    for cache in (True, False):
        x, y = arrays(imagenet.training_batches(data, 8, size=16, epochs=1, cache=cache))
        np.testing.assert_array_equal(labels_shown(x), y)
        assert (np.bincount(y) == 8).all()
        x, y = arrays(imagenet.validation_batches(data, 8, size=16, resize=16, cache=cache))
        np.testing.assert_array_equal(labels_shown(x), y)
    assert "photos-train.tfrecord" in data.training.name(3) and data.training.name(3).endswith("record 3")


def test_imagenet_is_downloaded_by_hand(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)'imagenet2012' in .*ILSVRC2012_img_train.tar.*not downloaded by itself"):
        imagenet.load("imagenet2012", tmp_path)


def test_failed_download(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", fail)
    monkeypatch.setattr(tfds.download.DownloadManager, "download", fail)
    with pytest.raises(ValueError, match=r"prepared before.*'imagenette' in .*no route to host.*Check the network"):
        imagenet.load("imagenette", tmp_path)


def test_unknown_name_and_other_sets(tmp_path):
    with pytest.raises(ValueError, match=r"folder of photographs or a name.*'imagenet2013'.*for example imagenet2012"):
        imagenet.load("imagenet2013")
    with pytest.raises(
        ValueError, match=r"an 'image' with a 'label'. Received: 'imdb_reviews' with .*text.*imagenette"
    ):
        imagenet.load("imdb_reviews", tmp_path)


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    with pytest.raises(
        ImportError, match=r"'imagenet2012' is no folder.*not installed.*pip install 'pinets_tf\[data\]'"
    ):
        imagenet.load("imagenet2012")


def test_sample(tmp_path):
    data = imagenet.load(drawn_shapes.write_sample(tmp_path / "one", train=6, validation=2))
    assert data.classes == 8 and (data.train_size, data.validation_size) == (48, 16)
    drawn_shapes.write_sample(tmp_path / "two", train=6, validation=2)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.jpeg"))
    assert len(files) == 64
    contents = [(tmp_path / "one" / path).read_bytes() for path in files]
    assert contents == [(tmp_path / "two" / path).read_bytes() for path in files]
    shapes = np.array([tf.image.extract_jpeg_shape(each) for each in contents])
    assert shapes[:, 0].min() >= 120 and shapes[:, 0].max() <= 180
    assert shapes[:, 1].min() >= 160 and shapes[:, 1].max() <= 240 and set(shapes[:, 2]) == {1, 3}


def test_sample_is_not_told_apart_by_its_mean_colour(tmp_path):
    data = imagenet.load(drawn_shapes.write_sample(tmp_path, train=40, validation=20))
    means = {}
    for split, source in (("train", data.training), ("val", data.validation)):
        images = [tf.io.decode_jpeg(tf.io.read_file(path), channels=3) for path in source.paths]
        means[split] = np.array([tf.reduce_mean(tf.cast(image, tf.float32), (0, 1)) for image in images])
    labels = data.training.labels.numpy()
    nearest = np.argmin(np.square(means["val"][:, None] - means["train"]).sum(-1), 1)
    # One in eight by chance.
    assert (labels[nearest] == data.validation.labels.numpy()).mean() < 0.25


@pytest.mark.parametrize("records", [pytest.param(False, marks=pytest.mark.long), True])
@pytest.mark.parametrize("hosts, replicas", [pytest.param(2, 1, marks=pytest.mark.long), (3, 2)])
def test_shares_of_hosts_are_the_batches_of_one(tmp_path, records, hosts, replicas):
    data = imagenet.load(records_of(tmp_path / "set") if records else numbered(tmp_path))
    options = {"size": 8, "epochs": 2, "seed": 1, "cache": False}
    x, y = arrays(imagenet.training_batches(data, 12, **options))
    parts = [
        arrays(imagenet.training_batches(data, 12, share=(host, hosts, replicas), **options)) for host in range(hosts)
    ]
    steps = 2 * imagenet.steps_per_epoch(data, 12)
    for whole, of_hosts in zip((x, y), zip(*parts)):
        shaped = [part.reshape(steps, 12 // hosts, *part.shape[1:]) for part in of_hosts]
        np.testing.assert_array_equal(np.concatenate(shaped, axis=1).reshape(whole.shape), whole)
    # The last batch is not full, and of no use to some replicas.
    options = {"size": 8, "resize": 9, "cache": False}
    x, _ = arrays(imagenet.validation_batches(data, 6 * hosts * replicas, **options))
    parts = [
        imagenet.validation_batches(data, 6 * hosts * replicas, share=(host, hosts, replicas), **options)
        for host in range(hosts)
    ]
    together = np.concatenate([batch.numpy() for part in parts for batch, _ in part])
    assert together.shape == x.shape
    np.testing.assert_array_equal(np.sort(together.sum((1, 2, 3))), np.sort(x.sum((1, 2, 3))))


def test_replicas_share_a_batch_alike(tmp_path):
    data = imagenet.load(numbered(tmp_path))
    with pytest.raises(
        ValueError, match=r"same part of a batch\. Received: batch_size=10 for 4 replicas\. Pass a multi"
    ):
        imagenet.training_batches(data, 10, size=8, epochs=1, share=(0, 2, 2))


def written_records(path, feature, options=None):
    """Writes records of one image each, with other features."""
    for split in ("train", "validation"):
        with tf.io.TFRecordWriter(str(path / f"{split}-00000-of-00001"), options) as writer:
            for _ in range(3):
                features = {"image/encoded": bytes_of(colour(0)), "image/class/label": int_of(0), **feature}
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return path


def bytes_of(*values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def int_of(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


@pytest.mark.parametrize(
    "feature, words",
    [
        (
            {"image/class/label": bytes_of(b"cat")},
            r"image/class/label 1 value of type bytes where one of type int64 is expected\. Write class numbers",
        ),
        (
            {"image/class/label": int_of(1, 2)},
            r"image/class/label 2 values of type int64 where one of type int64 is expected\. Write class numbers",
        ),
        (
            {"image/class/label": tf.train.Feature(float_list=tf.train.FloatList(value=[1.0]))},
            r"image/class/label 1 value of type float where one of type int64 is expected\. Write class numbers",
        ),
        ({"image/class/label": tf.train.Feature()}, r"0 values of type no where one of type int64"),
        ({"image/encoded": int_of(*range(9))}, r"image/encoded 9 values of type int64 where one of type bytes"),
        (
            {"image/encoded": bytes_of(bytes(range(1, 192)))},
            r"image/encoded no picture of a known kind\. Write the bytes of a JP",
        ),
        (
            {"image/class/text": int_of(7)},
            r"image/class/text 1 value of type int64 where one of type bytes is expected",
        ),
    ],
)
def test_records_of_other_features(feature, words, tmp_path):
    with pytest.raises(
        ValueError, match=rf"with the features image/encoded.*Received: .*train-00000.*{words}"
    ) as caught:
        imagenet.load(written_records(tmp_path, feature))
    assert "{{" not in str(caught.value)


def test_a_later_record_of_other_features_is_named(tmp_path):
    written_records(tmp_path, {})
    file = tmp_path / "train-00000-of-00001"
    good = file.read_bytes()
    written_records(tmp_path, {"image/class/label": bytes_of(b"cat")})
    file.write_bytes(good + file.read_bytes())
    (tmp_path / "validation-00000-of-00001").write_bytes(good)
    with pytest.raises(
        ValueError, match=r"train-00000-of-00001, whose record 3 has in image/class/label 1 value"
    ) as caught:
        imagenet.load(tmp_path)
    assert "{{" not in str(caught.value)


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_compressed_records_are_refused_as_such(kind, tmp_path):
    options = tf.io.TFRecordOptions(compression_type=kind)
    with pytest.raises(
        ValueError, match=rf"without compression.*which is compressed with {kind}\. (Dec|Write it without)"
    ):
        imagenet.load(written_records(tmp_path, {}, options))


def test_names_of_records_in_other_encodings(tmp_path):
    data = imagenet.load(written_records(tmp_path, {"image/class/text": bytes_of("chien é".encode("latin-1"))}))
    assert data.class_names == ("chien é",)


@pytest.mark.parametrize("cache", [True, False])
def test_labels_of_later_records_that_are_no_class(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(imagenet, "LABELS_READ", 3)
    written_records(tmp_path, {})
    file = tmp_path / "train-00000-of-00001"
    good = file.read_bytes()
    written_records(tmp_path, {"image/class/label": int_of(7)})
    file.write_bytes(good + file.read_bytes())
    (tmp_path / "validation-00000-of-00001").write_bytes(good)
    data = imagenet.load(tmp_path)
    _, y = arrays(imagenet.training_batches(data, 6, size=16, epochs=1, cache=cache))
    assert (y == 0).all() and len(data.skipped) == 3
    assert set(data.skipped.values()) == {"the label 7, counted from 0, of 1 classes"}


def test_a_picture_that_is_gone_is_named(tmp_path):
    data = imagenet.load(folder_of(tmp_path))
    gone = tmp_path / "val/dog/01.JPEG"
    gone.unlink()
    arrays(imagenet.validation_batches(data, 4, size=16, resize=16, cache=False))
    assert data.skipped == {str(gone): "a file that cannot be opened"}


def test_fingerprints_tell_names_sizes_and_labels_not_places(tmp_path):
    first = imagenet.load(folder_of(tmp_path / "one")).fingerprint
    assert imagenet.load(folder_of(tmp_path / "two")).fingerprint == first
    (tmp_path / "two/train/cat/00.JPEG").rename(tmp_path / "two/train/cat/99.JPEG")
    renamed = imagenet.load(tmp_path / "two").fingerprint
    (tmp_path / "one/val/cat/00.JPEG").write_bytes(colour(0) + b"0")
    resized = imagenet.load(tmp_path / "one").fingerprint
    records = imagenet.load(records_of(tmp_path / "three")).fingerprint
    assert len({first, renamed, resized, records}) == 4
