"""Decimation: the number of vertices, the topology, and the matrices between two levels."""

import numpy as np
import pytest

from pinets_tf.mesh import clean_faces, decimate, decimation, deformed_spheres
from pinets_tf.mesh.topology import components
from tests.mesh.templates import directed_edges, edge_counts, euler, grid, sphere, together


def torus(rings=16, sides=10):
    a, b = np.mgrid[:rings, :sides]
    u, v = 2 * np.pi * a / rings, 2 * np.pi * b / sides
    vertices = np.stack([(3 + np.cos(v)) * np.cos(u), (3 + np.cos(v)) * np.sin(u), np.sin(v)], axis=-1).reshape(-1, 3)

    def number(i, j):
        return (i % rings) * sides + j % sides

    corners = [number(a, b), number(a + 1, b), number(a + 1, b + 1), number(a, b + 1)]
    faces = [np.stack([corners[i] for i in three], -1).reshape(-1, 3) for three in ((0, 1, 2), (0, 2, 3))]
    return vertices, np.concatenate(faces)


def sheet_with_a_hole():
    vertices, faces = grid(12, 12)
    middle = vertices[faces].mean(1)
    return vertices, faces[np.abs(middle[:, :2] - 5.5).max(1) > 1.5]


def spheres_and_sheet():
    return together(sphere(2), sphere(1), grid(4, 4))


MESHES = {
    "sphere": sphere(3),
    "deformed": (deformed_spheres(1).vertices[0], deformed_spheres(1).faces),
    "sheet": grid(15, 20),
    "hole": sheet_with_a_hole(),
    "torus": torus(),
    "several": spheres_and_sheet(),
}


@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("factor", [2, 4, 7.5])
def test_vertices_and_matrices(name, factor):
    vertices, faces = MESHES[name]
    coarse = decimate(vertices, faces, factor)
    wanted = int(np.ceil(len(vertices) / factor))
    assert len(coarse.vertices) == coarse.down.shape[0] == wanted
    assert coarse.down.shape == coarse.up.shape[::-1] == (wanted, len(vertices))
    assert coarse.down.dtype == coarse.up.dtype == np.float32 and coarse.faces.dtype == np.int32
    # A selection: one 1 a row, different columns, in their order.
    assert (coarse.down.data == 1).all() and (np.diff(coarse.down.indptr) == 1).all()
    assert (np.diff(coarse.down.indices) > 0).all()
    np.testing.assert_array_equal(coarse.vertices, np.asarray(vertices, float)[coarse.down.indices])
    assert (coarse.up.data > 0).all() and (np.diff(coarse.up.indptr) <= 3).all()
    np.testing.assert_allclose(coarse.up.sum(1), 1, atol=1e-6)
    # Down after up is the identity.
    np.testing.assert_array_equal((coarse.down @ coarse.up).toarray(), np.eye(wanted))


@pytest.mark.parametrize("name", MESHES)
def test_topology_stays(name):
    vertices, faces = MESHES[name]
    for _ in range(2):
        coarse = decimate(vertices, faces, 3)
        np.testing.assert_array_equal(clean_faces(coarse.faces, len(coarse.vertices)), coarse.faces)
        assert len(set(directed_edges(coarse.faces))) == 3 * len(coarse.faces)
        assert euler(coarse.faces) == euler(faces)
        assert set(np.unique(coarse.faces)) == set(range(len(coarse.vertices)))
        fine_component, component = components(faces, len(vertices)), components(coarse.faces, len(coarse.vertices))
        used = np.unique(faces)
        assert len(set(component)) == len(set(fine_component[used]))
        edges, count = edge_counts(coarse.faces)
        assert (count == 1).any() == (edge_counts(faces)[1] == 1).any() and count.max() == 2
        # Boundaries do not touch each other.
        assert set(np.bincount(edges[count == 1].ravel())) <= {0, 2}
        vertices, faces = coarse.vertices, coarse.faces


@pytest.mark.parametrize("seed", range(6))
def test_topology_stays_where_pieces_touch_in_a_vertex(seed):
    vertices, faces = sphere(2)
    rng = np.random.default_rng(seed)
    faces = rng.permutation(faces)[: 320 - 40 * seed]
    coarse = decimate(vertices, faces, (3, 2, 1.6, 1.4, 1.2, 1.1)[seed])
    assert edge_counts(coarse.faces)[1].max() == 2 and euler(coarse.faces) == euler(faces)
    used = np.unique(faces)
    assert len(set(components(faces, 162)[used])) == 1 + components(coarse.faces, len(coarse.vertices)).max()


