"""Shapes without a file: a smooth family of deformed spheres with one topology."""

import numpy as np

from pinets_tf.mesh.files import Shapes, trimesh_module

RADIUS_MM = 50.0


def deformed_spheres(count, subdivisions=3, seed=0):
    """Returns spheres of 100 mm that are stretched, flattened, tapered, twisted, bent and dented.

    Each shape has six numbers of its own, uniform in [-1, 1], and depends smoothly on them. The first shapes of a
    larger set are those of a smaller one with the same seed.

    Args:
        count: the number of shapes.
        subdivisions: s gives 10 * 4^s + 2 vertices: 42, 162, 642, 2562 for 1, 2, 3, 4.
        seed: an integer.

    Returns:
        A `Shapes` in millimetres.

    Raises:
        ImportError: if trimesh is not installed.

    Example:

    >>> shapes = deformed_spheres(2, subdivisions=1)
    >>> shapes.vertices.shape, shapes.faces.shape
    ((2, 42, 3), (80, 3))
    """
    sphere = trimesh_module("The sphere").creation.icosphere(subdivisions=subdivisions)
    latent = np.random.default_rng(seed).uniform(-1, 1, (count, 6))
    stretch, flatten, taper, twist, bend, dent = latent.T[:, :, None]
    x, y, z = np.asarray(sphere.vertices, np.float64).T
    swell = 1 + 0.15 * dent * np.sin(3 * x + 2 * z)
    x, y, z = x * swell, y * swell * (1 + 0.3 * flatten), z * swell * (1 + 0.3 * stretch)
    x, y = x * (1 + 0.3 * taper * z), y * (1 + 0.3 * taper * z)
    angle = 0.6 * twist * z
    x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    x = x + 0.3 * bend * z * z
    vertices = (RADIUS_MM * np.stack([x, y, z], axis=-1)).astype(np.float32)
    return Shapes(vertices, np.asarray(sphere.faces, np.int32), tuple(f"sphere-{number}" for number in range(count)))
