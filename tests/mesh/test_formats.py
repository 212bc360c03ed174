"""Mesh formats: every valid way to write a mesh gives the same one, and what is wrong with others is said in words."""

import codecs
import itertools
import re
import struct

import numpy as np
import pytest

from pinets_tf.mesh import read_mesh, read_shapes

# A square, and a corner above it.
VERTICES = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 2]]
FACES = [[0, 1, 2], [0, 2, 3], [0, 1, 4]]

OBJ = """v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0.5 0.5 2
f 1 2 3 4
f 1 2 5
"""
OFF = """OFF
5 2 0
0 0 0
1 0 0
1 1 0
0 1 0
0.5 0.5 2
4 0 1 2 3
3 0 1 4
"""
PLY = """ply
format ascii 1.0
comment made by hand
element vertex 5
property float x
property float y
property float z
element face 2
property list uchar int vertex_indices
end_header
0 0 0
1 0 0
1 1 0
0 1 0
0.5 0.5 2
4 0 1 2 3
3 0 1 4
"""
STL = "solid vertex of a solid\n" + "".join(
    "facet normal 0 0 1\n outer loop\n"
    + "".join("  vertex {} {} {}\n".format(*VERTICES[corner]) for corner in face)
    + " endloop\nendfacet\n"
    for face in FACES
)
STL += "endsolid vertex of a solid\n"
TEXTS = {"a.obj": OBJ, "a.off": OFF, "a.ply": PLY, "a.stl": STL}


def binary_ply(order="<", faces=FACES, tail=b"", list_type="uchar"):
    """Returns PLY with properties behind the coordinates and around the corners, and an element behind the faces."""
    form = "binary_little_endian" if order == "<" else "binary_big_endian"
    head = f"ply\nformat {form} 1.0\nobj_info x\nelement vertex 5\nproperty double x\nproperty float y\n"
    head += f"property float z\nproperty uchar u\nproperty uchar v\nelement face {len(faces)}\nproperty uchar flags\n"
    head += f"property list {list_type} uint vertex_index\nproperty list uchar float texcoord\n"
    head += "element edge 1\nproperty int vertex1\nproperty int vertex2\nend_header\n"
    length = {"uchar": "B", "ushort": "H"}[list_type]
    body = b"".join(struct.pack(f"{order}dff2B", *vertex, 9, 9) for vertex in VERTICES)
    body += b"".join(struct.pack(f"{order}B{length}{len(face)}IB2f", 7, len(face), *face, 2, 0, 1) for face in faces)
    return head.encode() + body + struct.pack(f"{order}2i", 0, 1) + tail


def binary_stl(header=b"", count=None, tail=b""):
    body = b"".join(
        struct.pack("<12fH", 0, 0, 1, *(number for corner in face for number in VERTICES[corner]), 0) for face in FACES
    )
    return header.ljust(80, b" ") + struct.pack("<I", len(FACES) if count is None else count) + body + tail


