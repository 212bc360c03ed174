"""Mesh formats: what a file is checked for, and brought to, before trimesh reads it.

trimesh 5.2 splits vertices by their textures, takes negative indices from the end, stops without a word at a decimal
comma or where a file is cut, reads no polygon of five corners in OFF, and no text but UTF-8.
"""

import io
import itertools
import re

import numpy as np

from pinets_tf.files import text_of

_TYPES = {"char": "i1", "short": "i2", "int": "i4", "int8": "i1", "int16": "i2", "int32": "i4"}
_TYPES |= {f"u{name}": f"u{kind[1]}" for name, kind in _TYPES.items()}
_TYPES |= {"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"}
_PLY = re.compile(rb"\s*ply[ \t]*[\r\n]+(.*?)[\r\n]+[ \t]*end_header[ \t]*(?:\r\n|\r|\n|$)", re.DOTALL)
_PROPERTY = rf"property (?:list (u?(?:char|short|int)\d*) )?({'|'.join(_TYPES)}) (\S+)\n"
_ELEMENTS = rf"format (ascii|binary_(?:little|big)_endian) 1\.0\n((?:element \S+ \d{{1,15}}\n(?:{_PROPERTY})*)*)"


def vertices_and_triangles(trimesh, kind, content):
    """Returns vertices (V, 3) and triangles (F, 3) of the bytes of a mesh file, which ends in `kind`.

    Where it is damaged or has no faces, the message of the `ValueError` is the reason alone.
    """
    kind, content = {".obj": _obj, ".off": _off, ".ply": _ply, ".stl": _stl}[kind](content)
    try:
        mesh = trimesh.load_mesh(io.BytesIO(content), kind, process=False, maintain_order=True)
        vertices, faces = np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)
    except Exception:  # Of many classes, those of each format's reader.
        raise ValueError("it is damaged, or written in a way that is not read here") from None
    beyond = faces[(faces < 0) | (faces >= len(vertices))]
    if len(beyond):
        raise ValueError(f"a face names vertex {beyond[0]}, and the {len(vertices):,} vertices are numbered from 0")
    return vertices, faces


def _obj(content):
    vertices, faces = [], []
    for number, words in _lines(re.sub(r"\\\r?\n", " ", text_of(content))):
        if words[0] == "v":
            vertices.append(_coordinates(number, words, (1, 2, 3)))
        elif words[0] == "f":
            corners = _integers(number, words, [word.partition("/")[0] for word in words[1:]])
            # A negative number counts from the vertices so far.
            corners = tuple(corner if corner >= 0 else len(vertices) + 1 + corner for corner in corners)
            faces.append((number, words, corners))
    return _as_off(vertices, faces, first=1)


def _off(content):
    lines = list(_lines(text_of(content)))
    # The counts may stand behind the word, even without a space.
    start = " ".join(itertools.chain(*(words for _, words in lines[:2])))
    header = re.match(r"(?:ST)?C?N?(?:OFF|off) ?(\d{1,15}) (\d{1,15})\b", start)
    if not header:
        raise ValueError(f"it begins with {start[:60]!r}, and OFF of text, x, y and z with its counts is read")
    return _rows(iter(lines[1 if len(lines[0][1]) > 1 else 2 :]), int(header[1]), int(header[2]))


def _ply(content):
    # What is binary begins with a header in UTF-8.
    content = text_of(content).encode() if content[:2] in (b"\xff\xfe", b"\xfe\xff") else content
    header = _PLY.match(content.removeprefix(b"\xef\xbb\xbf"))
    if not header:
        raise ValueError("it does not begin with 'ply' and a header that ends with 'end_header'")
    lines = [" ".join(line.split()) for line in header[1].decode("latin-1").splitlines()]
    text = "".join(f"{line}\n" for line in lines if re.match("(format|element|property)( |$)", line))
    found = re.match(_ELEMENTS, text)
    if not found or found.end() < len(text):
        line = text[found.end() if found else 0 :].partition("\n")[0]
        raise ValueError(f"its header has {line[:60]!r} instead of a format, an element or a property of PLY 1.0")
    elements = re.split(r"element (\S+) (\d+)\n", found[2])[1:] + ["", "0", ""] * 2
    (vertex, total, columns), (face, count, lists) = elements[:3], elements[3:6]
    names = [name for _, _, name in re.findall(_PROPERTY, columns)]
    place = re.match(r"(?:property \w+ \S+\n)*property list \w+ \w+ vertex_(?:index|indices)\n", lists)
    if vertex != "vertex" or "list" in columns or not {"x", "y", "z"} <= {*names}:
        raise ValueError("its first element is not vertex, with the numbers x, y and z and no lists")
    if face in ("", "face") and not int(count):
        raise ValueError(f"it has {int(total):,} vertices and no faces")
    if face == "tristrips":
        raise ValueError("it has triangle strips in the place of faces")
    if face != "face" or not place:
        raise ValueError("its second element is not face, with vertex_indices or vertex_index as its first list")
    data = header.string[header.end() :]
    if found[1] == "ascii":
        rows = _lines(data.decode("latin-1"), len(lines) + 3)
        return _rows(rows, int(total), int(count), [*map(names.index, "xyz")], place[0].count("\n") - 1)
    size = _checked_size(
        data, found[1], int(total), re.findall(_PROPERTY, columns), int(count), re.findall(_PROPERTY, lists)
    )
    # Textures would be looked up by faces that are not checked yet, and what stands behind the faces is not needed.
    columns, lists = (re.sub(r" (texture_[uv]|[stuv]|texcoord)\n", r" \1_\n", each) for each in (columns, lists))
    head = f"ply\nformat {found[1]} 1.0\nelement vertex {total}\n{columns}element face {count}\n{lists}end_header\n"
    return "ply", head.encode() + data[:size]


