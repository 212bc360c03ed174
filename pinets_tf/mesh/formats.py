"""Mesh formats: the bytes of an OBJ, OFF, PLY or STL file in, vertices and triangles out.

The positions and the corners of the faces are read, in the order of the file, and nothing else. In the place of
trimesh 5.2, which joins and splits vertices by their textures, refuses a binary PLY whose polygons differ in their
corners, takes a negative index from the end, and stops at a number with a decimal comma without a word.
"""

import codecs
import re

import numpy as np

from pinets_tf.files import text_of

# An index beyond it is beyond any number of vertices.
MOST = 2**31
_PLY_HEADER = re.compile(rb"\s*ply[ \t]*[\r\n]+(.*?)[\r\n]+[ \t]*end_header[ \t]*(?:\r\n|\r|\n|$)", re.DOTALL)
_PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
_PLY_ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}


def vertices_and_triangles(kind, content):
    """Returns the vertices of a mesh file, float64 (V, 3), and its faces as triangles, int64 (F, 3).

    A polygon becomes the triangles that its first corner spans with its other edges. Where the file is damaged or has
    no faces, the message of the `ValueError` is the reason alone, which `read_mesh` puts into its own.

    Args:
        kind: the ending of its name in lower case, such as `".obj"`.
        content: its bytes.
    """
    read, first = {".obj": (_obj, 1), ".off": (_off, 0), ".ply": (_ply, 0), ".stl": (_stl, 0)}[kind]
    vertices, corners, lengths = read(content)
    vertices = np.array(vertices, np.float64).reshape(-1, 3)
    corners, lengths = np.array(corners, np.int64), np.array(lengths, np.int64)
    beyond = (corners < 0) | (corners >= len(vertices))
    if beyond.any():
        face = np.repeat(np.arange(len(lengths)), lengths)[beyond][0]
        raise ValueError(
            f"face {face + 1:,} names vertex {corners[beyond][0] + first}, "
            f"and the {len(vertices):,} vertices are numbered from {first}"
        )
    counts = np.maximum(lengths - 2, 0)
    face = np.repeat(np.arange(len(lengths)), counts)
    start = (np.cumsum(lengths) - lengths)[face]
    number = np.arange(len(face)) - (np.cumsum(counts) - counts)[face]
    triangles = corners[np.stack([start, start + number + 1, start + number + 2], 1)]
    if not len(triangles):
        raise ValueError(f"it has {len(vertices):,} vertices and no faces")
    return vertices, triangles


def _obj(content):
    vertices: list[list[float]] = []
    corners: list[int] = []
    lengths: list[int] = []
    for number, words in _lines(re.sub(r"\\\r?\n", " ", text_of(content))):
        if words[0] == "v":
            vertices.append(_coordinates(number, words, words[1:4]))
        elif words[0] == "f":
            face = _integers(number, words, [word.partition("/")[0] for word in words[1:]])
            if min(face, default=0) < -len(vertices):
                raise _unexpected(number, words, f"a face of the {len(vertices):,} vertices before it")
            # A negative number counts from the vertices so far.
            corners += [corner - 1 if corner >= 0 else len(vertices) + corner for corner in face]
            lengths.append(len(face))
    return vertices, corners, lengths


