"""The folder of one run: its configuration, and a lock on what was configured."""

import json
import os
from pathlib import Path


def open_workdir(path, config, may_differ=()):
    """Makes the folder of a run, or opens it again for the same configuration, and returns its path.

    Writes `config` to `config.json`. A folder that holds a run of another configuration is refused.

    Args:
        path: the folder.
        config: a dictionary of JSON values.
        may_differ: names in `config` that a resumed run may change, such as the number of epochs.

    Raises:
        ValueError: if the folder holds a run of another configuration.
        PermissionError: if the folder cannot be made or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "no permission to write")
        file = folder / "config.json"
        if file.exists():
            _refuse_other_configuration(folder, json.loads(file.read_text()), config, may_differ)
        write_atomically(file, json.dumps(config, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise PermissionError(
            f"A run writes its results into its workdir. Received: workdir={str(folder)!r}, which cannot be written to "
            f"({error.strerror or error}). Pass another folder with --workdir."
        ) from error
    return folder


def write_atomically(path, text):
    """Writes a file that is either the old one or the new one, whenever it is read or the process dies."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _refuse_other_configuration(folder, old, new, may_differ):
    names = sorted((old.keys() | new.keys()) - set(may_differ))
    different = [name for name in names if old.get(name) != new.get(name)]
    if different:
        listed = ", ".join(f"{name}: {old.get(name)!r} there, {new.get(name)!r} now" for name in different)
        raise ValueError(
            "A workdir belongs to one configuration, and the same command on it resumes. "
            f"Received: {folder} with another one ({listed}). Pass another --workdir, or the old values."
        )
