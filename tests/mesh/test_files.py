"""Mesh files: the vertices come as they are in the file, and what does not fit is named."""

import sys

import numpy as np
import pytest
import trimesh

from pinets_tf.mesh import read_mesh, read_shapes
from tests.mesh.templates import euler, sphere

VERTICES = np.array([[9, 9, 9], [0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.25, 0.5, 2]], np.float32)
FACES = np.array([[5, 1, 2], [5, 2, 3], [4, 5, 3], [1, 5, 4], [1, 4, 3], [1, 3, 2]])


def obj(vertices=VERTICES, faces=FACES):
    lines = [f"v {x!r} {y!r} {z!r}" for x, y, z in np.asarray(vertices, float).tolist()]
    return "\n".join(lines + ["f " + " ".join(str(corner + 1) for corner in face) for face in faces]) + "\n"


def written(path, vertices=VERTICES, faces=FACES):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".obj":
        path.write_text(obj(vertices, faces))
    else:
        trimesh.Trimesh(vertices, faces, process=False).export(path)
    return path


@pytest.mark.parametrize("name", ["mesh.obj", "mesh.ply", "mesh.off", "mesh.PLY"])
def test_vertices_keep_their_order(tmp_path, name):
    # The first vertex is in no face, and the faces use the others out of order.
    vertices, faces = read_mesh(written(tmp_path / name))
    assert vertices.dtype == np.float32
    np.testing.assert_array_equal(vertices, VERTICES)
    np.testing.assert_array_equal(faces, FACES)
    points, triangles = sphere(2)
    vertices, faces = read_mesh(written(tmp_path / name, points, triangles))
    np.testing.assert_allclose(vertices, points, atol=1e-6)
    np.testing.assert_array_equal(faces, triangles)


def test_stl_vertices_are_joined_as_they_first_come(tmp_path):
    points, triangles = sphere(1)
    for vertices, faces in (
        read_mesh(written(tmp_path / "mesh.stl", points, triangles)),
        read_mesh(written(tmp_path / "other.stl", 3 * points[:, [1, 2, 0]], triangles)),
    ):
        assert vertices.shape == (42, 3) and faces.shape == (80, 3) and euler(faces) == 2
        _, first = np.unique(triangles, return_index=True)
        place = {vertex: number for number, vertex in enumerate(triangles.ravel()[np.sort(first)].tolist())}
        np.testing.assert_array_equal(faces, np.vectorize(place.get)(triangles))
    signed = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.0, -0.0, 0], [0, 0, 1], [1, 0, -0.0]])
    vertices, faces = read_mesh(written(tmp_path / "zero.stl", signed, [[0, 1, 2], [3, 4, 5]]))
    assert vertices.shape == (4, 3) and faces.tolist() == [[0, 1, 2], [0, 3, 1]]


@pytest.mark.parametrize(
    "face",
    [
        "f {0}/{9} {1}/{8} {2}/{7}",
        "f {0}//{9} {1}//{8} {2}//{7}",
        "f {0}/{9}/{8} {1}/{7}/{6} {2}/{5}/{4}",
        "usemtl {9}\nf {0} {1} {2}",
        "g {9}\no {8}\ns 1\nf {0} {1} {2}",
        "f {0} \\\n {1} {2} # comment",
    ],
)
def test_an_obj_has_the_vertices_of_its_positions(tmp_path, face):
    rng = np.random.default_rng(0)
    extra = "".join(f"vt 0.{n} 0.5\nvn 0 0 1\n" for n in range(1, 8))
    lines = [face.format(*(corner + 1 for corner in three), *rng.integers(1, 8, 7)) for three in FACES]
    (tmp_path / "mesh.obj").write_text("mtllib none.mtl\n" + obj(faces=[]) + extra + "\n".join(lines))
    vertices, faces = read_mesh(tmp_path / "mesh.obj")
    np.testing.assert_array_equal(vertices, VERTICES)
    np.testing.assert_array_equal(faces, FACES)


def test_colours_and_negative_numbers_of_an_obj(tmp_path):
    (tmp_path / "mesh.obj").write_text(
        "v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\nf -3 -2 -1\nv 0 0 1 1 1 1\nf -1/2 -3 1\r\n"
    )
    vertices, faces = read_mesh(tmp_path / "mesh.obj")
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert faces.tolist() == [[0, 1, 2], [3, 1, 0]]


PLY = """ply
format ascii 1.0
element vertex 4
property float x
property float y
property float z
element face 2
property list uchar int vertex_indices
property list uchar float texcoord
end_header
0 0 0
1 0 0
1 1 0
0 1 0
3 0 1 2 6 0 0 1 0 1 1
3 0 2 3 6 0.5 0.5 0 1 1 1
"""