def _off(content):
    lines = _lines(text_of(content))
    number, (first, *more) = next(lines, (1, [""]))
    # The counts may stand behind the word, even without a space.
    header = re.fullmatch(r"((?:ST)?C?N?4?n?)(?:OFF|off)(\d*)", first)
    if not header:
        raise _unexpected(number, [first], "OFF")
    if set(header[1]) & {"4", "n"}:
        raise ValueError(f"it is {header[1]}OFF, whose vertices have other coordinates than x, y and z")
    if more[:1] == ["BINARY"]:
        raise ValueError("it is a binary OFF, and only those of text are read")
    counts = [header[2], *more] if header[2] else more
    if not counts:
        number, counts = next(lines, (number, [first]))
    if len(counts) < 2:
        raise _unexpected(number, counts, "the numbers of vertices and faces")
    vertex_count, face_count = _integers(number, counts, counts[:2])
    vertices: list[list[float]] = []
    corners: list[int] = []
    lengths: list[int] = []
    for number, words in lines:
        if len(vertices) < vertex_count:
            vertices.append(_coordinates(number, words, words[:3]))
        elif len(lengths) < face_count:
            (length,) = _integers(number, words, words[:1])
            face = _integers(number, words, words[1 : 1 + max(length, 0)])
            if len(face) != length:
                raise _unexpected(number, words, "the number of corners and these")
            corners += face
            lengths.append(length)
    if (len(vertices), len(lengths)) != (vertex_count, face_count):
        raise ValueError(
            f"it has {len(vertices):,} of {vertex_count:,} vertices and {len(lengths):,} of {face_count:,} faces"
        )
    return vertices, corners, lengths