VALID = {
    "obj-negative": ("a.obj", OBJ.replace("f 1 2 5", "f -5 -4 -1")),
    "obj-lines-and-points": ("a.obj", OBJ + "l 1 2\np 1 2 3\nl 1/1 2/2 3/3\n"),
    "obj-colours": ("a.obj", OBJ.replace("v 1 1 0", "v 1 1 0 0.5 0.5 0.5").replace("v 0 1 0", "v 0 1 0 1")),
    "obj-first-faces": ("a.obj", "f 1 2 3 4\nf 1 2 5\n" + OBJ.partition("f")[0]),
    "obj-tabs-and-exponents": ("a.obj", OBJ.replace(" ", "\t").replace("0.5", "5e-1").replace("\t2\n", "\t+2.0E0 \n")),
    "obj-latin-1": ("a.obj", b"# K\xf6rper\ng K\xf6rper\n" + OBJ.encode()),
    "off-counts-behind": ("a.off", OFF.replace("OFF\n", "OFF ")),
    "off-counts-glued": ("a.off", OFF.replace("OFF\n", "OFF")),
    "off-two-counts": ("a.off", OFF.replace("5 2 0", "5 2")),
    "off-lower-case": ("a.off", OFF.replace("OFF", "off")),
    "off-comments": ("a.off", "# made by hand\n" + OFF.replace("5 2 0", "\n# counts\n5 2 0 # edges\n\n")),
    "off-colours": ("a.off", OFF.replace("OFF", "COFF").replace("1 1 0\n", "1 1 0 255 0 0 255\n")),
    "off-normals": ("a.off", OFF.replace("OFF", "NOFF").replace("1 1 0\n", "1 1 0 0 0 1\n")),
    "off-textures": ("a.off", OFF.replace("OFF", "STOFF").replace("1 1 0\n", "1 1 0 0.5 0.5\n")),
    "off-coloured-faces": ("a.off", OFF.replace("4 0 1 2 3", "4 0 1 2 3 255 0 0").replace("3 0 1 4", "3 0 1 4 0.5")),
    "off-edges": ("a.off", OFF.replace("5 2 0", "5 3 0") + "2 0 1\n"),
    "ply-one-name": ("a.ply", PLY.replace("vertex_indices", "vertex_index")),
    "ply-more-columns": (
        "a.ply",
        PLY.replace("property list", "property uchar flags\nproperty list")
        .replace("4 0 1", "7 4 0 1")
        .replace("3 0 1", "7 3 0 1"),
    ),
    "ply-other-order": (
        "a.ply",
        PLY.replace("float x", "float q")
        .replace("float z", "float x")
        .replace("float q", "float z")
        .replace("1 0 0", "0 0 1")
        .replace("1 1 0", "0 1 1")
        .replace("0.5 0.5 2", "2 0.5 0.5"),
    ),
    "ply-binary": ("a.ply", binary_ply()),
    "ply-big-endian": ("a.ply", binary_ply(">")),
    "ply-long-lengths": ("a.ply", binary_ply(list_type="ushort")),
    "ply-tail": ("a.ply", binary_ply(tail=b"\n")),
    "ply-binary-returns": ("a.ply", binary_ply().replace(b"\n", b"\r\n", 19)),
    "ply-behind-a-mark": ("a.ply", codecs.BOM_UTF8 + binary_ply()),
    "ply-comment": ("a.ply", PLY.replace("made by hand", "the word end_header and element face 9")),
    "ply-latin-1": ("a.ply", PLY.encode().replace(b"by hand", b"by J\xfcrgen")),
    "stl-capitals": ("a.stl", STL.replace("vertex", "VERTEX").replace("endloop", "ENDLOOP").replace("solid", "SOLID")),
    "stl-two-solids": ("a.stl", STL.replace("facet normal 0 0 1", "endsolid\nsolid b\nfacet normal 0 0 1")),
    "stl-without-name": ("a.stl", STL.replace("vertex of a solid", "")),
    "stl-binary": ("a.stl", binary_stl()),
    "stl-binary-solid": ("a.stl", binary_stl(b"solid made by hand")),
    "stl-binary-tail": ("a.stl", binary_stl(b"made by hand", tail=b"more")),
    **{f"{name[2:]}-utf-8": (name, codecs.BOM_UTF8 + text.encode()) for name, text in TEXTS.items()},
    **{f"{name[2:]}-utf-16": (name, codecs.BOM_UTF16_LE + text.encode("utf-16-le")) for name, text in TEXTS.items()},
    **{f"{name[2:]}-utf-16-be": (name, codecs.BOM_UTF16_BE + text.encode("utf-16-be")) for name, text in TEXTS.items()},
    **{f"{name[2:]}-returns": (name, text.replace("\n", "\r\n")) for name, text in TEXTS.items()},
    **{f"{name[2:]}-old-mac": (name, text.replace("\n", "\r")) for name, text in TEXTS.items()},
    **{f"{name[2:]}-blank-lines": (name, text + "\n\n") for name, text in TEXTS.items()},
    **{f"{name[2:]}-capitals": (name.upper(), text) for name, text in TEXTS.items()},
}


@pytest.mark.parametrize("case", VALID)
def test_every_way_to_write_a_mesh(case, tmp_path):
    name, content = VALID[case]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    vertices, faces = read_mesh(tmp_path / name)
    assert vertices.dtype == np.float32 and faces.dtype == np.int64
    np.testing.assert_array_equal(vertices, np.array(VERTICES, np.float32))
    np.testing.assert_array_equal(faces, FACES)


@pytest.mark.parametrize("corners", [4, 5])
def test_polygons_of_a_binary_ply(corners, tmp_path):
    first, other = [0, 1, 2, 3, 4][:corners], [4, 2, 0, 1, 3][:corners]
    (tmp_path / "a.ply").write_bytes(binary_ply(faces=(first, other)))
    triangles = [(face[0], *edge) for face in (first, other) for edge in itertools.pairwise(face[1:])]
    (tmp_path / "a.obj").write_text(
        OBJ.partition("f")[0] + "".join("f {} {} {}\n".format(*np.add(three, 1)) for three in triangles)
    )
    # In another order, and from another corner on.
    assert read_shapes(tmp_path).names == ("a", "a")


