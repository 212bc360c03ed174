"""The shapes of the sample: smooth, of one topology, and the same again."""

import sys

import numpy as np
import pytest

from pinets_tf.mesh import clean_faces, deformed_spheres
from tests.mesh.templates import directed_edges, euler


def test_shapes():
    shapes = deformed_spheres(20, seed=3)
    assert shapes.vertices.shape == (20, 642, 3) and shapes.vertices.dtype == np.float32
    assert shapes.faces.shape == (1280, 3) and shapes.faces.dtype == np.int32
    assert len(set(shapes.names)) == 20 and euler(shapes.faces) == 2
    np.testing.assert_array_equal(clean_faces(shapes.faces, 642), shapes.faces)
    sizes = np.ptp(shapes.vertices, axis=1)
    assert sizes.min() > 50 and sizes.max() < 200 and 80 < sizes.mean() < 130


def test_shapes_differ_and_come_again():
    shapes = deformed_spheres(5, subdivisions=2)
    again = deformed_spheres(3, subdivisions=2)
    np.testing.assert_array_equal(shapes.vertices[:3], again.vertices)
    assert shapes.names[:3] == again.names
    gaps = [np.linalg.norm(a - b, axis=1).mean() for a in shapes.vertices for b in shapes.vertices if a is not b]
    assert sorted(gaps)[5] > 1
    assert not np.array_equal(deformed_spheres(5, 2, seed=1).vertices, shapes.vertices)


def test_surfaces_are_smooth_and_outside_is_outside():
    shapes = deformed_spheres(200, seed=1)
    tails, heads = np.array(directed_edges(shapes.faces)).T
    for vertices in np.float64(shapes.vertices):
        lengths = np.linalg.norm(vertices[tails] - vertices[heads], axis=1)
        assert lengths.max() < 25 and lengths.min() > 1
        a, b, c = (vertices[shapes.faces[:, corner]] for corner in range(3))
        assert np.einsum("ij,ij", a, np.cross(b, c)) / 6 > 1e5
        normals = np.cross(b - a, c - a)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        order = np.argsort(np.minimum(tails, heads) * 642 + np.maximum(tails, heads), kind="stable") // 3
        assert (normals[order[::2]] * normals[order[1::2]]).sum(1).min() > 0.5


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(ImportError, match=r"sphere is made .*not installed.*pip install 'pinets_tf\[mesh\]'"):
        deformed_spheres(1)
