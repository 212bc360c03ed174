"""Nearest triangles: the same as by trying all of them."""

import numpy as np
import pytest
from scipy.optimize import minimize

from pinets_tf.mesh import projection
from pinets_tf.mesh.projection import barycentric
from tests.mesh.templates import grid, sphere


def distances(points, vertices, corners, weights):
    return np.linalg.norm((weights[:, :, None] * vertices[corners]).sum(1) - points, axis=1)


@pytest.mark.parametrize("spread", [1e-3, 0.3, 5.0])
def test_as_by_trying_every_triangle(spread, monkeypatch):
    monkeypatch.setattr(projection, "PAIRS", 100)
    rng = np.random.default_rng(0)
    # Triangles of very different sizes.
    vertices = rng.normal(size=(60, 3)) * np.exp(rng.normal(size=(60, 1)))
    faces = np.stack([rng.permutation(60)[:3] for _ in range(80)])
    points = vertices[faces[rng.integers(80, size=200)]].mean(1) + spread * rng.normal(size=(200, 3))
    corners, weights = barycentric(points, vertices, faces)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(1), 1)
    every = np.stack([distances(points, vertices, *barycentric(points, vertices, face[None])) for face in faces])
    np.testing.assert_allclose(distances(points, vertices, corners, weights), every.min(0), atol=1e-12)


def test_as_by_minimising_the_distance():
    rng = np.random.default_rng(1)
    for _ in range(20):
        triangle, point = rng.normal(size=(3, 3)), 2 * rng.normal(size=3)
        _, weights = barycentric(point[None], triangle, np.array([[0, 1, 2]]))
        found = minimize(
            lambda w, triangle=triangle, point=point: np.square(w @ triangle - point).sum(),
            np.full(3, 1 / 3),
            bounds=[(0, 1)] * 3,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(weights[0] @ triangle, found.x @ triangle, atol=1e-5)


def test_corners_and_places_inside_are_exact():
    vertices, faces = sphere(1)
    corners, weights = barycentric(vertices, vertices, faces)
    np.testing.assert_allclose((weights[:, :, None] * vertices[corners]).sum(1), vertices, atol=1e-15)
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], len(faces))
    inside = (shares[:, :, None] * vertices[faces]).sum(1)
    corners, weights = barycentric(inside, vertices, faces)
    np.testing.assert_array_equal(corners, faces)
    np.testing.assert_allclose(weights, shares, atol=1e-12)


def test_triangles_without_an_area():
    line = np.array([[0, 0, 0], [1, 0, 0], [3, 0, 0.0]])
    corners, weights = barycentric(np.array([[2, 1, 0], [-1, 0, 0.0]]), line, np.array([[0, 1, 2]]))
    np.testing.assert_allclose((weights[:, :, None] * line[corners]).sum(1), [[2, 0, 0], [0, 0, 0]], atol=1e-12)
    point = np.zeros((3, 3))
    _, weights = barycentric(np.ones((1, 3)), point, np.array([[0, 1, 2]]))
    np.testing.assert_allclose(weights.sum(1), 1)


def test_above_a_sheet_is_straight_below():
    vertices, faces = grid()
    points = np.random.default_rng(0).uniform((0, 0, 1), (5, 4, 2), (50, 3))
    corners, weights = barycentric(points, vertices, faces)
    np.testing.assert_allclose((weights[:, :, None] * vertices[corners]).sum(1), points * (1, 1, 0), atol=1e-12)