def _checked_size(data, form, total, columns, count, lists):
    # trimesh takes the numbers of corners of all faces from the first.
    order = "<" if "little" in form else ">"
    place = total * sum(np.dtype(_TYPES[kind]).itemsize for _, kind, _ in columns)
    fields: list[tuple] = []
    for number, (length, kind, _) in enumerate(lists):
        shape: tuple = ()
        if length:
            start = place + np.dtype(fields).itemsize
            fields.append((f"length {number}", order + _TYPES[length]))
            found = data[start : place + np.dtype(fields).itemsize]
            shape = (min(int.from_bytes(found, "little" if order == "<" else "big"), len(data), 2**20),)
        fields.append((f"{number}", order + _TYPES[kind], shape))
    row = np.dtype(fields)
    whole = max(0, min(count, (len(data) - place) // row.itemsize))
    rows = np.frombuffer(data + bytes(row.itemsize), row, whole, min(place, len(data)))
    if any((rows[name] != rows[name][:1]).any() for name in row.names or () if name.startswith("length")):
        raise ValueError("its faces differ in their numbers of corners, and those of a binary PLY must have as many")
    if whole < count:
        raise ValueError(f"it ends within the {total:,} vertices and {count:,} faces of its header")
    return place + rows.nbytes


def _stl(content):
    start = text_of(content[:300]).lstrip()
    count = int.from_bytes(content[80:84], "little")
    if len(content) == 84 + 50 * count or start[:5].lower() != "solid" or "\0" in start:
        if len(content) < 84:
            raise ValueError("it is no text that begins with 'solid', and too short for a binary STL")
        if not count:
            raise ValueError("it has 0 vertices and no faces")
        if len(content) < 84 + 50 * count:
            raise ValueError(f"it has {(len(content) - 84) // 50:,} of {count:,} triangles")
        return "stl", content[: 84 + 50 * count]
    lines = [(number, (words[0].lower(), *words[1:])) for number, words in _lines(text_of(content))]
    vertices = [_coordinates(number, words, (1, 2, 3)) for number, words in lines if words[0] == "vertex"]
    ends = [line for line in lines if line[1][0] == "endloop"]
    if lines[-1][1][0] != "endsolid":
        raise ValueError("it does not end with 'endsolid'")
    if len(vertices) != 3 * len(ends):
        raise ValueError(f"it has {len(vertices):,} vertices in {len(ends):,} facets, and a facet has three")
    return _as_off(vertices, [(*end, range(3 * face, 3 * face + 3)) for face, end in enumerate(ends)])


def _rows(lines, total, count, axes=(0, 1, 2), face=0):
    """Returns OFF of rows of vertices and of faces: in which columns are the coordinates and where a face begins."""
    vertices = [_coordinates(number, words, axes) for number, words in itertools.islice(lines, total)]
    faces = []
    for number, words in itertools.islice(lines, count):
        (length,) = _integers(number, words, words[face : face + 1] or [""])
        corners = _integers(number, words, words[face + 1 : face + 1 + max(length, 0)])
        if len(corners) != length:
            raise _unexpected(number, words, "the number of corners and these")
        faces.append((number, words, corners))
    if (len(vertices), len(faces)) != (total, count):
        raise ValueError(f"it has {len(vertices):,} of {total:,} vertices and {len(faces):,} of {count:,} faces")
    return _as_off(vertices, faces)


def _as_off(vertices, faces, first=0):
    """Returns OFF of coordinates and of faces: number and words of their line, and their corners, from `first` on."""
    rows = [" ".join(map(str, vertex)) for vertex in vertices]
    for number, words, corners in faces:
        if min(corners, default=first) < first or max(corners, default=first) >= first + len(vertices):
            raise _unexpected(number, words, f"a face of the {len(vertices):,} vertices, numbered from {first}")
        # The triangles that its first corner spans with its other edges.
        rows += [f"3 {corners[0] - first} {b - first} {c - first}" for b, c in itertools.pairwise(corners[1:])]
    if len(rows) == len(vertices):
        raise ValueError(f"it has {len(vertices):,} vertices and no faces")
    return "off", "\n".join(["OFF", f"{len(vertices)} {len(rows) - len(vertices)}", *rows]).encode()


def _lines(text, start=1):
    """Yields number and words of each line, without comments and empty lines."""
    for number, line in enumerate(text.splitlines(), start):
        # Python's garbage collector visits lists again and again, and not tuples of words.
        words = tuple(line.partition("#")[0].split())
        if words:
            yield number, words


def _coordinates(number, words, columns):
    try:
        return tuple(float(words[column]) for column in columns)
    except (ValueError, IndexError):
        raise _unexpected(number, words, "three coordinates") from None


def _integers(number, words, those):
    try:
        return tuple(map(int, those))
    except ValueError:
        raise _unexpected(number, words, "integers") from None


def _unexpected(number, words, wanted):
    line = " ".join(words)
    comma = ", and decimals stand behind a point" if "," in line else ""
    return ValueError(f"line {number:,} has {line[:60]!r} instead of {wanted}{comma}")
