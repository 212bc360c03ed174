"""The folder of one run: its configuration, and a lock on what was configured."""

import contextlib
import json
import os
from pathlib import Path

from pinets_tf.training.cluster import alone

CONFIG = "config.json"
# By what a configuration tells the data of its run from others.
FINGERPRINT = "fingerprint"
# Files that are locked until this process ends, by the path of their workdir.
_LOCKED: dict[Path, int] = {}


def open_workdir(path, config, may_differ=()):
    """Makes the folder of a run, or opens it again for the same configuration, and returns its path.

    Writes `config` to `config.json`. A folder that holds a run of another configuration is refused, and one in which
    another process of this machine is at work: the lock on its `lock` ends with the process, however that ends. Where
    `config` has a `"fingerprint"` of the data, a run that began with another one is refused; one that began without
    goes on.

    Args:
        path: the folder.
        config: a dictionary of JSON values.
        may_differ: names in `config` that a resumed run may change, such as the number of epochs.

    Raises:
        ValueError: if the folder holds a run of another configuration or a damaged one, or another process is at work
            in it.
        PermissionError: if the folder cannot be made or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "no permission to write")
        _lock(folder)
        file = folder / CONFIG
        if file.exists():
            _refuse_other_configuration(folder, read_json(file), config, may_differ)
        write_atomically(file, json.dumps(config, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise PermissionError(
            f"A run writes its results into its workdir. Received: workdir={str(folder)!r}, which cannot be written to "
            f"({error.strerror or error}). Pass another folder with --workdir."
        ) from error
    return folder


def _lock(folder):
    """Keeps other processes out of `folder` until this one ends, where files can be locked."""
    try:
        import fcntl
    except ImportError:  # On Windows.
        return
    folder = folder.resolve()
    if folder in _LOCKED:
        return
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(file, 100).decode(errors="replace").strip()
        os.close(file)
        raise ValueError(
            f"One process writes into a workdir. Received: {folder}, where another one is at work"
            f"{f' ({owner})' if owner else ''}. Wait for its end, or pass another --workdir."
        ) from None
    except OSError:  # Of a file system without locks.
        os.close(file)
        return
    _LOCKED[folder] = file
    with contextlib.suppress(OSError):  # Who it is helps others, and no more than that.
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()}\n".encode())


def read_json(path, kind=dict):
    """Returns what a JSON file of a workdir holds.

    Raises:
        ValueError: if it is none, or holds another kind than a dictionary or a list, as `kind` says.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, kind):
            raise ValueError(f"it holds a {type(value).__name__}")
        return value
    except ValueError as error:
        raise ValueError(
            f"What a run writes about itself is a JSON {'object' if kind is dict else 'array'}. "
            f"Received: {path}, which is none ({error}). Delete the file, or copy it again."
        ) from error


def write_atomically(path, text):
    """Writes a file that is either the old one or the new one, whenever it is read or the process dies."""
    temporary = path.with_name(path.name + ".partial")
    # A name of a file that is not UTF-8 can be in it.
    temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(temporary, path)


def save_network(network, file):
    """Saves a network in a `.keras` file, which is the old one or the new one whenever it is read."""
    temporary = file.with_name("partial." + file.name)
    alone(network.save, temporary)
    os.replace(temporary, file)


def _refuse_other_configuration(folder, old, new, may_differ):
    names = sorted((old.keys() | new.keys()) - {*may_differ, FINGERPRINT})
    different = [name for name in names if old.get(name) != new.get(name)]
    if different:
        listed = ", ".join(f"{name}: {old.get(name)!r} there, {new.get(name)!r} now" for name in different)
        raise ValueError(
            "A workdir belongs to one configuration, and the same command on it resumes. "
            f"Received: {folder} with another one ({listed}). Pass another --workdir, or the old values."
        )
    began, now = old.get(FINGERPRINT), new.get(FINGERPRINT)
    if began and now and began != now:
        raise ValueError(
            "A run has the same data from its beginning to its end. "
            f"Received: {folder}, whose data have changed since it began (fingerprint {began} there, {now} now). "
            "Pass another --workdir, or the old data."
        )


class TooShort(ValueError):
    """A run is asked for fewer epochs or steps than it has done."""


def check_length(workdir, name, asked, done):
    """Raises `TooShort` if a run has done more of its epochs or steps, as `name` says, than it is asked for."""
    if asked < done:
        raise TooShort(
            f"A run is given as many {name} as it has done, or more. "
            f"Received: --{name}={asked} for {workdir}, which has begun or done {done}. "
            f"Pass --{name}={done} or more, or another --workdir."
        )
