"""Readers of folders of sounds and shapes: the same rules for all, and no words of other libraries."""

import os
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pinets_tf.data import meshes, speech
from pinets_tf.mesh import deformed_spheres, hierarchy, read_mesh, read_shapes
from pinets_tf.npz import Npz, write_npz
from tests.data.test_meshes import registrations, saved
from tests.data.test_speech import folder as write_clips
from tests.data.test_speech import put, wav
from tests.mesh.test_files import written
from tests.properties.readers import READERS, SEEDS

SHAPES = deformed_spheres(4, subdivisions=1)


class Folder(NamedTuple):
    """A reader of folders, what writes one, and a file in it."""

    write: Callable[[Path], object]
    load: Callable[[Any], Any]
    file: str


def clips(path):
    lists = {"validation_list.txt": "no/s1_nohash_0.wav", "testing_list.txt": "yes/s1_nohash_0.wav"}
    write_clips(path, lists, speakers=4)
    put(path / "_background_noise_" / "hum.wav", wav(20_000))


def of_meshes(suffix):
    def write(path):
        for number, vertices in enumerate(SHAPES.vertices):
            written(path / "walk" / f"{number}{suffix}", vertices, SHAPES.faces)

    return Folder(write, meshes.load, f"walk/1{suffix}")


def sequences(path):
    path.mkdir()
    registrations(path / "a.hdf5")
    registrations(path / "b.h5")


def arrays(path):
    path.mkdir()
    saved(path / "train.npz")
    saved(path / "test.npz")


FOLDERS = {
    "speech": Folder(clips, speech.load, "no/s0_nohash_0.wav"),
    "noise": Folder(clips, speech.load, "_background_noise_/hum.wav"),
    **{suffix[1:]: of_meshes(suffix) for suffix in (".obj", ".off", ".ply", ".stl")},
    "hdf5": Folder(sequences, lambda path: meshes.load(path, "metres"), "a.hdf5"),
    "h5": Folder(sequences, lambda path: meshes.load(path, "metres"), "b.h5"),
    "npz": Folder(arrays, meshes.load, "test.npz"),
}


def counts(data):
    parts = (data.train, data.validation, data.test)
    if isinstance(data, speech.SpeechClips):
        return [len(part) for part in parts], len(data.noise), data.classes
    return [part.vertices.shape for part in parts]


def texts(data):
    """Returns all that a script may print of a data set."""
    if isinstance(data, speech.SpeechClips):
        return [*data.notes, *data.class_names, *data.skipped]
    return [*data.notes, *(name for part in (data.train, data.validation, data.test) for name in part.names)]


def add_hidden(folder, file):
    for name in (f"._{file.name}", f".{file.name}"):
        (file.parent / name).write_bytes(b"\0\5\x16\7" + bytes(99))
    (folder / ".DS_Store").write_bytes(b"\0")
    put(folder / ".cache" / file.name, b"")


def add_system(folder, file):
    (file.parent / "Thumbs.db").write_bytes(b"\0")
    (file.parent / "Desktop.ini").write_bytes(b"\0")
    put(folder / "__MACOSX" / file.name, b"")


def link(folder, file):
    elsewhere = folder.parent / "elsewhere"
    shutil.move(file, elsewhere)
    file.symlink_to(elsewhere)


def link_folder(folder, file):
    elsewhere = folder.parent / "elsewhere"
    shutil.move(file.parent, elsewhere)
    file.parent.symlink_to(elsewhere)


def move_down(folder, file):
    (file.parent / "deeper" / "still").mkdir(parents=True)
    shutil.move(file, file.parent / "deeper" / "still" / file.name)


# What is done to a folder and does not change what is read, and what is noted of it.
RULES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "nothing": (lambda folder, file: None, r"^$"),
    "hidden": (add_hidden, r"^Left out in .*: 4 hidden \(.*\.DS_Store"),
    "system": (add_system, r"3 hidden \(.*Thumbs\.db"),
    "other": (lambda folder, file: put(file.parent / "notes.txt", b""), r"1 other files \(.*notes\.txt\)"),
    "link to nothing": (
        lambda folder, file: file.with_stem("away").symlink_to("nowhere"),
        r"1 links to nothing \(.*away",
    ),
    "link": (link, r"^$"),
    "folder behind a link": (link_folder, r"^$"),
    "loop": (lambda folder, file: (file.parent / "loop").symlink_to(folder), r"^$"),
    "folder with the ending": (lambda folder, file: file.with_stem("folder").mkdir(), r"^$"),
    "nested": (move_down, r"^$"),
    "capitals": (lambda folder, file: file.rename(file.with_suffix(file.suffix.upper())), r"^$"),
    "not UTF-8": (lambda folder, file: file.rename(file.with_stem(os.fsdecode(b"0\xe9\xff"))), r"^$"),
    "unprintable": (lambda folder, file: put(file.parent / os.fsdecode(b"\xe9.txt"), b""), r"\(.*\\xe9\.txt\)"),
}
# Three names make one set, in one folder.
NOT_OF_SPLITS = ("nested", "not UTF-8", "folder behind a link")
CASES = [
    (kind, rule)
    for kind in FOLDERS
    for rule in RULES
    if not (kind == "npz" and rule in NOT_OF_SPLITS) and not (kind in ("hdf5", "h5") and rule == "folder behind a link")
]


