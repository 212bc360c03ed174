"""Which of the user's files are read and which are left out: one set of rules for every reader.

- `~` and `~name` at the start of a path are home folders, also where a shell left them as they were.
- Endings are compared without regard to case. Names that are not UTF-8 are files like any other.
- Hidden files and folders are left out: names that begin with a dot, and those of `SYSTEM`, which file managers make.
- Links to files and folders are followed; a folder that is reached twice is read once; a link to nothing is left out.
- A folder that cannot be read is left out.
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

    def joined(self, left_out):
        """Returns this with more that was left out."""
        reasons = {reason: (*self.left_out.get(reason, ()), *names) for reason, names in left_out.items() if names}
        return dataclasses.replace(self, left_out={**self.left_out, **reasons})

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


def find(folder, suffixes, nested=True, below=("",)):
    """Finds the files of a folder by their endings.

    Args:
        folder: a folder that exists.
        suffixes: endings in lower case, such as `(".png",)`.
        nested: whether folders below it are searched too.
        below: the names of the folders below it that are searched, each of them by itself, so that two of them may be
            links to one; all of it by default.

    Returns:
        A `Found`. The reasons for leaving something out are "hidden", "links to nothing", "other files" and "folders
        that cannot be read".
    """
    folder = expanded(folder)
    names: list[str] = []
    left_out: dict[str, list[str]] = {}

    def leave_out(reason, name):
        left_out.setdefault(reason, []).append(name)

    def search(place, visited):
        try:
            status = os.stat(folder / place)
            entries = sorted(os.scandir(folder / place), key=lambda entry: entry.name)
        except OSError:
            return leave_out("folders that cannot be read", place or ".")
        if (status.st_dev, status.st_ino) in visited:
            return None
        visited.add((status.st_dev, status.st_ino))
        for entry in entries:
            name, kind = f"{place}/{entry.name}" if place else entry.name, _kind(entry)
            if is_hidden(entry.name):
                leave_out("hidden", name)
            elif kind == "folder":
                if nested:
                    search(name, visited)
            elif kind != "file":
                leave_out("links to nothing" if entry.is_symlink() else "other files", name)
            elif entry.name.lower().endswith(suffixes):
                names.append(name)
            else:
                leave_out("other files", name)

    for place in below:
        search(place, set())
    reasons = {reason: tuple(those) for reason, those in left_out.items()}
    return Found(folder, tuple(sorted(names, key=lambda name: name.split("/"))), reasons)


def _kind(entry):
    """Returns "folder", "file" or neither for the entry of a folder, without a look at the file unless it is a link."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:  # A link to itself.
        return ""


def subfolders(folder):
    """Returns the names of the folders directly below a folder that are not hidden, sorted; links are followed."""
    entries = os.scandir(expanded(folder))
    return sorted(entry.name for entry in entries if not is_hidden(entry.name) and _kind(entry) == "folder")


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
    return os.fsencode(name).decode("utf-8", "backslashreplace")
