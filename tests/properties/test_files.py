"""No file ends the interpreter, hangs it, takes more memory than it may, runs code or writes elsewhere.

Every reader gets files that were valid and are damaged, and files made to do harm, in a process of their own. It
returns what it documents, or refuses in words.
"""

import io
import json
import re
import struct
import zipfile
import zlib

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from pinets_tf.mesh import deformed_spheres, hierarchy
from pinets_tf.metrics import Inception2015
from tests.conformance.cases import tensorflow_only
from tests.metrics.test_extractors import inception_graph
from tests.properties.budgets import FILES, hold, in_both_modes
from tests.properties.readers import FACES, SEEDS, VERTICES, hdf5, keras_file, npy, npz, record, rezipped
from tests.properties.reading import MOST_BYTES, Reader

pytestmark = tensorflow_only

# What headers may promise.
NUMBERS = (0, 1, 2**7, 2**15 - 1, 2**16 - 1, 10**9, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
WORDS = (b"nan", b"inf", b"-1", b"1e308", b"1e999", b"1000000000", b"4294967295", b"9" * 400, b"0", b"-0.0", b"x", b"")
ZIPPED = ("shapes.npz", "images.npz", "pictures.npz", "statistics", "checkpoint", "network", "registrations", "weights")


@pytest.fixture(scope="module")
def reader():
    reader = Reader()
    yield reader
    reader.end()


def kept(reader, kind, content, name):
    """Asserts that a file does no harm, and returns what became of it."""
    found = reader.read(kind, content, name)
    assert found.kind in ("read", "refused"), f"{kind}: {found.words}"
    assert not found.deeds
    assert found.bytes <= MOST_BYTES, f"{kind}: {found.bytes:,} bytes more than at rest"
    return found


@st.composite
def damaged(draw, contents):
    """Draws valid bytes and damages them in one to four places."""
    content = draw(st.sampled_from(contents))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        # Headers matter most.
        place = place % 64 if draw(st.booleans()) else place
        before, after = content[:place], content[place:]
        how = draw(st.sampled_from(("cut", "flip", "insert", "number", "word", "swap", "splice", "repeat", "drop")))
        if how == "cut":
            content = before
        elif how == "flip" and after:
            content = before + bytes([after[0] ^ 1 << draw(st.integers(0, 7))]) + after[1:]
        elif how == "insert":
            content = before + draw(st.binary(min_size=1, max_size=8)) + after
        elif how == "number":
            size, order = draw(st.sampled_from((1, 2, 4, 8))), draw(st.sampled_from(("little", "big")))
            number = draw(st.sampled_from(NUMBERS)) % 256**size
            content = before + number.to_bytes(size, order) + after[size:]
        elif how == "word":
            # In the place of a word of a text.
            head, _, tail = after.partition(b" ")
            end = head.partition(b"\n")[1:] if b"\n" in head else (b" ", b"")
            content = before + b" " + draw(st.sampled_from(WORDS)) + b"".join(end) + tail
        elif how == "swap":
            other = draw(st.integers(0, len(content)))
            content = content[other:] + content[:other]
        elif how == "splice":
            other = draw(st.sampled_from(contents))
            content = before + other[draw(st.integers(0, len(other))) :]
        elif how == "repeat":
            content = before + after[: draw(st.integers(1, 32))] * draw(st.integers(2, 40)) + after
        else:
            content = before + after[draw(st.integers(1, 8)) :]
    return content


def _inside(kind, content, change):
    """Returns a file of which the parts are changed, and whose sums of bytes and lengths are right."""
    if kind in ZIPPED:
        return rezipped(content, change)
    if kind in ("records", "batches"):
        (length,) = struct.unpack_from("<Q", content)
        return record(change("", content[12 : 12 + length])[1]) + content[16 + length :]
    return content


@st.composite
def files(draw, kind):
    """Draws a damaged file of a kind, from the outside, or inside of an archive that is intact."""
    seeds = [(name, content) for name, content in SEEDS[kind]]
    name, content = draw(st.sampled_from(seeds))
    alike = [other for _, other in seeds]
    if draw(st.booleans()) and (kind in ("records", "batches") or content.startswith(b"PK")):
        which = draw(st.integers(0, 30))
        parts = []
        _inside(kind, content, lambda member, part: (parts.append(part) or member, part))
        changed = draw(damaged([parts[which % len(parts)]]))
        number = iter(range(len(parts)))
        return name, _inside(
            kind, content, lambda m, part: (m, changed if next(number) == which % len(parts) else part)
        )
    return name, draw(damaged([content, content, *alike]))


@in_both_modes
@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_do_no_harm(kind, long, reader):
    found = hold(lambda file: kept(reader, kind, file[1], file[0]).kind, files(kind), FILES[kind], long)
    # Of a few cases none need be damaged where it shows.
    assert "refused" in found or not long


class Canary:
    """What makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def mesh_ply(vertices=4, faces=1, rows=True, kind="ascii", length=3):
    """Returns a PLY file whose header promises so much, with the rows of four vertices and one face, or none."""
    header = f"""ply
format {kind} 1.0
element vertex {vertices}
property float x
property float y
property float z
element face {faces}
property list uint int vertex_indices
end_header
""".encode()
    if not rows:
        return header
    if kind == "ascii":
        return header + b"0 0 0\n1 0 0\n0 1 0\n0 0 1\n" + f"{length} 0 1 2\n".encode()
    return header + struct.pack("<12fI3i", *range(12), length, 0, 1, 2)


def with_header(array_header, body=b""):
    """Returns an `.npy` of a header in any words."""
    text = array_header.encode() + b" " * (-(10 + len(array_header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def promising(shape, descr="<f8"):
    return with_header(f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}")


def zipped(method=zipfile.ZIP_DEFLATED, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as content:
        for name, part in members.items():
            content.writestr(f"{name}.npy", part)
    return file.getvalue()


def png(width, height, rows=b""):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def jpeg(height, width):
    content = SEEDS["picture"][1][1]
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


def gif(width, height, frames):
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x01\x00\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6) + frames * frame + b";"


def wave_file(data_length=None, channels=1, rate=16000, bits=16, riff=None):
    frame = channels * bits // 8
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", riff or 100, b"WAVE", b"fmt ", 16, 1, channels, rate, rate * frame, frame, bits
    )
    return head + b"data" + struct.pack("<I", 64 if data_length is None else data_length) + bytes(64)


def external_hdf5(folder):
    """Returns an HDF5 file whose sequence is the first bytes of another file, and one of a link to another."""
    secret = folder / "secret"
    secret.write_bytes(bytes(4 * 3 * 4 * 4))
    with h5py.File(folder / "other.hdf5", "w") as file:
        file["run"] = np.zeros((4, 3, 4), "float32")
    for make in (
        lambda file: file.create_dataset("run", (4, 3, 4), "<f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)]),
        lambda file: file.__setitem__("run", h5py.ExternalLink(str(folder / "other.hdf5"), "/run")),
    ):
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file["faces"] = FACES
            make(file)
        yield content.getvalue()


def empty_hdf5():
    """Returns an HDF5 file of a few kilobytes with a sequence of 10^9 frames that are all zero."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["faces"] = FACES
        file.create_dataset("run", (4, 3, 10**9), "<f4", chunks=(4, 3, 1000), compression="gzip")
    return content.getvalue()


BILLION = 10**9
# What is compressed to 0.1 MB.
ZEROS = bytes(24 * 2**22)
ARRAYS = {"x_train": np.zeros((2, 8, 8), "uint8"), "y_train": [0, 1], "x_test": np.zeros((1, 8, 8), "uint8")}
HOSTILE = {
    "ply-vertices": ("ply", "a.ply", mesh_ply(vertices=BILLION)),
    "ply-vertices-binary": ("ply", "a.ply", mesh_ply(vertices=BILLION, kind="binary_little_endian")),
    "ply-faces": ("ply", "a.ply", mesh_ply(faces=BILLION, kind="binary_little_endian")),
    "ply-only-promises": ("ply", "a.ply", mesh_ply(BILLION, BILLION, rows=False)),
    "ply-negative": ("ply", "a.ply", mesh_ply(vertices=-4)),
    "ply-list": ("ply", "a.ply", mesh_ply(kind="binary_little_endian", length=2**32 - 1)),
    "ply-list-ascii": ("ply", "a.ply", mesh_ply(length=2**32 - 1)),
    "off-counts": ("off", "a.off", b"OFF\n1000000000 1000000000 0\n0 0 0\n3 0 0 0\n"),
    "off-corners": ("off", "a.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n4294967295 0 1 2\n"),
    "stl-triangles": ("stl", "a.stl", bytes(80) + struct.pack("<I", 2**32 - 1) + bytes(50)),
    "obj-huge": ("obj", "a.obj", b"v 1e308 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"),
    "obj-nan": ("obj", "a.obj", b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"),
    "obj-index": ("obj", "a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4294967295\n"),
    "obj-before": ("obj", "a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf -1 -2 -9\n"),
    "obj-digits": ("obj", "a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 " + b"9" * 5000 + b"\n"),
    "obj-short": ("obj", "a.obj", b"v 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"),
    "npz-promise": ("shapes.npz", "a.npz", zipped(vertices=promising((BILLION, 4, 3)), faces=npy(FACES))),
    "npz-overflow": ("shapes.npz", "a.npz", zipped(vertices=promising((2**40, 2**40, 3)), faces=npy(FACES))),
    "npz-negative": ("shapes.npz", "a.npz", zipped(vertices=promising((-1, -4, 3)), faces=npy(FACES))),
    "npz-bomb": (
        "shapes.npz",
        "a.npz",
        zipped(vertices=promising((2**22, 3)) + ZEROS, faces=npy(FACES)),
    ),
    "npz-method": ("shapes.npz", "a.npz", zipped(zipfile.ZIP_LZMA, vertices=npy(VERTICES), faces=npy(FACES))),
    "npz-nothing": ("images.npz", "a.npz", zipped(x_train=promising((BILLION,), "|V0"))),
    "npz-names": (
        "images.npz",
        "a.npz",
        zipped(
            class_names=promising((10**15,), "<U0"),
            y_test=npy(np.array([0])),
            **{k: npy(v) for k, v in ARRAYS.items()},
        ),
    ),
    "npz-header": ("statistics", "a.npz", zipped(mu=with_header("{'descr': (((((", b""), sigma=npy(np.eye(2)))),
    "npz-nested": ("statistics", "a.npz", zipped(mu=with_header("(" * 5000), sigma=npy(np.eye(2)))),
    "npz-is-npy": ("images.npz", "a.npz", npy(VERTICES)),
    "npz-is-npy-of-shapes": ("shapes.npz", "a.npz", npy(VERTICES)),
    "statistics-overflow": ("statistics", "a.npz", npz(mu=np.ones(2), sigma=np.full((2, 2), 1e308), count=9)),
    "statistics-count": ("statistics", "a.npz", npz(mu=np.ones(2), sigma=np.eye(2), count=np.inf)),
    "hdf5-empty": ("registrations", "a.hdf5", empty_hdf5()),
    "hdf5-index": ("registrations", "a.hdf5", hdf5(faces=FACES + 9, run=np.zeros((4, 3, 4), "float32"))),
    "hdf5-words": ("registrations", "a.hdf5", hdf5(faces=FACES, run=np.full((4, 3, 4), b"x"))),
    "hdf5-huge": ("registrations", "a.hdf5", hdf5(faces=FACES, run=np.full((4, 3, 4), 1e300))),
    "hdf5-metres": ("registrations", "a.hdf5", hdf5(faces=FACES, run=np.full((4, 3, 4), 3e38, "float32"))),
    "png-promise": ("picture", "a.png", png(23000, 23000)),
    "png-bomb": ("picture", "a.png", png(12000, 12000, bytes(2**24))),
    "png-sides": ("picture", "a.png", png(2**31 - 1, 2**31 - 1)),
    "png-empty": ("picture", "a.png", png(0, 0)),
    "jpeg-promise": ("picture", "a.jpg", jpeg(65500, 65500)),
    "jpeg-scans": (
        "picture",
        "a.jpg",
        SEEDS["picture"][2][1][:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 5000,
    ),
    "gif-frames": ("picture", "a.png", gif(65535, 65535, 50)),
    "bmp-promise": ("picture", "a.bmp", SEEDS["picture"][3][1][:18] + struct.pack("<ii", 18000, -18000) + bytes(40)),
    "webp-promise": ("picture", "a.png", b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + b"\xff" * 14),
    "short": ("picture", "a.png", b"\xff"),
    "wav-four-gigabytes": ("clip", "a.wav", wave_file(2**32 - 1, riff=2**32 - 1)),
    "wav-two-gigabytes": ("clip", "a.wav", wave_file(2**31 - 2)),
    "wav-no-channels": ("clip", "a.wav", wave_file(channels=0)),
    "wav-channels": ("clip", "a.wav", wave_file(channels=2**16 - 1, bits=8)),
    "wav-no-rate": ("clip", "a.wav", wave_file(rate=0)),
    "wav-odd": ("clip", "a.wav", wave_file(63)),
    "wav-bits": ("clip", "a.wav", wave_file(bits=0)),
}


# Where reading is harmless, a reader may be generous.
GENEROUS = ("npz-method", "wav-four-gigabytes", "wav-two-gigabytes")
# What is said of some of them.
SAID = {
    "obj-short": r"line 1 has 'v 0' instead of three coordinates",
    "npz-promise": r"vertices of shape .* has 0 bytes instead of 96,000,000,000\)\..*numpy\.savez",
    "npz-bomb": r"with vertices it takes more than 100 times the memory of the file.*compressed beyond measure",
    "npz-is-npy": r"must be an \.npz file .*cannot be read \(it is no archive",
    "statistics-overflow": r"finite in float64\. Received: numbers up to 1e\+308 and count=9\. Compute",
    "statistics-count": r"features is one integer\. Received: count of shape \(\) and type float64 in .*leave it out",
    "hdf5-empty": r"with run it takes more than 100 times the memory of the file",
    "hdf5-words": r"run is of type \|S1",
    "hdf5-index": r"Faces must hold indices from 0 to 3",
    "hdf5-huge": r"finite numbers in float32\. Received: 'run' of .*Remove that sequence",
    "hdf5-metres": r"millimetres in float32\. Received: larger ones in .*read as metres\. Pass the unit",
    "png-promise": r"more than 67,108,864 pixels",
    "jpeg-scans": r"more than 100 scans",
    "gif-frames": r"more than 67,108,864 pixels",
    "short": r"cannot be read \(no picture of a known kind\)",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name, reader):
    kind, file, content = HOSTILE[name]
    found = kept(reader, kind, content, file)
    assert found.kind == "refused" or name in GENEROUS
    assert re.search(SAID.get(name, ""), found.words), found.words


# What once ended otherwise than in words.
ONCE = {
    # TensorFlow ends the process where a record promises more bytes than there are addresses.
    "record-length": ("records", "train-00000-of-00001", record(b"x", 10**13)),
    # Damage behind the first record is met where nothing expects it.
    "record-later": ("records", "train-00000-of-00001", SEEDS["records"][0][1][:-1] + b"?"),
    "photograph-bomb": ("photograph", "a.png", png(8200, 8200, bytes(8200 * 24601))),
    "checkpoint-bomb": ("checkpoint", "step_000000007.npz", zipped(pending=promising((10**12,)))),
    "checkpoint-member": (
        "checkpoint",
        "step_000000007.npz",
        rezipped(SEEDS["checkpoint"][0][1], lambda name, part: (name, part if "0" in name else b"x")),
    ),
    "checkpoint-is-npy": ("checkpoint", "step_000000007.npz", npy(VERTICES)),
    "inputs-promise": ("inputs.npy", "a.npy", promising((10**12,))),
    "inputs-header": ("inputs.npy", "a.npy", with_header("{'descr': (((((")),
    "history-column": ("history", "history.csv", b"step,loss\r\n1,0.5\r\n"),
    "history-bytes": ("history", "history.csv", b"epoch,loss\r\n1,\xff\r\n"),
}


@pytest.mark.parametrize("name", ONCE)
def test_files_that_once_were_not_refused(name, reader):
    kind, file, content = ONCE[name]
    assert kept(reader, kind, content, file).kind == "refused"


def test_no_pickle_is_looked_at(reader, tmp_path):
    canary = np.array([Canary(tmp_path / "canary")], dtype=object)
    arrays = {
        "shapes.npz": {"vertices": canary, "faces": FACES},
        "images.npz": {**ARRAYS, "y_test": canary},
        "pictures.npz": {"images": canary},
        "statistics": {"mu": np.ones(2), "sigma": canary},
        "checkpoint": {"generator/0": canary},
    }
    for kind, chosen in arrays.items():
        assert kept(reader, kind, npz(**chosen), SEEDS[kind][0][0]).kind == "refused"
    assert kept(reader, "inputs.npy", npy(canary), "a.npy").kind == "refused"
    assert not (tmp_path / "canary").exists()


def test_no_other_file_is_read(reader, tmp_path):
    for content in external_hdf5(tmp_path):
        assert kept(reader, "registrations", content, "a.hdf5").kind == "refused"


def with_class(module, name, **config):
    """Returns a `.keras` file whose layer is said to be something else of another module."""

    def change(member, part):
        if member != "config.json":
            return member, part
        model = json.loads(part)
        layer = next(layer for layer in model["config"]["layers"] if layer["class_name"] == "CCP")
        layer.update(module=module, class_name=name, registered_name=None, config=config)
        return member, json.dumps(model)

    return rezipped(SEEDS["network"][0][1], change)


def test_no_network_runs_code(reader, tmp_path):
    canary = tmp_path / "canary"
    inputs = keras.Input((3,))
    # A Lambda is Python's own code.
    touched = keras.layers.Lambda(eval(f"lambda x: __import__('pathlib').Path({str(canary)!r}).touch() or x"))
    content = keras_file(keras.Model(inputs, touched(inputs)))
    canary.unlink()
    assert kept(reader, "network", content, "model.keras").kind == "refused"
    command = f"touch {canary}"
    for content in (
        with_class("os", "system", command=command),
        with_class("posix", "system", command=command),
        with_class("subprocess", "Popen", args=["touch", str(canary)]),
        with_class("builtins", "eval", source="1"),
        with_class("keras.src.utils.file_utils", "open", path=str(canary), mode="w"),
        with_class("antigravity", "fly"),
        with_class("keras.layers", "TFSMLayer", filepath=str(tmp_path)),
    ):
        assert kept(reader, "network", content, "model.keras").kind == "refused"
    assert not canary.exists()


@pytest.mark.parametrize("name", ["../outside", "/outside", "assets/../../outside", "assets//outside"])
def test_no_archive_writes_elsewhere(name, reader):
    file = io.BytesIO(SEEDS["network"][0][1])
    with zipfile.ZipFile(file, "a") as content:
        content.writestr(name.replace("/outside", f"{reader.folder}-outside") if name[0] == "/" else name, b"x")
    found = kept(reader, "network", file.getvalue(), "model.keras")
    assert found.kind in ("read", "refused")
    assert not list(reader.folder.parent.glob("*outside*")) and not list(reader.folder.glob("outside"))


def test_no_graph_writes_files(tmp_path):
    path, _ = inception_graph(tmp_path, True)
    graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    for name, value in (("name", str(tmp_path / "canary")), ("content", "x")):
        constant = graph.node.add(name=name, op="Const")
        constant.attr["dtype"].type = tf.string.as_datatype_enum
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    graph.node.add(name="write", op="WriteFile", input=["name", "content"])
    next(node for node in graph.node if node.name == "conv").input.append("^write")
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ValueError, match=r"with a graph that has the operations WriteFile too\. Pass that file"):
        Inception2015(path)
    assert not (tmp_path / "canary").exists()
    for damaged in (path.read_bytes()[:-9], graph.node[0].SerializeToString() * 3):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"Received: .*classify_image_graph_def\.pb with .*Pass that file"):
            Inception2015(path)


def test_no_index_beyond_a_matrix_is_used(tmp_path):
    shapes = deformed_spheres(1, subdivisions=1)
    arguments = {"factors": (4,), "cache": tmp_path}
    expected = hierarchy(shapes.vertices[0], shapes.faces, **arguments)
    (path,) = tmp_path.glob("*.npz")
    with np.load(path) as file:
        arrays = dict(file)
    arrays["up_0_indices"] = arrays["up_0_indices"] + 10**6
    np.savez(path, **arrays)
    with pytest.warns(UserWarning, match=r"npz cannot be read \(.*\) and is made again"):
        again = hierarchy(shapes.vertices[0], shapes.faces, **arguments)
    np.testing.assert_array_equal(again.up[0].indices, expected.up[0].indices)