@pytest.mark.parametrize("kind, rule", CASES)
def test_one_set_of_rules(kind, rule, tmp_path):
    write, load, file = FOLDERS[kind]
    change, noted = RULES[rule]
    place = tmp_path / "set"
    write(place)
    before = load(place)
    change(place, place / file)
    after = load(place)
    assert counts(after) == counts(before)
    assert re.search(noted, "\n".join(after.notes)), after.notes
    for text in texts(after):
        text.encode("utf-8")


@pytest.mark.parametrize("kind", FOLDERS)
def test_home_folders(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write, load, _ = FOLDERS[kind]
    write(tmp_path / "set")
    assert counts(load("~/set")) == counts(load(tmp_path / "set"))


def test_home_folders_of_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "a.wav", wav(100))
    written(tmp_path / "a.obj", SHAPES.vertices[0], SHAPES.faces)
    saved(tmp_path / "a.npz")
    registrations(tmp_path / "a.hdf5")
    assert speech.read_clip("~/a.wav").any()
    assert len(read_mesh("~/a.obj")[0]) == len(meshes.read_shape("~/a.obj", 42)[0]) == 42
    assert len(read_shapes("~/a.npz").names) == 12 and meshes.load("~/a.npz") and meshes.load("~/a.hdf5", "metres")
    write_npz("~/written/b.npz", x=np.arange(3))
    with Npz("~/written/b.npz", "Numbers are an .npz file") as file:
        assert file.names == ("x",)
    hierarchy(SHAPES.vertices[0], SHAPES.faces, (4,), cache="~/cache")
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 1
    assert not Path("~").exists()


