"""Mesh formats: every valid way to write a mesh gives the same one, and what is wrong with others is said in words."""

import codecs
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
STL = "solid made by hand\n" + "".join(
    "facet normal 0 0 1\n outer loop\n"
    + "".join("  vertex {} {} {}\n".format(*VERTICES[corner]) for corner in face)
    + " endloop\nendfacet\n"
    for face in [[0, 1, 2, 3], [0, 1, 4]]
)
STL += "endsolid made by hand\n"
TEXTS = {"a.obj": OBJ, "a.off": OFF, "a.ply": PLY, "a.stl": STL}


def binary_ply(order="<", faces=((0, 1, 2, 3), (0, 1, 4)), tail=b"", list_type="uchar"):
    """Returns PLY with a property behind the coordinates and one before the corners."""
    form = "binary_little_endian" if order == "<" else "binary_big_endian"
    head = f"ply\nformat {form} 1.0\nobj_info x\nelement vertex 5\nproperty double x\nproperty float y\n"
    head += f"property float z\nproperty uchar red\nelement face {len(faces)}\nproperty uchar flags\n"
    head += f"property list {list_type} uint vertex_index\nelement edge 1\nproperty int a\nend_header\n"
    length = {"uchar": "B", "ushort": "H"}[list_type]
    body = b"".join(struct.pack(f"{order}dffB", *vertex, 9) for vertex in VERTICES)
    body += b"".join(struct.pack(f"{order}B{length}{len(face)}I", 7, len(face), *face) for face in faces)
    return head.encode() + body + struct.pack(f"{order}i", 1) + tail


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
    "ply-other-name": ("a.ply", PLY.replace("vertex_indices", "corners")),
    "ply-binary": ("a.ply", binary_ply()),
    "ply-big-endian": ("a.ply", binary_ply(">")),
    "ply-triangles": ("a.ply", binary_ply(faces=FACES, list_type="ushort")),
    "ply-tail": ("a.ply", binary_ply(tail=b"\n")),
    "ply-binary-returns": ("a.ply", binary_ply().replace(b"\n", b"\r\n", 16)),
    "ply-behind-a-mark": ("a.ply", codecs.BOM_UTF8 + binary_ply()),
    "ply-comment": ("a.ply", PLY.replace("made by hand", "the word end_header and element face 9")),
    "ply-latin-1": ("a.ply", PLY.encode().replace(b"by hand", b"by J\xfcrgen")),
    "stl-capitals": ("a.stl", STL.replace("vertex", "VERTEX").replace("endloop", "ENDLOOP").replace("solid", "SOLID")),
    "stl-two-solids": ("a.stl", STL.replace("facet normal 0 0 1", "endsolid\nsolid b\nfacet normal 0 0 1")),
    "stl-without-name": ("a.stl", STL.replace("made by hand", "")),
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