def normals(vertices, faces):
    return np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])


def test_no_triangle_turns_over():
    vertices, faces = sphere(3)
    coarse = decimate(vertices, faces, 8)
    outward = (normals(coarse.vertices, coarse.faces) * coarse.vertices[coarse.faces].mean(1)).sum(1)
    assert (outward > 0).all()
    # Without the rule some triangle of this sheet does at either factor.
    vertices, faces = grid(15, 20)
    inside = ((vertices[:, :2] > 0) & (vertices[:, :2] < (19, 14))).all(1)
    vertices[inside, :2] += np.random.default_rng(3).uniform(-0.24, 0.24, (inside.sum(), 2))
    for factor in (3, 8):
        coarse = decimate(vertices, faces, factor)
        assert (normals(coarse.vertices, coarse.faces)[:, 2] > 0).all()
        # The boundary is straight, so the corners stay and the area with them.
        np.testing.assert_allclose(normals(coarse.vertices, coarse.faces)[:, 2].sum() / 2, 14 * 19)


def test_flat_parts_go_first_and_spread_evenly():
    vertices, faces = grid(21, 21)
    vertices[:, 2] = 3 * np.exp(-np.square(vertices[:, :2] - 5).sum(1) / 4)
    coarse = decimate(vertices, faces, 5)
    on_the_hill = np.linalg.norm(coarse.vertices[:, :2] - 5, axis=1) < 4
    was_on_the_hill = np.linalg.norm(vertices[:, :2] - 5, axis=1) < 4
    assert on_the_hill.mean() > 2 * was_on_the_hill.mean()
    assert np.abs(coarse.up @ coarse.vertices - vertices).max() < 0.5
    flat, faces = grid(21, 21)
    coarse = decimate(flat, faces, 9)
    area = normals(coarse.vertices, coarse.faces)[:, 2] / 2
    assert area.max() < 8 * np.median(area)


def test_up_is_near_the_surface():
    vertices, faces = sphere(3)
    coarse = decimate(vertices, faces, 4)
    gap = np.linalg.norm(coarse.up @ coarse.vertices - vertices, axis=1)
    every = np.full(len(vertices), np.inf)
    for face in coarse.faces:
        triangle = decimation.barycentric(vertices, coarse.vertices, face[None])
        every = np.minimum(
            every, np.linalg.norm((triangle[1][:, :, None] * coarse.vertices[triangle[0]]).sum(1) - vertices, axis=1)
        )
    np.testing.assert_allclose(gap, every, atol=1e-6)
    assert gap.max() < 0.05


def test_up_stays_in_its_component():
    # Two sheets so near to each other that the nearest triangle would often be one of the other sheet.
    vertices, faces = grid(9, 9)
    bent = vertices + [0, 0, 1] * np.sin(vertices[:, :1])
    both = np.concatenate([bent, bent * (1, 1, -1)])
    coarse = decimate(both, np.concatenate([faces, faces + 81]), 4)
    of_coarse = coarse.down.indices >= 81
    for vertex in range(162):
        assert (of_coarse[coarse.up[[vertex]].indices] == (vertex >= 81)).all()


def test_vertices_in_no_triangle_are_left_out():
    vertices, faces = sphere(2)
    more = np.concatenate([vertices[:5] * 1.1, vertices, [[0, 0, 9]]])
    coarse = decimate(more, faces + 5, 4)
    assert len(coarse.vertices) == 42 and not set(coarse.down.indices) & {0, 1, 2, 3, 4, 167}
    np.testing.assert_allclose(coarse.up.sum(1), 1, atol=1e-6)
    assert np.linalg.norm(coarse.up @ coarse.vertices - more, axis=1)[:5].max() < 0.3


