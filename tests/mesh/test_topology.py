"""Triangles: what is repaired, what is kept, what is refused."""

import numpy as np
import pytest

from pinets_tf.mesh import clean_faces
from tests.mesh.templates import directed_edges, grid, sphere, together


def test_good_triangles_stay_as_they_are():
    for vertices, faces in (sphere(), grid()):
        cleaned = clean_faces(faces, len(vertices))
        assert cleaned.dtype == np.int32
        np.testing.assert_array_equal(cleaned, faces)


def test_degenerate_and_repeated_triangles_are_dropped():
    faces = [[0, 1, 2], [2, 2, 3], [1, 2, 0], [0, 2, 1], [1, 3, 2]]
    np.testing.assert_array_equal(clean_faces(faces, 4), [[0, 1, 2], [1, 3, 2]])
    assert clean_faces([[0, 0, 1]], 2).shape == (0, 3)
    assert clean_faces(np.zeros((0, 3), int), 2).shape == (0, 3)


@pytest.mark.parametrize("seed", range(3))
def test_the_smaller_part_is_turned_over(seed):
    vertices, faces = together(sphere(1), grid())
    rng = np.random.default_rng(seed)
    turned = np.concatenate([rng.permutation(80)[:30], 80 + rng.permutation(40)[:15]])
    spoilt = faces.copy()
    spoilt[turned] = spoilt[turned][:, [0, 2, 1]]
    assert len(set(directed_edges(spoilt))) < 3 * len(spoilt)
    np.testing.assert_array_equal(clean_faces(spoilt, len(vertices)), faces)


def test_orientation_does_not_depend_on_the_order_of_triangles():
    # Two triangles that disagree: neither part is the smaller one.
    faces = np.array([[0, 1, 2], [1, 2, 3]])
    assert set(map(tuple, clean_faces(faces, 4))) == set(map(tuple, clean_faces(faces[::-1], 4)))
    assert len(set(directed_edges(clean_faces(faces, 4)))) == 6
    # What was turned over begins where it began.
    np.testing.assert_array_equal(clean_faces(faces, 4)[:, 0], [0, 1])


def test_what_has_no_orientation_stays():
    # A Möbius band of five triangles, and a fan of three triangles round one edge.
    band = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 0], [4, 0, 1]])
    np.testing.assert_array_equal(clean_faces(band, 5), band)
    fan = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    np.testing.assert_array_equal(clean_faces(fan, 5), fan)


@pytest.mark.parametrize(
    "faces, words",
    [
        ([[0, 1, 2, 3]], ("integers of shape (F, 3)", "shape (1, 4) and type int64 in cube.ply", "Triangulate")),
        ([[0.0, 1.0, 2.0]], ("integers of shape (F, 3)", "type float64", "Triangulate")),
        ([[0, 1, 2], [0, 1, 4]], ("indices from 0 to 3 for 4 vertices", "4 in face 1 of cube.ply", "Count from 0")),
        ([[0, -1, 2]], ("indices from 0 to 3", "-1 in face 0", "Count from 0")),
    ],
)
def test_errors(faces, words):
    with pytest.raises(ValueError) as caught:
        clean_faces(faces, 4, "cube.ply")
    for word in words:
        assert word in str(caught.value)
