"""Every reader of files, with what it promises of what it returns, and files that each of them takes."""

import contextlib
import io
import struct
import tempfile
import types
import wave
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
import trimesh

from pinets_tf.data import imagenet, images, meshes, pictures, speech
from pinets_tf.export import load_model, read_inputs, read_labels
from pinets_tf.layers import CCP
from pinets_tf.mesh import read_shapes
from pinets_tf.metrics import FeatureStatistics
from pinets_tf.training import Checkpoints, load_autoencoder, load_classifier, load_generator
from pinets_tf.training.gan_checkpoints import GanCheckpoints
from pinets_tf.training.saved_state import arrays_of

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "float32")
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
SIZE = 8


def _check_shapes(shapes):
    count, vertices, three = shapes.vertices.shape
    assert shapes.vertices.dtype == np.float32 and count and vertices and three == 3
    assert np.isfinite(shapes.vertices).all() and len(shapes.names) == count
    assert shapes.faces.dtype == np.int32 and shapes.faces.shape[1] == 3 and len(shapes.faces)
    assert shapes.faces.min() >= 0 and shapes.faces.max() < vertices


def _shapes(path):
    _check_shapes(read_shapes(path))


def _registrations(path):
    for unit in ("millimetres", "metres"):
        data = meshes.load(path, unit)
        for part in (data.train, data.validation, data.test):
            _check_shapes(part)


def _images(path):
    data = images.load(str(path))
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x.dtype == np.uint8 and x.ndim == 4 and y.dtype == np.int32 and y.shape == x.shape[:1]
        assert y.min() >= 0 and y.max() < data.classes == len(data.class_names)


def _pictures(path):
    train = pictures.load(path, SIZE).train
    assert train.dtype == np.uint8 and train.shape[1:3] == (SIZE, SIZE) and len(train)


def _picture(path):
    try:
        train = pictures.load(path.parent, SIZE).train
        assert train.dtype == np.uint8 and train.shape == (1, SIZE, SIZE, 3)
    except ValueError as error:
        assert "Received:" in str(error)
    x = images.read_image(path, (SIZE, SIZE, 3)).numpy()
    assert x.shape == (SIZE, SIZE, 3) and x.min() >= 0 and x.max() <= 255


def _photograph(path):
    x = imagenet.read_image(path, size=SIZE, resize=SIZE)
    assert x.shape == (SIZE, SIZE, 3) and x.min() >= 0 and x.max() <= 255


def _check_clip(x):
    assert x.shape == (speech.SAMPLES,) and x.dtype == np.float32 and np.abs(x).max() <= 1


def _clip(path):
    # It is for graphs and fails as TensorFlow does, which eagerly makes no message of bytes that are no text.
    with contextlib.suppress(tf.errors.InvalidArgumentError, UnicodeDecodeError):
        _check_clip(speech.decode_clip(path.read_bytes()).numpy())
    _check_clip(speech.read_clip(path))


def _records(path):
    (path.parent / "validation-00000-of-00001").write_bytes(SEEDS["records"][0][1])
    photographs = imagenet.load(path.parent)
    assert photographs.train_size and photographs.classes == 2
    return photographs


def _batches(path):
    # Much slower, since TensorFlow traces what is done to an image.
    photographs = _records(path)
    for x, y in imagenet.validation_batches(photographs, 2, size=SIZE, resize=SIZE):
        assert x.shape[1:] == (SIZE, SIZE, 3) and y.dtype == tf.int32
    for x, _ in imagenet.training_batches(photographs, 1, size=SIZE, epochs=1).take(1):
        assert x.shape[1:] == (SIZE, SIZE, 3)


def _statistics(path):
    statistics = FeatureStatistics.load(path)
    assert np.isfinite(statistics.mean).all() and np.isfinite(statistics.covariance).all()
    assert statistics.covariance.shape == 2 * statistics.mean.shape


def _inputs(path):
    assert isinstance(read_inputs(path), np.ndarray)


def _labels(path):
    assert all(isinstance(label, str) for label in read_labels(path))


def _network(path):
    (path.parent / "labels.txt").write_text("a\nb\n")
    content = path.read_bytes()
    (path.parent / "generator.keras").write_bytes(content)
    failed = None
    for load in (load_classifier, load_autoencoder, load_generator):
        try:
            assert load(path.parent)
        except ValueError as error:
            assert "Received:" in str(error), error
            failed = error
    assert isinstance(load_model(path), keras.Model)
    if failed:
        raise failed


def _compiled():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    model.steps_done = keras.Variable(0, dtype="int32", trainable=False, name="steps_done")
    return model


def _weights(path):
    Checkpoints(path.parent, 5).restore(_compiled())


def _history(path):
    (path.parent / "checkpoint.npz").write_bytes(SEEDS["weights"][0][1])
    Checkpoints(path.parent, 1).restore(_compiled())


def _adversaries():
    variables = [keras.Variable(np.zeros((2, 3), "float32")), keras.Variable(np.zeros(3, "float32"))]
    steps = keras.Variable(7, dtype="int32", trainable=False)
    return types.SimpleNamespace(state=lambda: {"generator": variables, "training": [steps]}, steps_done=steps)


def _checkpoint(path):
    (path.parent / "checkpoints").mkdir()
    path.rename(path.parent / "checkpoints" / path.name)
    GanCheckpoints(path.parent).restore(_adversaries())


