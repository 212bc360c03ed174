"""Which of the user's files are read and which are left out: one set of rules for every reader.

- `~` and `~name` at the start of a path are home folders, also where a shell left them as they were.
- Endings are compared without regard to case. Names that are not UTF-8 are files like any other.
- Hidden files and folders are left out: names that begin with a dot, and those of `SYSTEM`, which file managers make.
- Links to files and folders are followed; a folder that is reached twice is read once; a link to nothing is left out.
- A folder is no file, whatever its name ends in; what lies in it is looked at like the content of any other folder.
- What is left out is counted and named: `Found.left_out`, in words `Found.description`.
"""

import codecs
import dataclasses
import os
from pathlib import Path

# What file managers and archives add to folders, in lower case.
SYSTEM = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir"})
NAMED = 3
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclasses.dataclass(frozen=True)
class Found:
    """The files of a folder that have one of some endings, and those that are left out.

    Args:
        folder: where they are.
        names: the names of the files below it, with `/` between folders, sorted.
        left_out: for each reason the names that were left out for it.
    """

    folder: Path
    names: tuple[str, ...]
    left_out: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def paths(self):
        """The paths of the files, in the order of `names`."""
        return [self.folder / name for name in self.names]

    @property
    def description(self):
        """One line that counts and names what was left out, or an empty string."""
        reasons = [
            f"{len(names):,} {reason} ({', '.join(map(shown, names[:NAMED]))}{', ...' * (len(names) > NAMED)})"
            for reason, names in self.left_out.items()
        ]
        return f"Left out in {shown(self.folder)}: {'; '.join(reasons)}." if reasons else ""


def expanded(path):
    """Returns a path as `Path`, with the home folder in the place of a `~` at its start."""
    return Path(os.path.expanduser(os.fspath(path)))


def is_hidden(name):
    """Returns whether a file or folder of this name is left out, as hidden or as made by a file manager."""
    return name.startswith(".") or name.lower() in SYSTEM


def find(folder, suffixes, nested=True):
    """Finds the files of a folder by their endings.

    Args:
        folder: a folder that exists.
        suffixes: endings in lower case, such as `(".png",)`.
        nested: whether folders below it are searched too.

    Returns:
        A `Found`. The reasons for leaving something out are "hidden", "links to nothing" and "other files".
    """
    folder = expanded(folder)
    names: list[str] = []
    left_out: dict[str, list[str]] = {"hidden": [], "links to nothing": [], "other files": []}
    visited = set()

    def search(below):
        status = os.stat(folder / below)
        if (status.st_dev, status.st_ino) in visited:
            return
        visited.add((status.st_dev, status.st_ino))
        for entry in sorted(os.scandir(folder / below), key=lambda entry: entry.name):
            name = f"{below}/{entry.name}" if below else entry.name
            if is_hidden(entry.name):
                left_out["hidden"].append(name)
            elif entry.is_dir():
                if nested:
                    search(name)
            elif not entry.is_file():
                left_out["links to nothing" if entry.is_symlink() else "other files"].append(name)
            elif entry.name.lower().endswith(suffixes):
                names.append(name)
            else:
                left_out["other files"].append(name)

    search("")
    reasons = {reason: tuple(those) for reason, those in left_out.items() if those}
    return Found(folder, tuple(sorted(names, key=lambda name: name.split("/"))), reasons)


def subfolders(folder):
    """Returns the names of the folders directly below a folder that are not hidden, sorted; links are followed."""
    return sorted(entry.name for entry in os.scandir(expanded(folder)) if entry.is_dir() and not is_hidden(entry.name))


def text_of(content):
    """Returns the text of the bytes of a file: as its byte order mark says, else UTF-8, else Latin-1."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def shown(name):
    """Returns a name or path that can be printed, also where it is not UTF-8."""
    return os.fspath(name).encode("utf-8", "backslashreplace").decode("utf-8")