def test_a_ply_has_the_vertices_of_its_positions(tmp_path):
    (tmp_path / "mesh.ply").write_text(PLY)
    vertices, faces = read_mesh(tmp_path / "mesh.ply")
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    "name, sides",
    [
        ("mesh.off", (4, 4)),
        ("mesh.off", (3, 4)),
        *(("mesh.obj", two) for two in ((4, 4), (3, 4), (5, 3), (6, 4), (5, 5))),
    ],
)
def test_polygons_become_triangles(tmp_path, name, sides):
    angles = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    points = np.concatenate([np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1), [[0, 0, 1.0]]])
    polygons = [list(range(sides[0])), [6, *range(sides[1] - 2, -1, -1)]]
    if name == "mesh.obj":
        (tmp_path / name).write_text(obj(points, polygons))
    else:
        rows = [" ".join(map(str, row)) for row in points.tolist()]
        rows += [" ".join(map(str, [len(face), *face])) for face in polygons]
        (tmp_path / name).write_text("\n".join(["OFF", "7 2 0", *rows]))
    vertices, faces = read_mesh(tmp_path / name)
    assert len(vertices) == 7 and len(faces) == sum(sides) - 4
    area = np.linalg.norm(
        np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    )
    assert area > 0
    flat = faces[(faces < 6).all(1)]
    # The first polygon is covered once.
    assert len(flat) == sides[0] - 2 and set(flat.ravel()) == set(range(sides[0]))


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    # Another format, and the same triangles in another order.
    for number, name in enumerate(["b/2.obj", "a.ply", "b/1.off", "b/c/x.y.obj"]):
        written(tmp_path / name, VERTICES + number, FACES if number else np.roll(FACES[::-1], 1, axis=1))
    (tmp_path / "b" / "notes.txt").write_text("no mesh")
    shapes = read_shapes(tmp_path)
    assert shapes.names == ("a", "b/1", "b/2", "b/c/x.y")
    assert shapes.vertices.dtype == np.float32 and shapes.faces.dtype == np.int32
    np.testing.assert_array_equal(shapes.vertices, [VERTICES + number for number in (1, 2, 0, 3)])
    np.testing.assert_array_equal(shapes.faces, FACES)


def test_one_mesh_file(tmp_path):
    shapes = read_shapes(str(written(tmp_path / "face.obj", faces=[*FACES, FACES[0], [1, 1, 2]])))
    assert shapes.vertices.shape == (1, 6, 3) and shapes.names == ("face",)
    np.testing.assert_array_equal(shapes.faces, FACES)


def test_npz(tmp_path):
    for kind in (np.float64, np.float32, np.float16, np.int16):
        np.savez(
            tmp_path / "all.npz", vertices=np.stack([VERTICES, 2 * VERTICES]).astype(kind), faces=FACES.astype("u1")
        )
        shapes = read_shapes(tmp_path / "all.npz")
        assert shapes.vertices.shape == (2, 6, 3) and shapes.vertices.dtype == np.float32
        assert shapes.faces.dtype == np.int32 and shapes.names == ("all-0", "all-1")
        np.testing.assert_array_equal(shapes.faces, FACES)
    np.savez(tmp_path / "one.npz", vertices=VERTICES, faces=FACES)
    assert read_shapes(tmp_path / "one.npz").vertices.shape == (1, 6, 3)
    assert read_shapes(tmp_path / "one.npz").names == ("one",)


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"read from a folder.*'none', which is not in .*Pass the path"):
        read_shapes(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"A mesh is a file.*'none.obj', which is not in .*Pass the path"):
        read_mesh(tmp_path / "none.obj")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mesh.fbx").write_text("")
    with pytest.raises(
        ValueError, match=r"at least one mesh file \(\.obj.*folder, where there is none, in no subfolder"
    ):
        read_shapes(tmp_path / "folder")
    with pytest.raises(ValueError, match=r"ends in \.obj, \.off, \.ply, \.stl\. Received: .*mesh\.fbx\. Convert it"):
        read_shapes(tmp_path / "folder" / "mesh.fbx")


@pytest.mark.parametrize("name", ["a.obj", "a.ply", "a.off", "a.stl"])
@pytest.mark.parametrize("content", [b"", b"this is no mesh", bytes(range(256)) * 4])
def test_files_that_are_no_mesh(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        ValueError,
        match=rf"has vertices and faces\. Received: .*{name} \({len(content):,} bytes\), which cannot be read",
    ):
        read_shapes(tmp_path)