POINT = ", and decimals stand behind a point"
# What is said within (...) of each file.
DAMAGED = {
    "obj-points": ("a.obj", "v 0 0 0\nv 1 0 0\np 1 2\nl 1 2\n", "it has 2 vertices and no faces"),
    "obj-commas": ("a.obj", OBJ.replace("0.5", "0,5"), f"line 5 has 'v 0,5 0,5 2' instead of three coordinates{POINT}"),
    "obj-short": ("a.obj", OBJ.replace("v 1 0 0", "v 1 0"), "line 2 has 'v 1 0' instead of three coordinates"),
    "obj-word": ("a.obj", OBJ.replace("f 1 2 5", "f 1 2 x"), "line 7 has 'f 1 2 x' instead of integers"),
    "obj-zero": (
        "a.obj",
        OBJ.replace("f 1 2 5", "f 0 1 4"),
        "line 7 has 'f 0 1 4' instead of a face of the 5 vertices, numbered from 1",
    ),
    "obj-beyond": (
        "a.obj",
        OBJ.replace("f 1 2 5", "f 1 2 6"),
        "line 7 has 'f 1 2 6' instead of a face of the 5 vertices, numbered from 1",
    ),
    "obj-before": (
        "a.obj",
        OBJ.replace("f 1 2 5", "f -1 -2 -6"),
        "line 7 has 'f -1 -2 -6' instead of a face of the 5 vertices, numbered from 1",
    ),
    "obj-edges": ("a.obj", OBJ.partition("f")[0] + "f 1 2\n", "it has 5 vertices and no faces"),
    "obj-empty": ("a.obj", "", "it has 0 vertices and no faces"),
    "obj-binary": ("a.obj", bytes(range(256)), "it has 0 vertices and no faces"),
    "off-word": ("a.off", OBJ, "it begins with 'v 0 0 0 v 1 0 0', and OFF of text, x, y and z with its counts is read"),
    "off-binary": (
        "a.off",
        OFF.replace("OFF", "OFF BINARY"),
        "it begins with 'OFF BINARY 5 2 0', and OFF of text, x, y and z with its counts is read",
    ),
    "off-four": (
        "a.off",
        OFF.replace("OFF", "4OFF"),
        "it begins with '4OFF 5 2 0', and OFF of text, x, y and z with its counts is read",
    ),
    "off-n": (
        "a.off",
        OFF.replace("OFF", "nOFF\n3"),
        "it begins with 'nOFF 3', and OFF of text, x, y and z with its counts is read",
    ),
    "off-no-counts": ("a.off", "OFF\n", "it begins with 'OFF', and OFF of text, x, y and z with its counts is read"),
    "off-cut": ("a.off", OFF[: OFF.index("4 0")], "it has 5 of 5 vertices and 0 of 2 faces"),
    "off-cut-early": ("a.off", OFF[: OFF.index("1 1 0")], "it has 2 of 5 vertices and 0 of 2 faces"),
    "off-commas": ("a.off", OFF.replace("0.5", "0,5"), f"line 7 has '0,5 0,5 2' instead of three coordinates{POINT}"),
    "off-corners": (
        "a.off",
        OFF.replace("4 0 1 2 3", "4 0 1 2"),
        "line 8 has '4 0 1 2' instead of the number of corners and these",
    ),
    "off-negative": (
        "a.off",
        OFF.replace("3 0 1 4", "3 0 1 -1"),
        "line 9 has '3 0 1 -1' instead of a face of the 5 vertices, numbered from 0",
    ),
    "off-points": ("a.off", OFF.replace("5 2 0", "5 0 0"), "it has 5 vertices and no faces"),
    "ply-word": ("a.ply", OBJ, "it does not begin with 'ply' and a header that ends with 'end_header'"),
    "ply-header": ("a.ply", PLY.replace("end_header", ""), "it does not begin with 'ply' and a header that ends with"),
    "ply-format": (
        "a.ply",
        PLY.replace("ascii", "text"),
        "its header has 'format text 1.0' instead of a format, an element or a property of PLY 1.0",
    ),
    "ply-type": (
        "a.ply",
        PLY.replace("float x", "half x"),
        "its header has 'property half x' instead of a format, an element or a property of PLY 1.0",
    ),
    "ply-count": (
        "a.ply",
        PLY.replace("vertex 5", "vertex five"),
        "its header has 'element vertex five' instead of a format, an element or a property of PLY 1.0",
    ),
    "ply-element": (
        "a.ply",
        PLY.replace("vertex 5", "vertex"),
        "its header has 'element vertex' instead of a format, an element or a property of PLY 1.0",
    ),
    "ply-negative-count": (
        "a.ply",
        PLY.replace("face 2", "face -2"),
        "its header has 'element face -2' instead of a format, an element or a property of PLY 1.0",
    ),
    "ply-cut": ("a.ply", PLY[:-9], "it has 5 of 5 vertices and 1 of 2 faces"),
    "ply-cut-binary": ("a.ply", binary_ply()[:-9], "it ends within the 5 vertices and 3 faces of its header"),
    "ply-strips": ("a.ply", PLY.replace("element face", "element tristrips"), "it has triangle strips in the place of"),
    "ply-points": (
        "a.ply",
        PLY.replace("element face 2\nproperty list uchar int vertex_indices\n", ""),
        "it has 5 vertices and no faces",
    ),
    "ply-flat": (
        "a.ply",
        PLY.replace("float z", "float depth"),
        "its first element is not vertex, with the numbers x, y and z and no lists",
    ),
    "ply-commas": ("a.ply", PLY.replace("0.5", "0,5"), f"line 15 has '0,5 0,5 2' instead of three coordinates{POINT}"),
    "ply-beyond": (
        "a.ply",
        PLY.replace("3 0 1 4", "3 0 1 5"),
        "line 17 has '3 0 1 5' instead of a face of the 5 vertices, numbered from 0",
    ),
    "ply-negative": ("a.ply", PLY.replace("3 0 1 4", "3 0 1 -1"), "line 17 has '3 0 1 -1' instead of a face of the 5"),
    "ply-short-row": ("a.ply", PLY.replace("4 0 1 2 3", "4 0 1 2"), "line 16 has '4 0 1 2' instead of the number of"),
    "ply-mixed": (
        "a.ply",
        binary_ply(faces=[[0, 1, 2, 3], [0, 1, 4]]),
        "its faces differ in their numbers of corners, and those of a binary PLY must have as many",
    ),
    # As long as two squares.
    "ply-mixed-equal": ("a.ply", binary_ply(faces=[[0, 1, 2, 3], [0, 1, 4], [0, 1, 2, 3, 4]]), "its faces differ in"),
    "ply-binary-beyond": ("a.ply", binary_ply(faces=[[0, 1, 5]]), "a face names vertex 5, and the 5 vertices are"),
    "ply-other-name": (
        "a.ply",
        PLY.replace("vertex_indices", "corners"),
        "its second element is not face, with vertex_",
    ),
    "ply-other-elements": (
        "a.ply",
        PLY.replace("element vertex", "element camera 1\nproperty int a\nelement vertex"),
        "its first element is not vertex, with the numbers x, y and z and no lists",
    ),
    "ply-nan": ("a.ply", PLY.replace("3 0 1 4", "nan 0 1 4"), "line 17 has 'nan 0 1 4' instead of integers"),
    "stl-short": ("a.stl", "made by hand", "it is no text that begins with 'solid', and too short for a binary STL"),
    "stl-cut": ("a.stl", STL[: STL.rindex(" endloop")], "it does not end with 'endsolid'"),
    "stl-cut-end": ("a.stl", STL[:-30], "it does not end with 'endsolid'"),
    "stl-commas": ("a.stl", STL.replace("0.5", "0,5"), "instead of three coordinates" + POINT),
    "stl-cut-binary": ("a.stl", binary_stl(count=9), "it has 3 of 9 triangles"),
    "stl-cut-binary-solid": ("a.stl", binary_stl(b"solid\0", count=9), "it has 3 of 9 triangles"),
    "stl-polygon": (
        "a.stl",
        STL.replace(" endloop", "  vertex 0 0 0\n endloop", 1),
        "it has 10 vertices in 3 facets, and a facet has three",
    ),
    "stl-empty": ("a.stl", bytes(84), "it has 0 vertices and no faces"),
    "stl-no-facets": ("a.stl", "solid a\nendsolid a\n", "it has 0 vertices and no faces"),
}
# Words of libraries, and of what they raise.
INTERNALS = re.compile(r"numpy|array|dtype|buffer|trimesh|Error|NoneType|index \d|inhomogeneous|unpack|invalid literal")


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_named(case, tmp_path):
    name, content, words = DAMAGED[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"^A mesh file has vertices and faces\. Received: .* copy it again") as caught:
        read_mesh(tmp_path / name)
    assert words in str(caught.value)
    assert not INTERNALS.search(str(caught.value).replace(str(tmp_path), ""))


@pytest.mark.parametrize("case", [case for case in VALID if "utf-16" not in case])
def test_every_cut_is_read_or_refused_in_words(case, tmp_path):
    name, content = VALID[case]
    content = content.encode() if isinstance(content, str) else content
    for size in range(0, len(content), 7):
        (tmp_path / name).write_bytes(content[:size])
        try:
            vertices, faces = read_mesh(tmp_path / name)
        except ValueError as error:
            assert "Received:" in str(error) and not INTERNALS.search(str(error).replace(str(tmp_path), ""))
        else:
            assert faces.max() < len(vertices)


def test_unused_vertices_are_kept_and_counted(tmp_path):
    (tmp_path / "a.obj").write_text("\ufeffv 9 9 9\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 5 5 5\nf 2 3 4\n", encoding="utf-8")
    shapes = read_shapes(tmp_path / "a.obj")
    assert shapes.vertices.shape == (1, 5, 3) and shapes.unused_vertices == 2
