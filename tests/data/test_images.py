"""Datasets: what comes out, in which order, and what bad files say."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from pinets_tf.data import imagenet, images, splits


def arrays(**changes):
    rng = np.random.default_rng(0)
    good = {
        "x_train": rng.integers(0, 256, (20, 6, 6, 3)).astype("uint8"),
        "y_train": np.arange(20) % 4,
        "x_test": rng.integers(0, 256, (8, 6, 6, 3)).astype("uint8"),
        "y_test": np.arange(8) % 4,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def saved(tmp_path, **changes):
    np.savez(tmp_path / "set.npz", **arrays(**changes))
    return str(tmp_path / "set.npz")


def test_sample_is_real_and_balanced():
    data = images.load("sample")
    assert data.x_train.shape == (5500, 28, 28, 1) and data.x_test.shape == (1000, 28, 28, 1)
    assert (np.bincount(data.y_train) == 550).all() and (np.bincount(data.y_test) == 100).all()
    assert data.classes == len(data.class_names) == 10 and data.class_names[9] == "Ankle boot"


def test_npz(tmp_path):
    data = images.load(saved(tmp_path, x_train=arrays()["x_train"][..., 0], x_test=arrays()["x_test"][..., 0]))
    assert data.x_train.shape == (20, 6, 6, 1) and data.classes == 4
    mean, variance = data.mean_and_variance()
    np.testing.assert_allclose(mean, data.x_train.mean((0, 1, 2)))
    np.testing.assert_allclose(variance, data.x_train.astype(float).var((0, 1, 2)))


def test_an_epoch_has_every_image_once_and_a_new_order(tmp_path):
    data = images.load(saved(tmp_path))
    batches = [x.numpy() for x, _ in images.training_batches(data, 5, epochs=2)]
    epochs = [np.concatenate(batches[:4]), np.concatenate(batches[4:])]
    for epoch in epochs:
        assert sorted(map(bytes, epoch.astype("uint8"))) == sorted(map(bytes, data.x_train))
    assert not np.array_equal(*epochs)


def test_labels_go_with_their_images(tmp_path):
    data = images.load(saved(tmp_path))
    labels = {bytes(x): y for x, y in zip(data.x_train, data.y_train)}
    for x, y in images.training_batches(data, 7, epochs=1):
        assert [labels[bytes(image)] for image in x.numpy().astype("uint8")] == list(y.numpy())


def test_a_later_start_sees_what_an_uninterrupted_run_sees(tmp_path):
    data = images.load(saved(tmp_path))
    options = {"epochs": 3, "crop_padding": 2, "flip": True, "seed": 5}
    whole = list(images.training_batches(data, 6, **options))
    late = list(images.training_batches(data, 6, first_epoch=2, **options))
    assert len(whole) == 9 and len(late) == 3
    for (x, y), (x_late, y_late) in zip(whole[6:], late):
        np.testing.assert_array_equal(x, x_late)
        np.testing.assert_array_equal(y, y_late)


def test_seeds_differ(tmp_path):
    data = images.load(saved(tmp_path))
    first, second = (next(iter(images.training_batches(data, 20, epochs=1, seed=seed)))[0] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_augmentation_shifts_with_black_and_mirrors(tmp_path):
    data = images.load(saved(tmp_path))
    shifted = set()
    for image in data.x_train:
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        for row, column in np.ndindex(3, 3):
            crop = padded[row : row + 6, column : column + 6]
            shifted |= {bytes(np.ascontiguousarray(crop)), bytes(np.ascontiguousarray(crop[:, ::-1]))}
    seen = [
        bytes(image)
        for x, _ in images.training_batches(data, 20, epochs=4, crop_padding=1, flip=True)
        for image in x.numpy().astype("uint8")
    ]
    assert set(seen) <= shifted and len(set(seen)) > 60
    plain = {bytes(image) for image in data.x_train}
    assert 0 < sum(image in plain for image in seen) < len(seen)


def test_test_batches_are_complete(tmp_path):
    data = images.load(saved(tmp_path))
    x, y = (np.concatenate(parts) for parts in zip(*((x.numpy(), y.numpy()) for x, y in images.test_batches(data, 3))))
    np.testing.assert_array_equal(x, data.x_test)
    np.testing.assert_array_equal(y, data.y_test)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"y_test": None}, ("with the arrays x_train", "with x_train, y_train, x_test", "Add y_test")),
        (
            {"x_train": np.zeros((20, 6, 6, 3))},
            ("must be uint8", "x_train of shape (20, 6, 6, 3) and type float64", "0 to 255"),
        ),
        (
            {"x_test": np.zeros((8, 36), "uint8")},
            ("shape (n, height, width)", "x_test of shape (8, 36)", "Save grey"),
        ),
        ({"x_test": np.zeros((8, 5, 5, 3), "uint8")}, ("one shape", "(6, 6, 3) and (5, 5, 3)", "Resize")),
        (
            {"y_train": np.zeros((20, 4), int)},
            ("one integer for each", "y_train of shape (20, 4)", "not one-hot"),
        ),
        ({"y_train": np.arange(19)}, ("one integer for each image", "for 20 images", "Save class numbers")),
        ({"y_test": np.full(8, 9)}, ("must lie in 0 to 3", "y_test from 9 to 9", "from 0 without gaps")),
        ({"y_train": np.arange(20) - 1}, ("must lie in 0 to 18", "y_train from -1 to 18", "from 0 without gaps")),
        (
            {"x_train": np.zeros((20, 3, 6, 6), "uint8")},
            ("channels last", "x_train of shape (20, 3, 6, 6)", "axis 1 looks like channels", "np.moveaxis(x, 1, -1)"),
        ),
        (
            {"y_train": np.arange(20, dtype="uint64") + 2**40},
            ("must lie in 0 to 999,999", "y_train from 1099511627776 to 10995", "from 0 without gaps"),
        ),
        ({"y_test": np.full(8, 2**32 + 1)}, ("must lie in 0 to 3", "y_test from 4294967297", "from 0 without gaps")),
        ({"x_train": np.zeros((20, 6, 6, 3), "float32")}, ("must be uint8", "float32", "(255 * x).round()")),
        ({"x_train": np.zeros((20, 6, 6, 3), "uint16")}, ("must be uint8", "uint16", "(x // 257)")),
        ({"x_train": np.zeros((20, 6, 6, 3), bool)}, ("must be uint8", "bool", "255 * x.astype")),
        ({"x_train": np.zeros((20, 6, 6, 3), "int64")}, ("must be uint8", "int64", "x.astype('uint8')")),
        ({"x_train": np.zeros((20, 6, 6, 0), "uint8")}, ("must be uint8", "shape (20, 6, 6, 0)", "Save grey")),
        ({"y_train": np.zeros((20, 4))}, ("one integer for each", "type float64", "y.argmax(1)")),
        ({"y_train": np.zeros(20)}, ("one integer for each", "type float64", "y.astype('int32')")),
        (
            {"x_train": np.zeros((6, 6, 3, 20), "uint8")},
            ("one integer for each", "for 6 images", "np.moveaxis(x, -1, 0)"),
        ),
        ({"y_train": np.array([None] * 20)}, ("must be an .npz file", "cannot be read", "plain arrays")),
    ],
)
def test_bad_arrays(tmp_path, changes, words):
    with pytest.raises(ValueError) as caught:
        images.load(saved(tmp_path, **changes))
    for word in words:
        assert word in str(caught.value)


def test_missing_and_truncated_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'none.npz', which is not in .*Pass the path of .*--dataset"):
        images.load(tmp_path / "none.npz")
    path = tmp_path / "set.npz"
    whole = saved(tmp_path)
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf"must be an .npz file .*{size:,} bytes.*cannot be read.* copy it again"):
            images.load(whole)


def test_too_few_images_for_a_batch(tmp_path):
    data = images.load(saved(tmp_path))
    with pytest.raises(ValueError, match=r"one full batch.*batch_size=21 for 20 training images.*smaller batch"):
        images.steps_per_epoch(data, 21)


def test_unknown_name():
    with pytest.raises(
        ValueError, match=r"'sample', the path of an .npz file, or a name.*'cifar11'.*for example cifar10"
    ):
        images.load("cifar11")


def test_tensorflow_datasets():
    with tfds.testing.mock_data(num_examples=5):
        cifar, fashion = images.load("cifar10"), images.load("fashion_mnist")
    assert cifar.x_train.shape == (5, 32, 32, 3) and cifar.x_test.shape == (5, 32, 32, 3) and cifar.classes == 10
    assert fashion.x_train.shape == (5, 28, 28, 1) and fashion.class_names[:2] == ("T-shirt/top", "Trouser")


@pytest.mark.parametrize("name", ["imdb_reviews", "stanford_dogs"])
def test_no_images_of_one_size(name, tmp_path):
    with pytest.raises(ValueError, match=rf"have one size and each has one label.*'{name}'.*Pass for example cifar10"):
        images.load(name, tmp_path)


def test_failed_download(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", fail)
    with pytest.raises(ValueError, match=r"is downloaded.*'cifar10' in .*no route to host.*Check the network"):
        images.load("cifar10", tmp_path)


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"'cifar10'.*not installed.*pip install 'pinets_tf\[data\]'"):
        images.load("cifar10")


def test_reads_a_picture_in_the_shape_of_the_network(tmp_path):
    picture = np.zeros((20, 40, 3), "uint8")
    picture[:, 20:] = (250, 100, 0)
    (tmp_path / "picture.jpeg").write_bytes(tf.io.encode_jpeg(picture, quality=100).numpy())
    coloured = images.read_image(tmp_path / "picture.jpeg", (10, 10, 3)).numpy()
    assert coloured.shape == (10, 10, 3) and coloured.dtype == np.float32
    np.testing.assert_allclose(coloured[5, 8], (250, 100, 0), atol=4)
    grey = images.read_image(tmp_path / "picture.jpeg", (10, 10, 1)).numpy()
    assert grey.shape == (10, 10, 1) and grey[5, 8, 0] == pytest.approx(0.299 * 250 + 0.587 * 100, abs=4)


@pytest.mark.parametrize("contents", [None, b"", b"no picture"])
def test_errors_of_a_picture(tmp_path, contents):
    if contents is not None:
        (tmp_path / "picture.png").write_bytes(contents)
    with pytest.raises(
        ValueError, match=r"A picture is a JPEG, PNG.*Received: .*picture\.png, which cannot be read \("
    ):
        images.read_image(tmp_path / "picture.png", (8, 8, 3))


def test_notes_on_what_is_allowed_and_seldom_meant(tmp_path):
    assert images.load(saved(tmp_path)).notes == ()
    x, y = arrays()["x_train"], np.arange(20) % 4
    for changes, words in (
        (
            {"y_train": y + 1, "y_test": np.arange(8) % 4 + 1},
            "1 of 5 classes have no training image: 0; the lowest label",
        ),
        ({"y_train": y * 50}, "147 of 151 classes have no training image: 1, 2, 3, 4, 5, ..."),
        ({"y_test": np.zeros(8, int)}, "3 of 4 classes have no test image: 1, 2, 3"),
        ({"y_train": y * 2, "y_test": np.full(8, 5)}, "8 test images are of classes without training images: 5"),
        (
            {"x_train": np.where(np.arange(20)[:, None, None, None] < 7, np.uint8(9), x)},
            "7 training images show one colour",
        ),
        ({"x_test": arrays()["x_test"] // 128}, "all test images have grey levels 0 and 1 alone"),
        ({"x_test": x[3:11]}, "8 of 8 test images are training images too: numbers 0, 1, 2, 3, 4, ..."),
    ):
        assert any(line.startswith(words) for line in images.load(saved(tmp_path, **changes)).notes), words


def test_names_of_classes_are_text(tmp_path):
    names = np.array(["chat é".encode("latin-1"), b"dog", b"cow", b"emu"])
    assert images.load(saved(tmp_path, class_names=names)).class_names == ("chat é", "dog", "cow", "emu")


def test_fingerprints_differ_where_data_do(tmp_path):
    first = images.load(saved(tmp_path)).fingerprint
    assert images.load(saved(tmp_path)).fingerprint == first and re.fullmatch("[0-9a-f]{16}", first)
    others = [
        {"x_test": arrays()["x_test"] // 2},
        {"x_train": arrays()["x_train"][..., ::-1]},
        {"y_train": arrays()["y_train"][::-1]},
        {"class_names": ["a", "b", "c", "d"]},
    ]
    assert len({first, *(images.load(saved(tmp_path, **changes)).fingerprint for changes in others)}) == 5


def folder_of(path, counts, size=(6, 6)):
    """Writes folders of so many pictures each, of which no two are alike."""
    seeds = iter(range(10_000))
    for place, count in counts.items():
        (path / place).mkdir(parents=True)
        for number in range(count):
            picture = np.random.default_rng(next(seeds)).integers(0, 256, (*size, 3)).astype("uint8")
            (path / place / f"{place.replace('/', '-')}-{number}.png").write_bytes(tf.io.encode_png(picture).numpy())
    return path


@pytest.mark.parametrize("other", ["test", "val", "validation"])
def test_folder_with_a_split(tmp_path, other):
    data = images.load(folder_of(tmp_path, {"train/b": 3, "train/a": 2, f"{other}/a": 1, f"{other}/b": 2}))
    assert data.class_names == ("a", "b") and data.x_train.shape == (5, 6, 6, 3) and data.notes == ()
    assert data.y_train.tolist() == [0, 0, 1, 1, 1] and data.y_test.tolist() == [0, 1, 1]
    files = sorted((tmp_path / "train").rglob("*.png"))
    np.testing.assert_array_equal(data.x_train, [tf.io.decode_png(path.read_bytes()) for path in files])


def test_folder_of_classes_is_split_by_names(tmp_path):
    data = images.load(folder_of(tmp_path, {"cat": 150, "dog": 150, "few": 2, "one": 1}))
    assert data.class_names == ("cat", "dog", "few", "one")
    train, test = np.bincount(data.y_train), np.bincount(data.y_test, minlength=4)
    assert (train + test).tolist() == [150, 150, 2, 1] and test[2:].tolist() == [1, 0] and train[2:].tolist() == [1, 1]
    assert 6 <= test[0] <= 27 and 6 <= test[1] <= 27
    assert any("a tenth of each class is held out, by file name" in line for line in data.notes)
    assert "classes with one image, which is trained with: one" in data.notes
    # The same files in every reader, and also where others are added.
    photographs = imagenet.load(tmp_path)
    assert photographs.validation_size == len(data.x_test)
    held_out = {path.decode() for path in photographs.validation.paths.numpy()}
    folder_of(tmp_path, {"new": 30})
    assert held_out < {path.decode() for path in imagenet.load(tmp_path).validation.paths.numpy()}
    assert splits.held_out([f"a/{name}" for name in range(300)]) == {
        f"a/{name}" for name in range(300) if splits.hundredth(str(name)) < 10
    }
    assert splits.hundredth("cat-1.png") == 99


def test_a_class_may_be_called_train(tmp_path):
    data = images.load(folder_of(tmp_path, {"train": 4, "car": 4}))
    assert data.class_names == ("car", "train")


@pytest.mark.parametrize("load", [images.load, imagenet.load])
@pytest.mark.parametrize(
    "counts, words",
    [
        ({"only": 3}, r"of at least two.*Pass the folder that holds"),
        ({"val/a": 2, "val/b": 2}, r"of at least two.*Pass the folder that holds"),
        ({"a": 2, "b": 0}, r"Every class needs images.*with nothing in b\. Add images or remove"),
        ({"a": 1, "b": 1}, r"one class has two images at least.*one image in each of 2 classes\. Add images"),
        (
            {"training/a": 2, "training/b": 2, "testing/a": 2, "testing/b": 2},
            r"for each class.*testing, training have the same folders a, b, so these may be.*Call the folders above",
        ),
        (
            {"train/a": 2, "train/b": 2, "val/a": 2},
            r"same classes.*with b in one of them only \(2 and 1 classes\)\. Add",
        ),
        ({"train/a": 2}, r"holds train/CLASS.*without a folder '(test|val)' or.*Put images of every class there"),
    ],
)
def test_folders_that_are_no_classes(load, counts, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        load(folder_of(tmp_path, counts))


def test_folder_of_several_sizes(tmp_path):
    folder_of(tmp_path, {"a": 3, "b": 3})
    folder_of(tmp_path, {"c": 2}, size=(5, 7))
    with pytest.raises(ValueError, match=r"have one size.*with 2 sizes: 6x6 \(a/a-\d.png\), 5x7 \(c/.*Resize them, or"):
        images.load(tmp_path)


def test_files_of_a_folder_that_cannot_be_used(tmp_path):
    folder_of(tmp_path, {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1})
    (tmp_path / "train" / "a" / "bad.png").write_bytes(b"<html>")
    with pytest.warns(UserWarning, match=r"9 files, of which 1 are not: train/a/bad\.png \(a text") as caught:
        data = images.load(tmp_path)
    assert caught[0].filename == __file__
    assert len(data.x_train) == 6 and data.skipped == {
        "train/a/bad.png": "a text, such as SVG or HTML, which is not read"
    }
    assert "1 files left out that cannot be used, such as train/a/bad.png" in data.notes
    (tmp_path / "test" / "a" / "test-a-0.png").write_bytes(b"")
    (tmp_path / "test" / "b" / "test-b-0.png").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="not usable"),
        pytest.raises(ValueError, match=r"at least one each\. Received: .* with none for test\. Add images"),
    ):
        images.load(tmp_path)