def _stl(content):
    start = text_of(content[:300]).lstrip()
    size = 84 + 50 * int.from_bytes(content[80:84], "little")
    if len(content) != size and start[:5].lower() == "solid" and "\0" not in start:
        return _stl_text(text_of(content))
    if len(content) < 84:
        raise ValueError("it is no text that begins with 'solid', and too short for a binary STL")
    if len(content) < size:
        raise ValueError(f"it has {(len(content) - 84) // 50:,} of {(size - 84) // 50:,} triangles")
    facet = np.dtype([("normal", "<f4", 3), ("vertices", "<f4", (3, 3)), ("attribute", "<u2")])
    vertices = np.frombuffer(content, facet, (size - 84) // 50, 84)["vertices"].reshape(-1, 3)
    return vertices, np.arange(len(vertices)), np.full(len(vertices) // 3, 3)


def _stl_text(text):
    vertices: list[list[float]] = []
    ends = [0]
    word = ""
    for number, words in _lines(text):
        word = words[0].lower()
        if word == "vertex":
            vertices.append(_coordinates(number, words, words[1:4]))
        elif word == "endloop":
            ends.append(len(vertices))
    if word != "endsolid" or ends[-1] != len(vertices):
        raise ValueError("it does not end with 'endsolid'")
    return vertices, np.arange(len(vertices)), np.diff(ends)


def _ply(content):
    content = content.removeprefix(codecs.BOM_UTF8)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = text_of(content).encode()
    header = _PLY_HEADER.match(content)
    if not header:
        raise ValueError("it does not begin with 'ply' and a header that ends with 'end_header'")
    form, elements = _ply_elements(header[1].decode("latin-1"))
    data, place = content[header.end() :], 0
    if form == "ascii":
        data = _numbers(data.decode("latin-1").split()).tobytes()
    found = {}
    for name, count, properties in elements:
        columns, place = _ply_rows(name, data, place, count, [types for _, types in properties])
        found[name] = dict(zip([field for field, _ in properties], columns))
    if "face" not in found and "tristrips" in found:
        raise ValueError("it has triangle strips in the place of faces")
    vertex, faces = found.get("vertex", {}), found.get("face", {})
    if not all(isinstance(vertex.get(axis), np.ndarray) for axis in "xyz"):
        raise ValueError("its vertices have no x, y and z")
    lists = {field: column for field, column in faces.items() if isinstance(column, tuple)}
    named = [field for field in ("vertex_indices", "vertex_index", *lists) if field in lists]
    lengths, corners = lists[named[0]] if named else ((), ())
    with np.errstate(invalid="ignore"):
        return np.stack([vertex[axis] for axis in "xyz"], 1), np.asarray(corners).astype(np.int64), lengths


def _ply_elements(header):
    """Returns the format of a PLY file, and name, number of rows and properties of each element.

    The types of a property are those of the length of a list, or `None`, and of a number.
    """
    form = ""
    elements: list[tuple[str, int, list]] = []
    for number, line in enumerate(header.splitlines(), 2):
        words = line.split()
        if words[:1] == ["format"]:
            form = words[1] if len(words) > 1 else ""
        elif words[:1] == ["element"] and len(words) == 3:
            elements.append((words[1], *_integers(number, words, words[2:]), []))
        elif words[:1] == ["property"] and elements and len(words) in (3, 5):
            *types, field = words[1:] if len(words) == 3 else words[2:]
            if not {*types} <= {*_PLY_TYPES}:
                raise _unexpected(number, words, f"a property of the types {', '.join(_PLY_TYPES)}")
            elements[-1][2].append((field, types))
        elif words[:1] in (["element"], ["property"]):
            raise _unexpected(number, words, "an element or a property of one")
    if form not in _PLY_ORDERS:
        raise ValueError(f"it is of the format {form!r} instead of {', '.join(_PLY_ORDERS)}")
    types = {word: "<f8" if form == "ascii" else _PLY_ORDERS[form] + short for word, short in _PLY_TYPES.items()}
    return form, [
        (name, count, [(field, [np.dtype(types[word]) for word in words]) for field, words in properties])
        for name, count, properties in elements
    ]


def _ply_rows(name, data, place, count, properties):
    """Returns a column for each property of an element, and where its rows end in the data.

    A column is an array of numbers or, where the types are two, a pair of the lengths of lists and all their numbers.
    """

    def take(kind, number):
        nonlocal place
        if not 0 <= number <= (len(data) - place) // kind.itemsize:
            raise ValueError(f"it ends within the {count:,} rows of the element {name}")
        numbers = np.frombuffer(data, kind, int(number), place)
        place += numbers.nbytes
        return numbers

    if count < 0:
        raise ValueError(f"its header promises {count} rows of the element {name}")
    if not count or not properties:
        return [np.zeros(0) if len(types) == 1 else (np.zeros(0), np.zeros(0)) for types in properties], place
    # Mostly all lists are as long as those of the first row, and numpy reads them at once.
    start, lists = place, {}
    fields: list[tuple] = []
    for i, types in enumerate(properties):
        if len(types) == 2:
            lists[i] = take(types[0], 1)[0]
            fields.append((f"length {i}", types[0]))
        shape = take(types[-1], lists.get(i, 1)).shape
        fields.append((f"{i}", types[-1], shape if i in lists else ()))
    row = np.dtype(fields)
    if count * row.itemsize <= len(data) - start:
        rows = np.frombuffer(data, row, count, start)
        if all((rows[f"length {i}"] == length).all() for i, length in lists.items()):
            columns = [rows[f"{i}"] for i in range(len(properties))]
            return [
                (rows[f"length {i}"], column.ravel()) if i in lists else column for i, column in enumerate(columns)
            ], start + rows.nbytes
    place = start
    parts: list[tuple[list, list]] = [([], []) for _ in properties]
    for _ in range(count):
        for (lengths, numbers), types in zip(parts, properties):
            lengths.append(take(types[0], 1)[0] if len(types) == 2 else 1)
            numbers.append(take(types[-1], lengths[-1]))
    return [
        (np.array(lengths), np.concatenate(numbers)) if i in lists else np.concatenate(numbers)
        for i, (lengths, numbers) in enumerate(parts)
    ], place


def _lines(text):
    """Yields number and words of each line, without comments and empty lines."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            yield number, words


def _coordinates(number, line, words):
    try:
        x, y, z = map(float, words)
    except ValueError:
        raise _unexpected(number, line, "three coordinates") from None
    return [x, y, z]


def _integers(number, line, words):
    try:
        return [max(-MOST, min(int(word), MOST)) for word in words]
    except ValueError:
        raise _unexpected(number, line, "integers") from None


def _numbers(words):
    word = ""
    try:
        return np.array([float(word := each) for each in words])
    except ValueError:
        raise ValueError(f"it has {word[:60]!r} in the place of a number{_about_commas(word)}") from None


def _unexpected(number, words, wanted):
    line = " ".join(words)
    return ValueError(f"line {number:,} has {line[:60]!r} instead of {wanted}{_about_commas(line)}")


def _about_commas(text):
    return ", and decimals stand behind a point" if "," in text else ""
