"""Arrays of `.npz` files from anywhere: nothing in one is run, and none takes more memory than its size allows."""

import contextlib
import math
import os
import threading
import zipfile

import numpy as np

from pinets_tf.files import expanded, shown

# What is read of a file takes at most ROOM + EXPANSION * (size of the file) bytes. Arrays of numbers that were measured
# are compressed to a tenth; a bomb is zeros, to a thousandth.
ROOM, EXPANSION = 64 * 2**20, 100
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def write_npz(path, **arrays):
    """Writes an `.npz` file, and its folder; whoever reads or writes at the same time sees no file or a whole one."""
    path = expanded(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}-{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


class Npz:
    """The arrays of an `.npz` file by name, each read when it is asked for, to be used in a `with` statement.

    In the place of `numpy.load`, which takes the memory that a header promises before it looks whether the numbers are
    there, and lets exceptions of many classes through.

    Args:
        path: the file, which must exist.
        rule: what the file should be, the first sentence of an error, without its full stop.

    Attributes:
        names: the names of the arrays.

    Raises:
        ValueError: if the file, or an array that is asked for, is damaged, holds Python objects, promises other numbers
            than it has, or is compressed to less than a hundredth.

    Example:

    >>> import numpy as np, tempfile
    >>> from pinets_tf.npz import Npz
    >>> with tempfile.NamedTemporaryFile(suffix=".npz") as file:
    ...     np.savez(file.name, x=np.arange(3))
    ...     with Npz(file.name, "Numbers are an .npz file with x") as arrays:
    ...         print(arrays.names, arrays["x"])
    ('x',) [0 1 2]
    """

    def __init__(self, path, rule):
        self._path, self._rule = expanded(path), rule
        self._size = self._path.stat().st_size
        self._left = ROOM + EXPANSION * self._size
        try:
            self._file = zipfile.ZipFile(self._path)
        except OSError as error:
            raise self._refused(error.strerror) from error
        except Exception as error:  # Of several classes, those of a damaged directory of a zip file.
            raise self._refused("it is no archive, or its end is missing" if self._size else "it is empty") from error
        members = (member for member in self._file.infolist() if member.filename.endswith(".npy"))
        self._members = {member.filename.removesuffix(".npy"): member for member in members}
        self.names = tuple(self._members)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __getitem__(self, name):
        member, cause = self._members[name], None
        try:
            with self._file.open(member) as stream:
                defect = self._defect(name, member, stream)
            if not defect:
                with self._file.open(member) as stream:
                    return np.lib.format.read_array(stream, allow_pickle=False)
        except Exception as error:  # Of many classes, those of zip files, of zlib, and of the parser of a header.
            cause, defect = error, f"{name} is damaged"
            if member.flag_bits & 1:
                defect = f"{name} is encrypted"
            elif isinstance(error, NotImplementedError):
                defect = f"{name} is compressed in a way that Python does not read"
        raise self._refused(defect) from cause

    def _defect(self, name, member, stream):
        """Returns why the bytes of a member are not those of its array, or are too many, or an empty string."""
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            return f"{name} is of version {version}"
        shape, _, dtype = _HEADERS[version](stream)
        if dtype.hasobject:
            return f"{name} holds Python objects"
        # Entries of no bytes would be any number.
        promised, there = math.prod(shape) * max(dtype.itemsize, 1), member.file_size - stream.tell()
        if promised != there or min(shape, default=0) < 0:
            return f"{name} of shape {shape} and type {dtype} has {there:,} bytes instead of {promised:,}"
        self._left -= there
        return f"with {name} it takes more than {EXPANSION} times the memory of the file" if self._left < 0 else ""

    def _refused(self, reason):
        return ValueError(
            f"{self._rule}. Received: {shown(self._path)} ({self._size:,} bytes), which cannot be read ({reason}). The "
            "file is truncated, not an .npz, compressed beyond measure, or holds Python objects; write plain arrays "
            "with numpy.savez, or copy it again."
        )
