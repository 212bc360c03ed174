"""Datasets: what comes out, in which order, and what bad files say."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from pinets_tf.data import images


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
