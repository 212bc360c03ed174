"""Files of pictures: how the client turns photographs, and what it says of those that the server refuses."""

import io
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export.serving import client
from tests.export.serving.test_client import both, connect

# How pixels are stored for each EXIF orientation, from the picture as it is to be seen.
STORED = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: lambda seen: np.rot90(seen),
    7: lambda seen: np.rot90(seen, 2).swapaxes(0, 1),
    8: lambda seen: np.rot90(seen, -1),
}
# Of blocks of 8 pixels, which a JPEG keeps.
SEEN = np.kron(np.random.default_rng(0).integers(0, 256, (3, 2, 3), "uint8"), np.ones((8, 8, 1), "uint8"))


def photograph(orientation, format, mode="RGB"):
    exif = Image.Exif()
    exif[client.ORIENTATION] = orientation
    stored = STORED.get(orientation, STORED[1])(SEEN)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).convert(mode).save(
        file, format, exif=exif, quality=100, subsampling=0
    )
    return file.getvalue()


@pytest.mark.parametrize("format, suffix", [("JPEG", ".jpg"), ("PNG", ".png")])
@pytest.mark.parametrize("orientation", STORED)
def test_photographs_are_turned(orientation, format, suffix, tmp_path):
    file = tmp_path / f"photograph{suffix}"
    file.write_bytes(photograph(orientation, format))
    sent = client.read_file(file)
    pixels = tf.io.decode_image(sent, 3, expand_animations=False).numpy()
    np.testing.assert_allclose(pixels.astype(int), SEEN, atol=12 if format == "JPEG" else 0)
    assert (sent == file.read_bytes()) == (orientation == 1)
    # Turned once, it has nothing more to be turned by.
    file.write_bytes(sent)
    assert client.read_file(file) == sent


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_photographs_of_other_colours_are_turned(mode, tmp_path):
    file = tmp_path / "photograph.jpeg"
    file.write_bytes(photograph(6, "JPEG", mode))
    assert tf.io.decode_image(client.read_file(file), 3).shape == SEEN.shape


def test_an_orientation_that_there_is_not_turns_nothing(tmp_path):
    for orientation in (0, 9):
        (tmp_path / "photograph.jpg").write_bytes(photograph(orientation, "JPEG"))
        assert client.read_file(tmp_path / "photograph.jpg") == photograph(orientation, "JPEG")


@both
def test_turned_photographs_have_one_answer(server, protocol, tmp_path):
    files = [tmp_path / f"{orientation}.png" for orientation in STORED]
    for orientation, file in zip(STORED, files):
        file.write_bytes(photograph(orientation, "PNG"))
    _, outputs = client.ask(connect(server, protocol), files)
    np.testing.assert_allclose(outputs["logits"], np.repeat(outputs["logits"][:1], len(files), 0), rtol=1e-4)


def test_photographs_that_are_not_turned(tmp_path, monkeypatch):
    file = tmp_path / "photograph.jpg"
    file.write_bytes(photograph(6, "JPEG")[:-300])
    with pytest.raises(ValueError, match=r"turned before it is sent\. Received: .*photograph.jpg, where .* Save"):
        client.read_file(file)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"package pillow\. Received: .*photograph.jpg, and .*pinets_tf\[serving\]"):
        client.read_file(file)
    # Without EXIF nothing is needed.
    file.write_bytes(tf.io.encode_jpeg(SEEN).numpy())
    assert client.read_file(file) == file.read_bytes()


@both
def test_a_refused_file_is_named_with_the_reason(server, protocol, files, tmp_path):
    reasons = {"empty.jpg": b"", "text.png": b"no picture", "short.jpg": (files / "cat.jpg").read_bytes()[:-100]}
    for name, content in reasons.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(client.ServerError) as caught:
            client.ask(connect(server, protocol), [files / "dog.png", tmp_path / name, files / "cat.jpg"])
        words = {"empty.jpg": "Input is empty", "text.png": "Unknown image file format", "short.jpg": "Invalid JPEG"}
        assert f"{tmp_path / name}: " in str(caught.value) and words[name] in str(caught.value)
        assert not set("{}\n\t") & set(str(caught.value)) and "node" not in str(caught.value)


@pytest.mark.parametrize(
    "message, words",
    [
        (
            "{{function_node __inference_f_8}} Input is empty.\n\t [[{{function_node body_2}}{{node a/b}}]] [Op:f_8]",
            "Input is empty.",
        ),
        (
            "2 root error(s) found.\n  (0) INVALID_ARGUMENT: Bad picture.\n\t [[{{node a}}]]\n\t [[b/_12]]\n"
            "  (1) INVALID_ARGUMENT: Bad picture.\n\t [[{{node a}}]]\n0 successful operations.\n0 derived errors.",
            "Bad picture.",
        ),
        (
            "assertion failed: [A request has at least one sample.]\n\t [[{{node A/Assert}}]]",
            "[A request has at least one sample.]",
        ),
        (
            "Shape of tensor images [2,16,16,3] is not compatible",
            "Shape of tensor images [2,16,16,3] is not compatible",
        ),
        ("matrix [[1 2][3 4]] and {map}", "matrix [[1 2][3 4]] and {map}"),
    ],
)
def test_errors_of_tensorflow_in_plain_words(message, words):
    error = client.ServerError("INVALID_ARGUMENT", message, False)
    assert error.message == words