@pytest.mark.parametrize("name", ["a.ply", "a.off", "a.stl"])
def test_truncated_files(tmp_path, name):
    path = written(tmp_path / name, *sphere(1))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"{name} \(.*cannot be read.*truncated, not a mesh"):
        read_mesh(path)


def test_points_without_faces(tmp_path):
    with pytest.raises(ValueError, match=r"points\.obj .*cannot be read.*export or copy it again"):
        read_mesh(written(tmp_path / "points.obj", faces=[]))
    with pytest.raises(ValueError, match=r"three different vertices\. Received: .*line\.obj, where there is none"):
        read_shapes(written(tmp_path / "line.obj", faces=[[0, 0, 1]]))


@pytest.mark.parametrize("name", ["a.obj", "a.ply"])
def test_bad_coordinates_and_indices(tmp_path, name):
    bad = VERTICES.copy()
    bad[2:4, 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=rf"must be finite.*2 of 18 coordinates that are NaN or infinite in .*{name}"):
        read_mesh(written(tmp_path / name, bad))
    with pytest.raises(ValueError, match=rf"a\.{name[2:]}"):
        read_mesh(written(tmp_path / name, faces=[[0, 1, 6]]))


def test_files_of_different_topologies(tmp_path):
    written(tmp_path / "a.obj")
    written(tmp_path / "b.obj", VERTICES + 1)
    written(tmp_path / "c.obj", VERTICES[:5], FACES[4:])
    with pytest.raises(
        ValueError, match=r"one topology.*c\.obj with 5 vertices instead of 6, compared with .*a\.obj\. Register"
    ):
        read_shapes(tmp_path)
    written(tmp_path / "c.obj", VERTICES, [*FACES[:4], [1, 4, 2], [4, 3, 2]])
    with pytest.raises(
        ValueError,
        match=r"c\.obj with 2 triangles that the first has not, and not 2 that it has, compared with .*a\.obj",
    ):
        read_shapes(tmp_path)


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"vertices": VERTICES}, ("arrays vertices (n, V, 3) and faces", "with vertices. Add faces")),
        ({"x": VERTICES}, ("Shapes must be an .npz", "with x. Add vertices and faces")),
        ({}, ("with no arrays. Add vertices and faces",)),
        ({"vertices": VERTICES[:, :2], "faces": FACES}, ("shape (n, V, 3) or (V, 3)", "(1, 6, 2)", "one row of x, y")),
        ({"vertices": np.zeros((0, 6, 3)), "faces": FACES}, ("n and V > 0", "(0, 6, 3)", "one row of x, y")),
        ({"vertices": VERTICES.astype(str), "faces": FACES}, ("must be numbers", "type <U", "one row of x, y")),
        ({"vertices": VERTICES, "faces": FACES[:, :2]}, ("integers of shape (F, 3)", "(6, 2)", "Triangulate")),
        ({"vertices": VERTICES, "faces": FACES * 1.0}, ("integers of shape (F, 3)", "float64", "Triangulate")),
        ({"vertices": VERTICES, "faces": FACES + 1}, ("0 to 5 for 6 vertices", "6 in face 0", "Count from 0")),
        ({"vertices": VERTICES, "faces": FACES[:0]}, ("three different vertices", "there is none", "Save its faces")),
        (
            {"vertices": np.stack([VERTICES, VERTICES + np.inf]), "faces": FACES},
            ("must be finite", "18 of 36 coordinates", "first in shape 1", "Leave that shape out"),
        ),
        ({"vertices": np.array([None]), "faces": FACES}, ("cannot be read", "Python objects", "numpy.savez")),
    ],
)
def test_bad_arrays(tmp_path, arrays, words):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError) as caught:
        read_shapes(tmp_path / "set.npz")
    for word in (*words, "set.npz"):
        assert word in str(caught.value)


def test_truncated_npz(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, vertices=np.stack([VERTICES] * 50), faces=FACES)
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf"must be an .npz file .*{size:,} bytes.*cannot be read.* copy it again"):
            read_shapes(path)


def test_missing_extra(tmp_path, monkeypatch):
    written(tmp_path / "a.obj")
    np.savez(tmp_path / "b.npz", vertices=VERTICES, faces=FACES)
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(ImportError, match=r"a\.obj is .*not installed.*pip install 'pinets_tf\[mesh\]'"):
        read_shapes(tmp_path / "a.obj")
    with pytest.raises(
        ImportError, match=r"with trimesh\. Received: it is not installed .*pip install 'pinets_tf\[mesh\]'"
    ):
        read_mesh(tmp_path / "a.obj")
    assert read_shapes(tmp_path / "b.npz").names == ("b",)