def test_edges_of_three_triangles_keep_their_vertices():
    # Three sheets that meet in one edge line.
    vertices, faces = grid(5, 5)
    number = np.arange(25)
    sheets, triangles = [vertices], [faces]
    for turn, angle in ((1, 2.1), (2, -2.1)):
        x = vertices[:, 0]
        sheets.append(np.stack([x * np.cos(angle), vertices[:, 1], x * np.sin(angle)], axis=1))
        triangles.append(np.where(x == 0, number, number + 25 * turn)[faces])
    coarse = decimate(np.concatenate(sheets), np.concatenate(triangles), 2)
    edges, count = edge_counts(coarse.faces)
    assert count.max() == 3
    line = coarse.vertices[np.unique(edges[count == 3])]
    assert (line[:, 0] == 0).all() and {0.0, 4.0} <= set(line[:, 1])


def test_the_smallest_parts_stay():
    tetrahedron = (np.eye(4)[:, :3], [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    triangle = (np.eye(3), [[0, 1, 2]])
    vertices, faces = together(tetrahedron, triangle, sphere(2))
    coarse = decimate(vertices, faces, 15)
    assert len(coarse.vertices) == 12
    sizes = np.bincount(components(coarse.faces, 12))
    assert sizes.tolist()[:2] == [4, 3] and sizes[2] == 5


def test_two_boundaries_stay_apart():
    # A tube of three rings of twelve; the smallest tube has three vertices at each end.
    vertices, faces = torus(4, 12)
    tube = faces[(faces < 36).all(1)]
    coarse = decimate(vertices[:36], tube, 6)
    edges, count = edge_counts(coarse.faces)
    assert len(coarse.vertices) == 6 and euler(coarse.faces) == 0
    assert np.bincount(edges[count == 1].ravel()).tolist() == [2] * 6
    with pytest.raises(ValueError, match="so 5, where 6 are left"):
        decimate(vertices[:36], tube, 7.2)


def test_vertices_at_one_place_keep_their_own():
    # A sheet that is rolled to a tube, so that two of its sides are at one place.
    vertices, faces = grid(6, 13)
    angle = 2 * np.pi * (vertices[:, 0] % 12) / 12
    coarse = decimate(np.stack([np.cos(angle), np.sin(angle), vertices[:, 1]], axis=1), faces, 2)
    assert len(np.unique(coarse.vertices, axis=0)) < len(coarse.vertices)
    np.testing.assert_array_equal((coarse.down @ coarse.up).toarray(), np.eye(39))


def test_the_same_again_and_in_other_units():
    vertices, faces = MESHES["deformed"]
    first, again, metres = (decimate(scale * np.float64(vertices), faces, 4) for scale in (1, 1, 2.0**-10))
    np.testing.assert_array_equal(first.faces, again.faces)
    np.testing.assert_array_equal(first.up.toarray(), again.up.toarray())
    np.testing.assert_array_equal(first.faces, metres.faces)


def test_turning_over_is_the_last_resort(monkeypatch):
    vertices, faces = MESHES["deformed"]
    monkeypatch.setattr(decimation, "LEAST_COSINE", 2.0)
    coarse = decimate(vertices, faces, 4)
    assert len(coarse.vertices) == 161 and euler(coarse.faces) == 2


@pytest.mark.parametrize("factor", [1, 0.5, float("nan"), float("inf"), "4", None])
def test_bad_factor(factor):
    with pytest.raises(ValueError, match=r"a number above 1\. Received: factor=.*Pass for example 4"):
        decimate(*sphere(1), factor)


def test_bad_template():
    vertices, faces = sphere(1)
    with pytest.raises(
        ValueError, match=r"shape \(V, 3\), V > 0\. Received: vertices of shape \(42, 2\) .*Pass one shape"
    ):
        decimate(vertices[:, :2], faces, 4)
    with pytest.raises(
        ValueError, match=r"integers of shape \(F, 3\).* Received: .* type float64 .*Triangulate the mesh"
    ):
        decimate(vertices, faces * 1.0, 4)


def test_too_little_is_left():
    with pytest.raises(ValueError, match=r"at least one triangle.*42 vertices, 80 triangles and factor=30.*leaves 2"):
        decimate(*sphere(1), 30)
    with pytest.raises(ValueError, match=r"at least one triangle.*42 vertices, 0 triangles.*smaller factor"):
        decimate(sphere(1)[0], np.zeros((0, 3), int), 2)


def test_too_many_parts():
    vertices, faces = together(*[(np.eye(3), [[0, 1, 2]])] * 20)
    with pytest.raises(
        ValueError,
        match=r"within a tenth.*factor=2 for 60 vertices, so 30, where 60 are left.*without its smallest parts",
    ):
        decimate(vertices, faces, 2)
