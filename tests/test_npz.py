"""Arrays of `.npz` files: what is damaged is told in words, and what is written is whole."""

import io
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pinets_tf.npz import Npz, write_npz

RULE = "Numbers are an .npz file with x"


def archive(content=None, method=zipfile.ZIP_DEFLATED, **arrays):
    """Returns the bytes of a zip file of arrays, or with other content in the place of the array x."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as zipped:
        if content is not None:
            zipped.writestr("x.npy", content)
        for name, array in arrays.items():
            with zipped.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(array))
    return file.getvalue()


def patched(content, place, value):
    """Returns a zip file with another 16-bit number at a place of both headers of its member."""
    local, central = content.index(b"PK\3\4") + place, content.index(b"PK\1\2") + place + 2
    for at in (local, central):
        content = content[:at] + struct.pack("<H", value) + content[at + 2 :]
    return content


GOOD = archive(x=np.arange(1000.0))
NPY = io.BytesIO()
np.save(NPY, np.arange(3))
DAMAGED = {
    "empty": (b"", "it is empty"),
    "text": (b"1, 2, 3\n", "it is no archive, or its end is missing"),
    "npy": (NPY.getvalue(), "it is no archive, or its end is missing"),
    "cut": (GOOD[:-10], "it is no archive, or its end is missing"),
    "flipped": (GOOD[:200] + b"\xff\xff" + GOOD[202:], "x is damaged"),
    "no array": (archive(b"1, 2, 3\n"), "x is damaged"),
    "version": (archive(b"\x93NUMPY\3\0" + bytes(90)), "x is of version (3, 0)"),
    "header": (archive(b"\x93NUMPY\1\0\4\0((((" + bytes(90)), "x is damaged"),
    "encrypted": (patched(GOOD, 6, 1), "x is encrypted"),
    "method": (patched(GOOD, 8, 9), "x is compressed in a way that Python does not read"),
    "objects": (archive(x=np.array([None])), "x holds Python objects"),
    "bomb": (archive(x=np.zeros(10**7)), "with x it takes more than 100 times the memory of the file"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_told_in_words(case, tmp_path):
    content, reason = DAMAGED[case]
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError) as caught, Npz(tmp_path / "a.npz", RULE) as file:
        file["x"]
    assert str(caught.value) == (
        f"{RULE}. Received: {tmp_path / 'a.npz'} ({len(content):,} bytes), which cannot be read ({reason}). The file "
        "is truncated, not an .npz, compressed beyond measure, or holds Python objects; write plain arrays with "
        "numpy.savez, or copy it again."
    )


def test_numbers_that_are_missing(tmp_path):
    content = archive(NPY.getvalue()[:-8])
    (tmp_path / "a.npz").write_bytes(content)
    with (
        Npz(tmp_path / "a.npz", RULE) as file,
        pytest.raises(ValueError, match=r"x of shape \(3,\) .* 16 bytes instead"),
    ):
        file["x"]


def test_writers_at_the_same_time(tmp_path):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: write_npz(tmp_path / "a.npz", x=np.full(1000, number)), range(40)))
    with Npz(tmp_path / "a.npz", RULE) as file:
        assert np.ptp(file["x"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