@pytest.mark.parametrize(
    "name", ["walk", "walk/", "person/walk", "person/walk/", "~/set/person/walk", "set/person/walk"]
)
def test_names_of_test_sequences(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for number, vertices in enumerate(SHAPES.vertices):
        sequence = "walk" if number == 0 else "run"
        written(tmp_path / "set" / "person" / sequence / f"{number}.obj", vertices, SHAPES.faces)
    assert meshes.load("set", test_sequences=[name]).test.names == ("person/walk/0",)


ACCENT = "s\u00e9_nohash_0.wav"
LISTS = {
    "plain": str.encode,
    "utf-8 with a mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 big-endian": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "latin-1": lambda text: text.encode("latin-1"),
    "returns": lambda text: text.replace("\n", "\r\n").encode(),
    "old mac": lambda text: text.replace("\n", "\r").encode(),
    "backslashes": lambda text: text.replace("/", "\\").encode(),
    "dots": lambda text: "".join(f"./{line}\n" for line in text.splitlines()).encode(),
    "blanks": lambda text: text.replace("\n", " \n\n").encode(),
    "decomposed": lambda text: unicodedata.normalize("NFD", text).encode(),
    "all at once": lambda text: text.replace("/", "\\").replace("\n", "\r\n").encode("utf-16"),
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("name", [ACCENT, unicodedata.normalize("NFD", ACCENT), os.fsdecode(ACCENT.encode("latin-1"))])
def test_lists_in_every_encoding(kind, name, tmp_path):
    lines = LISTS[kind](f"no/s1_nohash_0.wav\nyes/{ACCENT}\n")
    write_clips(tmp_path, {"validation_list.txt": lines, "testing_list.txt": "no/s2_nohash_0.wav"}, speakers=3)
    put(tmp_path / "yes" / name, wav(100))
    listed = {os.path.relpath(path, tmp_path) for path in speech.load(tmp_path).validation.clips.tolist()}
    assert listed == {"no/s1_nohash_0.wav", f"yes/{name}"}


def test_loose_clips_are_noted(tmp_path):
    clips(tmp_path / "set")
    put(tmp_path / "set" / "loose.wav", wav(100))
    put(tmp_path / "set" / "README.md", b"")
    (notes,) = speech.load(tmp_path / "set").notes
    assert notes.endswith("1 other files (README.md); 1 in no folder of a word (loose.wav).")


def test_a_word_of_one_clip_and_lists_of_all(tmp_path):
    write_clips(tmp_path, {"maybe/a_nohash_0.wav": wav(100)})
    data = speech.load(tmp_path)
    assert data.class_names == ("maybe", "no", "yes") and list(data.train.labels).count(0) == 1
    every = sorted(f"{path.parent.name}/{path.name}" for path in tmp_path.rglob("*.wav"))
    (tmp_path / "validation_list.txt").write_text("\n".join(every[:-1]))
    (tmp_path / "testing_list.txt").write_text(every[-1])
    with pytest.raises(ValueError, match=r"'maybe' in .* 1 \.wav files, 0 of them left out and 1 in the lists"):
        speech.load(tmp_path)


def test_what_is_left_out_of_splits(tmp_path):
    arrays(tmp_path / "set")
    for name in ("val.npz", "validation.npz", "other.npz"):
        shutil.copy(tmp_path / "set" / "test.npz", tmp_path / "set" / name)
    (notes,) = meshes.load(tmp_path / "set").notes
    assert notes.endswith("2 other files (other.npz, validation.npz).")


def test_unused_vertices_are_noted(tmp_path):
    vertices = np.concatenate([SHAPES.vertices, np.zeros((4, 2, 3), "float32")], 1)
    data = meshes.load(saved(tmp_path / "set.npz", vertices=vertices))
    assert data.notes == ("2 vertices are in no face, and are learned like the others",)
    assert data.train.vertices.shape[1] == 44


def test_meshes_beside_registrations(tmp_path):
    sequences(tmp_path / "set")
    written(tmp_path / "set" / "template.obj", SHAPES.vertices[0], SHAPES.faces)
    data = meshes.load(tmp_path / "set", "metres")
    assert len(data.train.names) > 4 and "1 other files (template.obj)" in data.notes[0]


@pytest.mark.parametrize("kind", [kind for kind in FOLDERS if kind != "noise"])
def test_fingerprints(kind, tmp_path):
    write, load, file = FOLDERS[kind]
    write(tmp_path / "set")
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    (tmp_path / "copy" / "more.txt").write_text("")
    first = load(tmp_path / "set").fingerprint
    assert re.fullmatch(r"[0-9a-f]{16}", first) and load(tmp_path / "copy").fingerprint == first
    changed = tmp_path / "copy" / file
    {
        ".wav": lambda: changed.write_bytes(wav(300)),
        ".npz": lambda: saved(changed, 13),
        ".hdf5": lambda: registrations(changed, more=np.ones((42, 3, 2))),
        ".h5": lambda: registrations(changed, more=np.ones((42, 3, 2))),
    }.get(changed.suffix, lambda: written(changed, SHAPES.vertices[1] + 1, SHAPES.faces))()
    assert load(tmp_path / "copy").fingerprint != first


def test_fingerprints_of_clips(tmp_path):
    clips(tmp_path / "set")

    def changed(*moves):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "set", tmp_path / "copy")
        for old, new in moves:
            (tmp_path / "copy" / old).rename(tmp_path / "copy" / new)
        return speech.load(tmp_path / "copy").fingerprint

    prints = [
        changed(),
        changed(("no/s0_nohash_0.wav", "no/s9_nohash_0.wav")),
        changed(("no/s0_nohash_0.wav", "yes/s9_nohash_0.wav")),
        changed(
            ("testing_list.txt", "list.txt"),
            ("validation_list.txt", "testing_list.txt"),
            ("list.txt", "validation_list.txt"),
        ),
        changed(("_background_noise_", ".noise")),
    ]
    assert len(set(prints)) == len(prints)
    split = speech.Split(np.zeros((2, 16_000), "int16"), np.arange(2, dtype="int32"))
    other = speech.Split(np.ones((2, 16_000), "int16"), np.arange(2, dtype="int32"))
    in_memory = [speech.SpeechClips(train, split, split, 2, ("a", "b")).fingerprint for train in (split, split, other)]
    assert in_memory[0] == in_memory[1] != in_memory[2]


# Words of libraries, and of what they raise.
INTERNALS = re.compile(
    r"function_node|numpy\.(?!savez)|trimesh|h5py|[Kk]eras|zlib|[Zz]ip|pickle|Errno|Unable to|[Oo]bject header|dtype"
    r"|buffer|NoneType|invalid literal|[A-Z]\w*Error|argument|unpack|index \d"
)


@pytest.mark.parametrize("kind", ["obj", "off", "ply", "stl", "shapes.npz", "registrations", "clip"])
def test_damage_is_told_in_words(kind, tmp_path):
    rng = np.random.default_rng(0)
    refused = 0
    for name, content in SEEDS[kind]:
        for number in range(60):
            # The writer of some of them named itself in a comment, which a message may quote.
            damaged = bytearray(content.replace(b"trimesh", b"program"))
            place = int(rng.integers(0, len(content) if number % 2 else min(len(content), 200)))
            if number % 3:
                damaged[place : place + 4] = rng.bytes(4) if number % 3 == 1 else b"\xff" * 4
            else:
                damaged = damaged[:place]
            (tmp_path / name).write_bytes(damaged)
            try:
                READERS[kind](tmp_path / name)
            except ValueError as error:
                words = str(error).replace(str(tmp_path), "")
                assert "Received:" in words and not INTERNALS.search(words), words
                refused += 1
    assert refused > 15
