"""Places of neighbours in the tangent plane."""

import numpy as np

from pinets_tf.mesh import deformed_spheres, spirals, tangent_coordinates


def test_a_flat_ring():
    # A hexagon around vertex 0 in the plane of x and y, seen from +z, of radius 5.
    angles = np.arange(6) * np.pi / 3
    vertices = np.concatenate([np.zeros((1, 3)), 5 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1)])
    faces = np.array([[0, 1 + n, 1 + (n + 1) % 6] for n in range(6)])
    neighbors = np.full((7, 8), 7)
    neighbors[0, :7] = [0, 3, 4, 5, 6, 1, 2]
    places = tangent_coordinates(vertices, faces, neighbors)
    np.testing.assert_allclose(places[0, 1:7], np.stack([np.cos(angles), np.sin(angles)], 1), atol=1e-6)
    assert (places[0, [0, 7]] == 0).all() and (places[1:] == 0).all()


def test_motion_and_scale_change_nothing():
    shape = deformed_spheres(1, subdivisions=2)
    vertices, rings = shape.vertices[0], spirals(shape.vertices[0], shape.faces)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turn[:, 0] *= np.linalg.det(turn)
    places = tangent_coordinates(vertices, shape.faces, rings)
    moved = tangent_coordinates(3 * vertices @ turn.T + 100, shape.faces, rings)
    np.testing.assert_allclose(moved, places, atol=1e-3)
    assert np.abs(np.linalg.norm(places, axis=-1).max(1) - 1).max() < 1e-6
    # Counter-clockwise: the angles of the ring rise.
    angles = np.arctan2(places[:, 2, 1], places[:, 2, 0])
    assert (angles > 0).all()
