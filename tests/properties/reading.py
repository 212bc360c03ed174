"""A process that reads files for the tests, so that what a file does to a process is seen and does not end the tests.

A file may not crash the interpreter, take longer than `SECONDS`, take more memory than `MOST_BYTES` in all, make a
process or look up what a pickle names, or change anything outside of its folder.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

# As in tests/commands.py: one process imports TensorFlow, those that read files are forked from it.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tensorflow", "keras"])
SECONDS = 20
# Above what the process takes before a file: the files of the tests have 0.2 MB, for which `pinets_tf.npz` takes
# ROOM + EXPANSION * 0.2 MB, and what is made of it as much again.
MOST_BYTES = 384 * 2**20
# Address space, so that what is promised and not used does not stop the machine.
MOST_ADDRESSES = 6 * 2**30
_FORBIDDEN = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class"}
_CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate"}


@dataclasses.dataclass
class Outcome:
    """What became of a file: `"read"`, `"refused"` or `"raised"`, in which words, and what was done that may not be."""

    kind: str
    words: str
    deeds: list[str]
    bytes: int


class Reader:
    """A process that reads files; where one ends it, the next file gets another."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="files-"))
        self._process = None

    def read(self, kind, content, name):
        """Returns the `Outcome` of reading bytes, as a file of this name, with `READERS[kind]`.

        Raises:
            AssertionError: if that ended the process or took too long.
        """
        if self._process is None:
            self._start()
        self._connection.send((kind, content, name))
        if not self._connection.poll(SECONDS):
            self.close()
            raise AssertionError(f"{kind}: not read after {SECONDS} s")
        try:
            return self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.close()
            raise AssertionError(f"{kind}: the interpreter ended with status {code}") from None

    def _start(self):
        self._connection, other = multiprocessing.Pipe()
        self._process = _FORKS.Process(target=_serve, args=(other, self.folder), daemon=True)
        self._process.start()
        other.close()
        if not self._connection.poll(120):
            raise AssertionError("the process that reads files does not start")
        self._connection.recv()

    def close(self):
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = None

    def end(self):
        self.close()
        shutil.rmtree(self.folder)


def _serve(connection, folder):
    import keras

    from tests.properties.readers import READERS, SEEDS

    warnings.simplefilter("ignore")
    # What decoders say of damaged pictures.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    tempfile.tempdir = str(temporary)
    os.environ["TMPDIR"] = str(temporary)
    keras.config.disable_traceback_filtering()
    deeds = []
    watched = [False]

    def watch(event, arguments):
        if not watched[0]:
            return
        changes = event in _CHANGES or (event == "open" and _writes(arguments))
        paths = arguments[: 1 + (event == "os.rename")] if changes else ()
        if event in _FORBIDDEN or not all(_lies_in(path, arguments[-1], folder) for path in paths):
            deeds.append(f"{event} {arguments}")

    def outcome(kind, content, name):
        place = folder / "file"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (place / name).write_bytes(content)
        deeds.clear()
        peak, at_rest = _peak(), _sizes()[1]
        watched[0] = True
        try:
            with contextlib.redirect_stdout(None):
                READERS[kind](place / name)
            result = "read", ""
        except (ValueError, OSError, ImportError) as error:
            words = str(error)
            result = ("refused" if "Received:" in words else "raised"), f"{type(error).__name__}: {words}"
        except BaseException as error:
            result = "raised", f"{type(error).__name__}: {error}"
        finally:
            watched[0] = False
        taken = _peak() - at_rest if _peak() > peak else 0
        return Outcome(*result, list(deeds), taken)

    sys.addaudithook(watch)
    for kind, files in SEEDS.items():
        for name, content in files:
            found = outcome(kind, content, name)
            assert found.kind == "read", (kind, name, found)
    resource.setrlimit(resource.RLIMIT_AS, (_sizes()[0] + MOST_ADDRESSES,) * 2)
    connection.send("ready")
    while True:
        connection.send(outcome(*connection.recv()))


def _lies_in(path, opened, folder):
    """Whether a path lies in the folder; one that begins in an opened folder is beside it."""
    if isinstance(path, int):
        path, opened = ".", path
    path = os.fsdecode(path)
    if not os.path.isabs(path) and isinstance(opened, int) and opened > 2:
        path = os.path.join(os.readlink(f"/proc/self/fd/{opened}"), path)
    return path == os.devnull or Path(os.path.realpath(path)).is_relative_to(folder)


def _writes(arguments):
    path, _, flags = arguments
    return isinstance(path, (str, bytes)) and isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _sizes():
    """Returns the address space of the process, and the part of it that is in memory, in bytes."""
    return [
        int(pages) * resource.getpagesize()
        for pages in Path("/proc/self/statm").read_text(encoding="ascii").split()[:2]
    ]


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