READERS = {
    **dict.fromkeys(("obj", "off", "ply", "stl", "shapes.npz"), _shapes),
    "registrations": _registrations,
    "images.npz": _images,
    "pictures.npz": _pictures,
    "picture": _picture,
    "photograph": _photograph,
    "clip": _clip,
    "records": _records,
    "batches": _batches,
    "statistics": _statistics,
    "inputs.npy": _inputs,
    "labels": _labels,
    "network": _network,
    "weights": _weights,
    "history": _history,
    "checkpoint": _checkpoint,
}


def npz(compressed=False, **arrays):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def hdf5(**arrays):
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        for name, array in arrays.items():
            content.create_dataset(name, data=array, compression="gzip" if np.ndim(array) else None)
    return file.getvalue()


def wav(samples=400, rate=16000, channels=1, width=2):
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(np.arange(samples * channels, dtype="<i2").tobytes())
    return file.getvalue()


def crc(data):
    """Returns the masked CRC-32C of a TFRecord."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(payload, length=None):
    head = struct.pack("<Q", len(payload) if length is None else length)
    return head + struct.pack("<I", crc(head)) + payload + struct.pack("<I", crc(payload))


def example(encoded, label):
    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _mesh(kind, **options):
    content = trimesh.Trimesh(VERTICES, FACES, process=False).export(file_type=kind, **options)
    return content.encode() if isinstance(content, str) else content


def _seeds():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 12, 3)).astype("uint8")
    png, jpeg = tf.io.encode_png(pixels).numpy(), tf.io.encode_jpeg(pixels).numpy()
    progressive = tf.io.encode_jpeg(pixels, progressive=True).numpy()
    arrays = {"x_train": np.stack([pixels] * 3), "y_train": [0, 1, 1], "x_test": pixels[None], "y_test": [1]}
    sequence = np.stack([VERTICES] * 4, -1)
    yield "obj", [("a.obj", _mesh("obj")), ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1/1 -3//2 3\nf 1 2 3 4\n")]
    yield "off", [("a.off", _mesh("off")), ("a.off", b"OFF\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n")]
    yield "ply", [("a.ply", _mesh("ply")), ("a.ply", _mesh("ply", encoding="ascii"))]
    yield "stl", [("a.stl", _mesh("stl")), ("a.stl", _mesh("stl_ascii"))]
    yield (
        "shapes.npz",
        [
            ("a.npz", npz(vertices=VERTICES, faces=FACES)),
            ("a.npz", npz(compressed=True, vertices=np.stack([VERTICES] * 2), faces=FACES.astype("uint8"))),
        ],
    )
    yield (
        "registrations",
        [
            ("a.hdf5", hdf5(faces=FACES, run=sequence, walk=sequence.astype("float64"))),
            ("a.npz", npz(vertices=np.stack([VERTICES] * 4), faces=FACES)),
        ],
    )
    yield "images.npz", [("a.npz", npz(**arrays)), ("a.npz", npz(compressed=True, class_names=["a", "b"], **arrays))]
    yield "pictures.npz", [("a.npz", npz(images=arrays["x_train"])), ("a.npz", npz(x_train=arrays["x_train"][..., :1]))]
    coded = [("a.png", png), ("a.jpg", jpeg), ("a.jpg", progressive), ("a.bmp", _bmp(pixels))]
    # Turned by a quarter, with one transparent colour.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    coded += [("a.jpg", jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + jpeg[2:])]
    control, frame = b"!\xf9\x04\x01\0\0\x01\0", b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02L\x01\0"
    coded += [("a.gif", b"GIF89a\x01\0\x01\0\x80\0\0" + bytes(6) + control + frame + b";")]
    yield "picture", coded
    yield "photograph", [*coded[:3], *coded[4:]]
    yield "clip", [("a.wav", wav()), ("a.wav", wav(17000, channels=2))]
    records = [record(example(jpeg, 0)) + record(example(png, 1)), record(example(jpeg, 0)) + record(example(jpeg, 1))]
    yield "records", [("train-00000-of-00001", content) for content in records]
    yield "batches", [("train-00000-of-00001", records[0])]
    yield (
        "statistics",
        [
            ("a.npz", npz(mu=np.ones(3), sigma=np.eye(3), count=9, source="stub")),
            ("a.npz", npz(mu=np.ones(2, "float32"), sigma=np.eye(2, dtype="float32"))),
        ],
    )
    yield "inputs.npy", [("a.npy", npy(np.ones((2, 3), "float32")))]
    yield "labels", [("labels.txt", b"cat\ndog\n")]
    yield "network", [("model.keras", keras_file(_small()))]
    model = _compiled()
    model.optimizer.build(model.trainable_variables)
    held = {"model": model.variables, "optimizer": model.optimizer.variables}
    yield "weights", [("checkpoint.npz", npz(**arrays_of(held), **{"metrics/0": np.float32(2)}))]
    yield "history", [("history.csv", b"epoch,loss\r\n1,0.5\r\n")]
    state = {"generator/0": np.ones((2, 3), "float32"), "generator/1": np.ones(3, "float32"), "training/0": np.int32(7)}
    yield "checkpoint", [("step_000000007.npz", npz(**state, pending=np.zeros(3)))]


def _small():
    return keras.Sequential([keras.Input((3,)), CCP(2, 2, rank=2, name="polynomial")])


def keras_file(model):
    return _saved(model.save, "made.keras")


def _saved(save, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        save(path)
        return path.read_bytes()


def _bmp(pixels):
    height, width, _ = pixels.shape
    head = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 54 + pixels.size, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0
    )
    return head + pixels.tobytes()


def rezipped(content, change):
    """Returns a zip file whose members are what `change` makes of their names and bytes, sums of bytes being right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return file.getvalue()


SEEDS = dict(_seeds())
