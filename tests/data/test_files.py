"""Every reader of a folder follows one set of rules: what it takes, and what it leaves out, counts and names."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from pinets_tf import files
from pinets_tf.data import imagenet, images, pictures


class Reader(NamedTuple):
    """A reader of folders.

    Args:
        write: writes a folder that it reads.
        place: a folder below it that holds files.
        file: the name of one of them, which the tests copy.
        load: returns how many files of a folder were read, and the lines that tell what was not.
    """

    write: Callable[[Path], object]
    place: str
    file: str
    load: Callable[[object], tuple[int, tuple[str, ...]]]


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype("uint8")
    return tf.io.encode_png(pixels).numpy()


def write_pictures(*places):
    def write(folder):
        for number, place in enumerate(places):
            (folder / place).mkdir(parents=True, exist_ok=True)
            (folder / place / f"{number}.png").write_bytes(picture(number))

    return write


def load_images(folder):
    data = images.load(folder)
    return len(data.x_train) + len(data.x_test), data.notes


def load_photographs(folder):
    data = imagenet.load(folder)
    return data.train_size + data.validation_size, data.notes


def load_pictures(folder):
    data = pictures.load(folder, 8)
    return len(data.train), data.notes


SPLIT = write_pictures("train/cat", "train/dog", "val/cat", "val/dog")
CLASSES = write_pictures("cat", "cat", "dog", "dog")
READERS = {
    "images": Reader(SPLIT, "train/cat", "0.png", load_images),
    "images-classes": Reader(CLASSES, "cat", "0.png", load_images),
    "photographs": Reader(SPLIT, "train/cat", "0.png", load_photographs),
    "photographs-classes": Reader(CLASSES, "cat", "0.png", load_photographs),
    "pictures": Reader(write_pictures(".", "."), ".", "0.png", load_pictures),
}


def copied(folder, file, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / file, folder / name)


def hidden(folder, file, suffix):
    copied(folder, file, f"._a{suffix}", ".DS_Store", "Thumbs.db", f".secret/a{suffix}", f"__MACOSX/a{suffix}")
    return 0, "5 hidden (", "._a"


def upper_case(folder, file, suffix):
    copied(folder, file, f"a{suffix.upper()}", f"b{suffix.title()}")
    return 2, ""


def not_utf8(folder, file, suffix):
    copied(folder, file, os.fsdecode(b"caf\xe9" + suffix.encode()), os.fsdecode(b"\xff.txt"))
    return 1, "1 other files (", r"\xff.txt"


def nested(folder, file, suffix):
    copied(folder, file, f"below/further/a{suffix}")
    return 1, ""


def folder_like_a_file(folder, file, suffix):
    copied(folder, file, f"a{suffix}/b{suffix}")
    (folder / f"empty{suffix}").mkdir()
    return 1, ""


def links(folder, file, suffix):
    (folder / "elsewhere.txt").write_bytes((folder / file).read_bytes())
    (folder / f"link{suffix}").symlink_to("elsewhere.txt")
    (folder / f"nowhere{suffix}").symlink_to("none")
    return 1, "1 links to nothing (", f"nowhere{suffix}", "1 other files (", "elsewhere.txt"


def links_that_loop(folder, file, suffix):
    copied(folder, file, f"below/a{suffix}")
    (folder / "up").symlink_to(folder, target_is_directory=True)
    (folder / "again").symlink_to("below", target_is_directory=True)
    (folder / f"itself{suffix}").symlink_to(f"itself{suffix}")
    return 1, "1 links to nothing (", f"itself{suffix}"


def no_regular_file(folder, file, suffix):
    os.mkfifo(folder / f"pipe{suffix}")
    return 0, "1 other files (", f"pipe{suffix}"


RULES = (hidden, upper_case, not_utf8, nested, folder_like_a_file, links, links_that_loop, no_regular_file)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_follows_every_rule(reader, rule, tmp_path):
    reader = READERS[reader]
    reader.write(tmp_path)
    before, lines = reader.load(tmp_path)
    assert "Left out" not in "\n".join(lines)
    added, *words = rule(tmp_path / reader.place, reader.file, Path(reader.file).suffix)
    count, lines = reader.load(tmp_path)
    assert count == before + added
    said = [line for line in lines if line.startswith("Left out in ")]
    assert len(said) == bool("".join(words))
    for word in words:
        assert word in "".join(said)


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_knows_home(reader, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    READERS[reader].write(tmp_path / "set")
    assert READERS[reader].load("~/set") == READERS[reader].load(str(tmp_path / "set"))


@pytest.mark.parametrize("reader", READERS)
def test_the_name_of_the_set_is_a_name_like_others(reader, tmp_path):
    for name in (os.fsdecode(b"caf\xe9"), "a.npz", ".hidden", "[a]*"):
        READERS[reader].write(tmp_path / name)
        count, lines = READERS[reader].load(tmp_path / name)
        assert count >= 2
        "\n".join(lines).encode()


@pytest.mark.parametrize("load", [lambda path: images.load(path), lambda path: pictures.load(path, 8)])
def test_endings_of_arrays_are_of_any_case(load, tmp_path):
    x, y = np.arange(4 * 64, dtype="uint8").reshape(4, 8, 8), [0, 1, 0, 1]
    with (tmp_path / "SET.NPZ").open("wb") as file:
        np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)
    assert load(str(tmp_path / "SET.NPZ"))


def test_find_counts_and_names(tmp_path):
    for name in ("b.png", "a/c.PNG", "a b.png", "notes.txt", *(f".{number}" for number in range(5))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = files.find(tmp_path, (".png",))
    # In the order of paths, part by part.
    assert found.names == ("a/c.PNG", "a b.png", "b.png")
    assert found.paths == [tmp_path / name for name in found.names]
    assert found.description == (f"Left out in {tmp_path}: 5 hidden (.0, .1, .2, ...); 1 other files (notes.txt).")
    assert files.find(tmp_path, (".png",), nested=False).names == ("a b.png", "b.png")
    assert files.find(tmp_path, (".png",), below=("a",)).names == ("a/c.PNG",)
    assert not files.find(tmp_path / "a", (".png",)).description
    assert "3 lost (x, y, z)" in found.joined({"lost": ("x", "y", "z"), "nothing": ()}).description


def test_places_that_are_one_folder_are_searched_each(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    (tmp_path / "b").symlink_to("a", target_is_directory=True)
    assert files.find(tmp_path, (".png",), below=("a", "b")).names == ("a/1.png", "b/1.png")
    assert files.find(tmp_path, (".png",)).names == ("a/1.png",)


def test_a_folder_that_cannot_be_read_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "1.png").touch()
    scan = os.scandir

    # Whoever runs the tests may read every folder.
    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = files.find(tmp_path, (".png",))
    assert found.names == ("1.png",) and found.left_out == {"folders that cannot be read": ("closed",)}


def test_subfolders(tmp_path):
    for name in ("b", "a.png", ".hidden", "__MACOSX", "$RECYCLE.BIN"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("b", target_is_directory=True)
    (tmp_path / "loop").symlink_to("loop")
    assert files.subfolders(tmp_path) == ["a.png", "b", "link"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"])
def test_text_is_read_as_it_is_written(encoding):
    mark = b"\xfe\xff" * (encoding == "utf-16-be")
    assert files.text_of(mark + "chien é".encode(encoding)) == "chien é"


def test_names_are_expanded_and_shown(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert files.expanded("~/a") == Path("/home/someone/a") and files.expanded("a/~") == Path("a/~")
    assert files.shown(os.fsdecode(b"caf\xe9")) == r"caf\xe9" and files.shown(Path("é")) == "é"