POINT = ", and decimals stand behind a point"
# What is said within (...) of each file.
DAMAGED = {
    "obj-points": ("a.obj", "v 0 0 0\nv 1 0 0\np 1 2\nl 1 2\n", "it has 2 vertices and no faces"),
    "obj-commas": ("a.obj", OBJ.replace("0.5", "0,5"), f"line 5 has 'v 0,5 0,5 2' instead of three coordinates{POINT}"),
    "obj-short": ("a.obj", OBJ.replace("v 1 0 0", "v 1 0"), "line 2 has 'v 1 0' instead of three coordinates"),
    "obj-word": ("a.obj", OBJ.replace("f 1 2 5", "f 1 2 x"), "line 7 has 'f 1 2 x' instead of integers"),
    "obj-zero": ("a.obj", OBJ.replace("f 1 2 5", "f 0 1 4"), "face 2 names vertex 0, and the 5 vertices are"),
    "obj-beyond": (
        "a.obj",
        OBJ.replace("f 1 2 5", "f 1 2 6"),
        "face 2 names vertex 6, and the 5 vertices are",
    ),
    "obj-before": (
        "a.obj",
        OBJ.replace("f 1 2 5", "f -1 -2 -6"),
        "line 7 has 'f -1 -2 -6' instead of a face of the 5 vertices before it",
    ),
    "obj-edges": ("a.obj", OBJ.partition("f")[0] + "f 1 2\n", "it has 5 vertices and no faces"),
    "obj-empty": ("a.obj", "", "it has 0 vertices and no faces"),
    "obj-binary": ("a.obj", bytes(range(256)), "it has 0 vertices and no faces"),
    "off-word": ("a.off", OBJ, "line 1 has 'v' instead of OFF"),
    "off-binary": ("a.off", OFF.replace("OFF", "OFF BINARY"), "it is a binary OFF, and only those of text are read"),
    "off-four": (
        "a.off",
        OFF.replace("OFF", "4OFF"),
        "it is 4OFF, whose vertices have other coordinates than",
    ),
    "off-n": (
        "a.off",
        OFF.replace("OFF", "nOFF\n3"),
        "it is nOFF, whose vertices have other coordinates than",
    ),
    "off-no-counts": ("a.off", "OFF\n", "line 1 has 'OFF' instead of the numbers of vertices and faces"),
    "off-cut": ("a.off", OFF[: OFF.index("4 0")], "it has 5 of 5 vertices and 0 of 2 faces"),
    "off-cut-early": ("a.off", OFF[: OFF.index("1 1 0")], "it has 2 of 5 vertices and 0 of 2 faces"),
    "off-commas": ("a.off", OFF.replace("0.5", "0,5"), f"line 7 has '0,5 0,5 2' instead of three coordinates{POINT}"),
    "off-corners": (
        "a.off",
        OFF.replace("4 0 1 2 3", "4 0 1 2"),
        "line 8 has '4 0 1 2' instead of the number of corners and these",
    ),
    "off-negative": ("a.off", OFF.replace("3 0 1 4", "3 0 1 -1"), "face 2 names vertex -1, and the 5 vertices are"),
    "off-points": ("a.off", OFF.replace("5 2 0", "5 0 0"), "it has 5 vertices and no faces"),
    "ply-word": ("a.ply", OBJ, "it does not begin with 'ply' and a header that ends with 'end_header'"),
    "ply-header": ("a.ply", PLY.replace("end_header", ""), "it does not begin with 'ply' and a header that ends with"),
    "ply-format": (
        "a.ply",
        PLY.replace("ascii", "text"),
        "it is of the format 'text' instead of ascii",
    ),
    "ply-type": (
        "a.ply",
        PLY.replace("float x", "half x"),
        "line 5 has 'property half x' instead of a property of the types char",
    ),
    "ply-count": (
        "a.ply",
        PLY.replace("vertex 5", "vertex five"),
        "line 4 has 'element vertex five' instead of",
    ),
    "ply-element": ("a.ply", PLY.replace("vertex 5", "vertex"), "line 4 has 'element vertex' instead of an element or"),
    "ply-negative-count": (
        "a.ply",
        PLY.replace("face 2", "face -2"),
        "its header promises -2 rows of the element",
    ),
    "ply-cut": ("a.ply", PLY[:-9], "it ends within the 2 rows of the element face"),
    "ply-cut-binary": ("a.ply", binary_ply()[:-9], "it ends within the 2 rows of the element face"),
    "ply-strips": ("a.ply", PLY.replace("element face", "element tristrips"), "it has triangle strips in the place of"),
    "ply-points": (
        "a.ply",
        PLY.replace("element face 2\nproperty list uchar int vertex_indices\n", ""),
        "it has 5 vertices and no faces",
    ),
    "ply-flat": ("a.ply", PLY.replace("float z", "float depth"), "its vertices have no x, y and z"),
    "ply-commas": ("a.ply", PLY.replace("0.5", "0,5"), f"it has '0,5' in the place of a number{POINT}"),
    "ply-beyond": (
        "a.ply",
        PLY.replace("3 0 1 4", "3 0 1 5"),
        "face 2 names vertex 5, and the 5 vertices are",
    ),
    "ply-nan": ("a.ply", PLY.replace("3 0 1 4", "nan 0 1 4"), "it ends within the 2 rows of the element face"),
    "stl-short": ("a.stl", "made by hand", "it is no text that begins with 'solid', and too short for a binary STL"),
    "stl-cut": ("a.stl", STL[: STL.rindex(" endloop")], "it does not end with 'endsolid'"),
    "stl-cut-end": ("a.stl", STL[:-30], "it does not end with 'endsolid'"),
    "stl-commas": ("a.stl", STL.replace("0.5", "0,5"), "instead of three coordinates" + POINT),
    "stl-cut-binary": ("a.stl", binary_stl(count=9), "it has 3 of 9 triangles"),
    "stl-cut-binary-solid": ("a.stl", binary_stl(b"solid\0", count=9), "it has 3 of 9 triangles"),
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
