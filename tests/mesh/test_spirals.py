"""Spirals: the centre, then rings, counter-clockwise, the same however the mesh is stored or placed."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from pinets_tf.mesh import spirals
from tests.mesh.templates import grid, sphere, together

FAN = [[0, 1, 2], [0, 2, 3], [0, 3, 4]]
FAN_VERTICES = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [-1, 1, 0.0]])


def uneven_sphere(subdivisions=2):
    vertices, faces = sphere(subdivisions)
    return vertices * (1 + 0.1 * np.sin(3 * vertices[:, :1])) * (1, 1.2, 1.5), faces


def neighbours(faces, count):
    found = [set() for _ in range(count)]
    for face in np.asarray(faces).tolist():
        for vertex in face:
            found[vertex] |= set(face) - {vertex}
    return found


def rings(spiral, hops, faces, count):
    """The vertices of each ring by a search of its own."""
    near = neighbours(faces, count)
    seen, result = {spiral}, [{spiral}]
    for _ in range(hops):
        outer = set().union(*(near[vertex] for vertex in result[-1])) - seen
        result.append(outer)
        seen |= outer
    return result


def turns(vertices, centre, ring, normal):
    """The signed angles from one vertex of a ring to the next, seen against the normal."""
    arms = vertices[ring] - vertices[centre]
    arms -= np.outer(arms @ normal, normal) / (normal @ normal)
    following = np.roll(arms, -1, axis=0)
    return np.arctan2(np.cross(arms, following) @ normal / np.linalg.norm(normal), (arms * following).sum(1))


def test_types_and_length():
    vertices, faces = sphere(2)
    result = spirals(vertices, faces)
    sizes = np.array([1 + len(near) for near in neighbours(faces, len(vertices))])
    assert result.dtype == np.int32 and result.shape == (162, int(sizes.mean() + 2 * sizes.std()))
    np.testing.assert_array_equal(result[:, 0], np.arange(162))
    np.testing.assert_array_equal((result < 162).sum(1), np.minimum(sizes, result.shape[1]))


@pytest.mark.parametrize("mesh", [sphere(2), uneven_sphere(), grid()])
@pytest.mark.parametrize("hops", [1, 2, 3])
def test_rings_are_complete_and_in_order(mesh, hops):
    vertices, faces = mesh
    for vertex, row in enumerate(spirals(vertices, faces, hops=hops, length=80)):
        row = row[row < len(vertices)].tolist()
        for ring in rings(vertex, hops, faces, len(vertices)):
            assert set(row[: len(ring)]) == ring
            row = row[len(ring) :]
        assert not row


def test_rings_are_counter_clockwise_on_a_sphere():
    vertices, faces = sphere(2)
    for vertex, row in enumerate(spirals(vertices, faces, hops=2, length=30)):
        _, inner, outer = (len(ring) for ring in rings(vertex, 2, faces, 162))
        for ring in (row[1 : 1 + inner], row[1 + inner : 1 + inner + outer]):
            angles = turns(vertices, vertex, ring, vertices[vertex])
            assert (angles > 0).all()
            np.testing.assert_allclose(angles.sum(), 2 * np.pi)


def test_rings_are_counter_clockwise_on_a_sheet_and_start_again_behind_a_gap():
    vertices, faces = grid()
    up = np.array([0, 0, 1.0])
    inside = ((vertices[:, :2] > 0) & (vertices[:, :2] < (5, 4))).all(1)
    near = neighbours(faces, len(vertices))
    for vertex, row in enumerate(spirals(vertices, faces, length=7)):
        ring = row[1 : 1 + len(near[vertex])]
        angles = turns(vertices, vertex, ring, up)
        if inside[vertex]:
            assert (angles > 0).all()
            np.testing.assert_allclose(angles.sum(), 2 * np.pi)
        else:
            # The whole fan, with one step across the gap, which is where the sheet ends.
            assert (angles[[other in near[one] for one, other in zip(ring, np.roll(ring, -1))]] > 0).sum() == len(
                ring
            ) - 1


def test_an_open_fan_goes_on_from_its_start():
    rows = {tuple(spirals(FAN_VERTICES, FAN, length=5, references=[reference])[0]) for reference in range(1, 5)}
    assert rows == {(0, 1, 2, 3, 4), (0, 2, 3, 4, 1), (0, 3, 4, 1, 2), (0, 4, 1, 2, 3)}


def test_the_second_ring_follows_the_first_round():
    vertices, faces = grid(5, 5)
    # Vertex 12 is in the middle; 13 is right of it, and the reference is the right end of its row.
    row = spirals(vertices, faces, hops=2, length=19, references=[14])[12].tolist()
    assert row[:7] == [12, 13, 18, 17, 11, 6, 7]
    # Right of 13, then all the way round; every one touches the one before.
    assert row[7:] == [8, 14, 19, 24, 23, 22, 16, 10, 5, 0, 1, 2]


def test_first_neighbour_is_on_the_shortest_path():
    vertices, faces = uneven_sphere()
    count, reference = len(vertices), 17
    near = neighbours(faces, count)
    tails = np.repeat(np.arange(count), [len(other) for other in near])
    heads = np.concatenate([sorted(other) for other in near])
    lengths = np.linalg.norm(vertices[tails] - vertices[heads], axis=1)
    distance = shortest_path(coo_array((lengths, (tails, heads)), shape=(count, count)).tocsr(), directed=False)
    first = spirals(vertices, faces, references=[reference])[:, 1]
    for vertex in set(range(count)) - {reference}:
        step = np.linalg.norm(vertices[vertex] - vertices[first[vertex]])
        np.testing.assert_allclose(step + distance[first[vertex], reference], distance[vertex, reference], rtol=2e-6)
    nearest = min(near[reference], key=lambda other: np.linalg.norm(vertices[other] - vertices[reference]))
    assert first[reference] == nearest


def test_each_component_has_its_own_reference():
    vertices, faces = together(sphere(1), uneven_sphere(1), grid(2, 2))
    whole = spirals(vertices, faces, length=7)
    for start, (points, triangles) in ((0, sphere(1)), (42, uneven_sphere(1)), (84, grid(2, 2))):
        alone = spirals(points, triangles, length=7)
        np.testing.assert_array_equal(
            np.where(alone < len(points), alone + start, len(vertices)), whole[start : start + len(points)]
        )
    # The farthest of the mean: a corner of the stretched sphere; one given for one component leaves the others alone.
    points, triangles = uneven_sphere(1)
    farthest = np.linalg.norm(points - points.mean(0), axis=1).argmax()
    np.testing.assert_array_equal(whole, spirals(vertices, faces, length=7, references=[42 + farthest]))
    given = spirals(vertices, faces, length=7, references=[42 + 7])
    np.testing.assert_array_equal(given[:42], whole[:42])
    np.testing.assert_array_equal(given[84:], whole[84:])
    assert not np.array_equal(given, whole)


@pytest.mark.parametrize("mesh", [sphere(2), uneven_sphere(), grid(), together(sphere(1), grid(), grid(2, 2))])
@pytest.mark.parametrize("seed", [0, 1])
def test_order_of_faces_and_position_do_not_matter(mesh, seed):
    vertices, faces = mesh
    rng = np.random.default_rng(seed)
    expected = spirals(vertices, faces, hops=2)
    shuffled = rng.permutation(np.stack([np.roll(face, rng.integers(3)) for face in faces]))
    np.testing.assert_array_equal(spirals(vertices, shuffled, hops=2), expected)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    for moved in (vertices @ rotation, vertices + rng.normal(size=3), 1000 * vertices, 1e-3 * vertices @ rotation + 1):
        np.testing.assert_array_equal(spirals(moved, faces, hops=2), expected)


@pytest.mark.parametrize("mesh", [sphere(2), grid()])
def test_mirrored_faces_reverse_the_order(mesh):
    vertices, faces = mesh
    for row, mirrored in zip(
        spirals(vertices, faces, length=7), spirals(vertices * (1, 1, -1), faces[:, ::-1], length=7)
    ):
        ring, reversed_ring = row[1:][row[1:] < len(vertices)], mirrored[1:][mirrored[1:] < len(vertices)]
        np.testing.assert_array_equal(reversed_ring, [ring[0], *ring[:0:-1]])


def test_faces_that_disagree_are_oriented_first():
    vertices, faces = sphere(1)
    spoilt = faces.copy()
    spoilt[::3] = spoilt[::3][:, ::-1]
    np.testing.assert_array_equal(spirals(vertices, spoilt), spirals(vertices, faces))


def test_vertices_in_no_triangle_are_alone():
    vertices = np.concatenate([FAN_VERTICES, [[5, 5, 5], [5, 5, 5]]])
    result = spirals(vertices, FAN)
    assert result[5].tolist() == [5] + [7] * (result.shape[1] - 1)
    assert spirals(vertices, np.zeros((0, 3), int)).tolist() == [[number] for number in range(7)]


def test_fans_follow_each_other():
    # Two fans that meet in vertex 0 alone: one open, one closed.
    faces = [*FAN, [0, 5, 6], [0, 6, 7], [0, 7, 5]]
    vertices = np.concatenate([FAN_VERTICES, [[1, -1, -1], [-1, -1, -1], [0, -1, 1]]])
    assert spirals(vertices, faces, length=8, references=[3])[0].tolist() == [0, 3, 4, 1, 2, 5, 6, 7]
    assert spirals(vertices, faces, length=8, references=[7])[0].tolist() == [0, 7, 5, 6, 1, 2, 3, 4]
    assert spirals(vertices, faces[::-1], length=8, references=[7])[0].tolist() == [0, 7, 5, 6, 1, 2, 3, 4]


def test_a_second_open_fan_begins_at_its_start():
    # The smallest index is inside of the fan 2, 1, 3, 4.
    faces = [[0, 2, 1], [0, 1, 3], [0, 3, 4], [0, 5, 6], [0, 6, 7], [0, 7, 5]]
    vertices = np.random.default_rng(0).normal(size=(8, 3))
    assert spirals(vertices, faces, length=8, references=[7])[0].tolist() == [0, 7, 5, 6, 2, 1, 3, 4]


def test_an_edge_of_three_triangles():
    vertices = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [-1, 1, 0], [-1, -1, 0.0]])
    faces = np.array([[0, 1, 2], [0, 1, 3], [1, 0, 4]])
    expected = spirals(vertices, faces, length=5, references=[1])
    assert expected[0].tolist() == [0, 1, 2, 4, 3]
    for order in ([1, 2, 0], [2, 1, 0]):
        np.testing.assert_array_equal(spirals(vertices, faces[order], length=5, references=[1]), expected)
    assert all(sorted(row) == [0, 1, 2, 3, 4] for row in expected[:2])


def test_vertices_at_one_place():
    # All at one, and two neighbours at one, of which the second leads to the reference through the first.
    vertices, faces = sphere(1)
    near = neighbours(faces, 42)
    result = spirals(0 * vertices, faces, length=7)
    assert all(set(row[1:]) - {42} == near[row[0]] for row in result.tolist())
    strip = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0], [2, 1, 0.0]])
    assert spirals(strip, [[0, 2, 1], [1, 2, 3], [1, 3, 4]], length=5, references=[0])[3].tolist() == [3, 2, 4, 1, 5]


def test_length_and_dilation():
    vertices, faces = sphere(1)
    whole = spirals(vertices, faces, hops=2, length=30)
    np.testing.assert_array_equal(spirals(vertices, faces, hops=2, length=4), whole[:, :4])
    np.testing.assert_array_equal(spirals(vertices, faces, hops=2, dilation=3, length=10), whole[:, ::3])
    sizes = -(-(whole < 42).sum(1) // 2)
    assert spirals(vertices, faces, hops=2, dilation=2).shape == (42, int(sizes.mean() + 2 * sizes.std()))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"hops": 0}, ("hops is a positive integer", "hops=0", "Pass 1 or more")),
        ({"dilation": 1.5}, ("dilation is a positive integer", "dilation=1.5", "Pass 1 or more")),
        ({"length": -1}, ("length is a positive integer", "length=-1", "leave the argument out")),
        ({"references": [5]}, ("indices of vertices, from 0 to 4", "references=[5]", "such as [0]")),
        ({"references": 2}, ("indices of vertices", "references=2", "such as [0]")),
        ({"references": [0.5]}, ("indices of vertices", "references=[0.5]", "such as [0]")),
        ({"vertices": np.zeros((2, 5, 3))}, ("numbers of shape (V, 3)", "shape (2, 5, 3)", "Pass one shape")),
        ({"vertices": np.zeros((0, 3))}, ("V > 0", "shape (0, 3)", "Pass one shape")),
        ({"vertices": FAN_VERTICES + [0, 0, np.nan]}, ("must be finite", "5 of 15 coordinates", "Leave that shape")),
        ({"faces": [[0, 1, 5]]}, ("indices from 0 to 4", "5 in face 0 of the template", "Count from 0")),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ValueError) as caught:
        spirals(**{"vertices": FAN_VERTICES, "faces": FAN, **arguments})
    for word in words:
        assert word in str(caught.value)
