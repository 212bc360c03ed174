"""Pictures for generators: what comes out of every source, in which order, and what bad files say."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from pinets_tf.data import images, pictures


def random(count=10, height=8, width=8, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels)).astype("uint8")


def saved(path, **arrays):
    np.savez(path / "set.npz", **arrays)
    return path / "set.npz"


def loaded(path, size=8, **options):
    return pictures.load(saved(path, images=random(**options)), size)


def encode(picture, kind):
    """JPEG and PNG by TensorFlow, and a BMP, which it does not write, by hand; sides are multiples of four."""
    if kind != "bmp":
        return (tf.io.encode_png if kind == "png" else tf.io.encode_jpeg)(picture).numpy()
    height, width, _ = picture.shape
    head = b"BM" + np.array([54 + picture.size, 0, 54, 40, width, height], "<u4").tobytes()
    head += np.array([1, 24], "<u2").tobytes() + np.zeros(6, "<u4").tobytes()
    return head + np.ascontiguousarray(picture[::-1, :, ::-1]).tobytes()


def test_sample_is_padded_as_in_the_recipe():
    found, plain = pictures.load("sample", 32), images.load("sample")
    assert found.train.shape == (5500, 32, 32, 1) and found.train.dtype == np.uint8
    np.testing.assert_array_equal(found.train[:, 2:30, 2:30], plain.x_train)
    assert found.train.sum() == plain.x_train.sum()
    assert found.description == (
        "5,500 grey pictures of 32x32 from sample (train): padded with 2 black pixels on each side, from 28 to 32"
    )
    test = pictures.load("sample", 28, split="test")
    np.testing.assert_array_equal(test.train, plain.x_test)
    assert test.description == "1,000 grey pictures of 28x28 from sample (test): unchanged"


@pytest.mark.parametrize("name", ["x_train", "images", "x"])
def test_npz(name, tmp_path):
    x = random(height=64, width=64, channels=1)
    others = {"subject": np.arange(10), "azimuth": np.zeros(10)}
    found = pictures.load(saved(tmp_path, **{name: x[..., 0]}, **others), 64)
    np.testing.assert_array_equal(found.train, x)
    assert found.description.endswith("set.npz (train): unchanged") and not found.skipped


def test_test_split_of_an_npz(tmp_path):
    path = saved(tmp_path, x_train=random(), x_test=random(seed=1), y_train=np.arange(10))
    np.testing.assert_array_equal(pictures.load(path, 8, split="test").train, random(seed=1))


@pytest.mark.parametrize(
    "height, width, size, words",
    [
        (24, 24, 32, "padded with 4 black pixels on each side, from 24 to 32"),
        (22, 22, 32, "enlarged from 22 to 32 pixels"),
        (27, 27, 32, "enlarged from 27 to 32 pixels"),
        (64, 64, 32, "resized from 64 to 32 pixels"),
        (8, 14, 8, "central squares of 8x14"),
        (20, 16, 8, "central squares of 20x16, resized from 16 to 8 pixels"),
    ],
)
def test_sizes(height, width, size, words, tmp_path):
    found = loaded(tmp_path, size, count=3, height=height, width=width)
    assert found.train.shape == (3, size, size, 3) and found.description.endswith(f"(train): {words}")
    x, side = random(3, height, width), min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    x = x[:, top : top + side, left : left + side]
    if "padded" in words:
        expected = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)))
    else:
        expected = np.round(tf.image.resize(x, (size, size), antialias=True))
    np.testing.assert_array_equal(found.train, expected)


def test_large_sets_are_resized_in_parts(tmp_path, monkeypatch):
    whole = loaded(tmp_path, 4).train
    monkeypatch.setattr(pictures, "PART", 3)
    np.testing.assert_array_equal(loaded(tmp_path, 4).train, whole)


def test_channels(tmp_path):
    path = saved(tmp_path, x=random())
    grey = pictures.load(path, 8, channels=1)
    # Within rounding, since a half may go either way in float32.
    assert abs(grey.train - random() @ np.array([[0.299], [0.587], [0.114]])).max() < 0.501
    assert grey.description.startswith("10 grey") and grey.changes == ("made grey",)
    path = saved(tmp_path, x=random(channels=1))
    colour = pictures.load(path, 8, channels=3)
    np.testing.assert_array_equal(colour.train, random(channels=1).repeat(3, -1))
    assert colour.description.startswith("10 colour") and colour.changes == ("grey repeated in three channels",)


def test_tensorflow_datasets():
    with tfds.testing.mock_data(num_examples=5):
        cifar, test = pictures.load("cifar10", 32), pictures.load("cifar10", 32, channels=1, split="test")
    assert cifar.train.shape == (5, 32, 32, 3) and cifar.description.endswith("from cifar10 (train): unchanged")
    assert test.train.shape == (5, 32, 32, 1) and test.split == "test"


def test_folder(tmp_path):
    # Two colours, so that JPEG keeps them, and the central square shows both.
    picture = np.zeros((32, 48, 3), "uint8")
    picture[:, :24], picture[:, 24:] = (240, 40, 80), (20, 200, 120)
    for name in ("b/one.bmp", "b/two.JPEG", "a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(picture, name.rsplit(".", 1)[1].lower()))
    for name in (".a.png", ".hidden/a.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pictures.load(tmp_path, 16)
        grey = pictures.load(str(tmp_path), 40, channels=1)
    assert found.train.shape == (3, 16, 16, 3) and found.changes == ("central squares of 32 pixels, resized to 16",)
    for shown, tolerance in zip(found.train.astype(int), (0, 0, 16)):
        assert abs(shown[:, :7] - picture[0, 0]).max() <= tolerance
        assert abs(shown[:, 9:] - picture[0, -1]).max() <= tolerance
    assert grey.train.shape == (3, 40, 40, 1)
    assert grey.changes == ("central squares of 32 pixels, resized to 40", "3 of them enlarged", "made grey")


def test_files_of_a_folder_that_cannot_be_used_are_named(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encode(random(1, 20, 20, seed=number)[0], "png"))
    (tmp_path / "broken.jpg").write_bytes(encode(random(1, 20, 20)[0], "jpeg")[:-100])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "short.png").write_bytes(b"\x89PNG")
    (tmp_path / "tiny.png").write_bytes(encode(random(1, 20, 7)[0], "png"))
    with pytest.warns(UserWarning) as caught:
        found = pictures.load(tmp_path, 16)
    assert len(caught) == 1 and caught[0].filename == __file__
    for words in (
        "not usable are left out. Received: ",
        "8 files, of which 4 are not: broken.jpg (a JPEG without an end",
        "empty.png (an empty file), short.png (a PNG that is damaged",
        "tiny.png (only 20x7 pixels). Copy them again or remove them.",
    ):
        assert words in str(caught[0].message)
    assert list(found.skipped) == ["broken.jpg", "empty.png", "short.png", "tiny.png"]
    assert found.description.endswith("central squares of 20 pixels, resized to 16, 4 left out")
    for number, shown in enumerate(found.train):
        expected = tf.image.resize(random(1, 20, 20, seed=number), (16, 16), antialias=True)[0]
        np.testing.assert_array_equal(shown, np.round(expected))
    (tmp_path / "0.png").unlink()
    with pytest.raises(ValueError, match=r"At least half.* 7 files, of which 4 are not: broken.jpg.*Copy them again"):
        pictures.load(tmp_path, 16)


def test_an_epoch_has_every_picture_once_and_a_new_order(tmp_path):
    data = loaded(tmp_path, count=20)
    batches = [x.numpy() for x in pictures.real_batches(data, 5).take(8)]
    assert batches[0].dtype == np.float32 and min(map(np.min, batches)) >= -1 and max(map(np.max, batches)) <= 1
    epochs = [np.round((np.concatenate(half) + 1) * 127.5).astype("uint8") for half in (batches[:4], batches[4:])]
    for epoch in epochs:
        assert sorted(map(bytes, epoch)) == sorted(map(bytes, data.train))
    assert not np.array_equal(*epochs)


@pytest.mark.parametrize("options", [{}, {"flip": True, "dequantise": True, "seed": 3}])
def test_a_resumed_run_sees_what_an_undisturbed_one_sees(options, tmp_path):
    data = loaded(tmp_path, count=20)
    # Six pictures of twenty make three batches, so the start lies inside of an epoch.
    whole = [x.numpy() for x in pictures.real_batches(data, 6, **options).take(9)]
    resumed = [x.numpy() for x in pictures.real_batches(data, 6, first_step=5, **options).take(4)]
    np.testing.assert_array_equal(whole[5:], resumed)
    other = next(iter(pictures.real_batches(data, 6, **{**options, "seed": 4}))).numpy()
    assert not np.array_equal(whole[0], other)


def test_flips_and_noise(tmp_path):
    data = loaded(tmp_path, count=40)
    x, later = (x.numpy() for x in pictures.real_batches(data, 40, flip=True, dequantise=True).take(2))
    levels = (x + 1) * 128
    noise = levels - np.floor(levels)
    assert abs(noise - (later + 1) * 128 % 1).mean() > 0.3  # Drawn anew.
    assert x.min() >= -1 and x.max() <= 1 and abs(noise.mean() - 0.5) < 0.02 and noise.std() > 0.28
    shown = [bytes(picture) for picture in np.floor(levels).astype("uint8")]
    straight = {bytes(picture) for picture in data.train}
    mirrored = {bytes(np.ascontiguousarray(picture[:, ::-1])) for picture in data.train}
    assert set(shown) <= straight | mirrored and len(set(shown)) == 40
    assert 10 < sum(picture in straight for picture in shown) < 30


def test_too_few_pictures_for_a_batch(tmp_path):
    with pytest.raises(ValueError, match=r"one full batch.*batch_size=11 for 10 training pictures.*smaller batch"):
        pictures.real_batches(loaded(tmp_path), 11)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"size": 0}, r"`size` must be a positive integer.*size=0.*for example 32"),
        ({"size": 8.0}, r"`size` must be a positive integer.*size=8.0.*for example 32"),
        ({"size": 8, "channels": 2}, r"`channels` must be 1, 3 or None.*channels=2.*Pass 1 for grey"),
        ({"size": 8, "split": "val"}, r"`split` must be one of train, test.*split='val'.*Pass one of them"),
        ({"size": 8, "split": "test"}, r"has no splits.*split='test' for .*set.npz.*Leave `split` out"),
    ],
)
def test_bad_arguments(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        pictures.load(saved(tmp_path, images=random()), **options)


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"pixels": random()}, ("under the name x_train, images or x", "with pixels", "Save the pictures")),
        ({"x": random() / 255}, ("must be a uint8 array", "x of shape (10, 8, 8, 3) and type float64", "0 to 255")),
        ({"x": random()[0, 0]}, ("(n, height, width)", "x of shape (8, 3)", "channels last")),
        (
            {"images": random().transpose(0, 3, 1, 2)},
            ("axis 1 looks like", "images of shape (10, 3, 8, 8)", "moveaxis"),
        ),
        ({"images": random(channels=4)}, ("1 or 3 channels", "images of shape (10, 8, 8, 4)", "channels last")),
        ({"images": random(count=0)}, ("n > 0", "images of shape (0, 8, 8, 3)", "Save grey levels")),
        ({"images": np.array([None])}, ("must be an .npz file", "cannot be read", "holds Python objects")),
    ],
)
def test_bad_arrays(arrays, words, tmp_path):
    with pytest.raises(ValueError) as caught:
        pictures.load(saved(tmp_path, **arrays), 8)
    for word in words:
        assert word in str(caught.value)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'none.npz', which is not in .*Pass the path of an .npz"):
        pictures.load(tmp_path / "none.npz", 8)
    with pytest.raises(FileNotFoundError, match=r"a folder or an .npz file that exists.*/none'.*Correct the path"):
        pictures.load(tmp_path / "none", 8)
    with pytest.raises(FileNotFoundError, match=r"Received: 'faces/none', which does not exist.*Correct"):
        pictures.load("faces/none", 8)
    with pytest.raises(ValueError, match=r"files that end in .jpeg.*without any. Pass the folder that holds them"):
        pictures.load(tmp_path, 8)
    with pytest.raises(ValueError, match=r"A folder, or .* has no splits.*split='test'.*Leave `split` out"):
        pictures.load(tmp_path, 8, split="test")
    path = saved(tmp_path, images=random())
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    np.save(tmp_path / "array.npy", random())
    for wrong in (
        b"",
        content[:50],
        content[: len(content) // 2],
        bytes(flipped),
        (tmp_path / "array.npy").read_bytes(),
    ):
        path.write_bytes(wrong)
        with pytest.raises(
            ValueError, match=rf"must be an .npz .*{len(wrong):,} bytes.*cannot be read.* copy it again"
        ):
            pictures.load(path, 8)
    with pytest.raises(ValueError, match=r"in an .npz file, or in a folder.*array.npy, another file. Pass the folder"):
        pictures.load(tmp_path / "array.npy", 8)


def test_unknown_name_and_missing_extra(monkeypatch):
    with pytest.raises(ValueError, match=r"a name of TensorFlow.*'faces'.*A folder .* passed too, but .*faces is none"):
        pictures.load("faces", 8)
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"'faces'.*not installed.*A folder of pictures .* is none"):
        pictures.load("faces", 8)


def test_fingerprints_and_notes(tmp_path):
    data, other = (pictures.load(saved(tmp_path, images=random(seed=seed)), 8) for seed in (0, 1))
    assert data.fingerprint != other.fingerprint and data.notes == ()
    assert pictures.load(saved(tmp_path, x=random()), 8).fingerprint == data.fingerprint
    dark = pictures.load(saved(tmp_path, x=np.zeros((3, 8, 8), "uint8")), 8).notes
    assert len(dark) == 2 and "3 train images show one colour" in dark[1]
