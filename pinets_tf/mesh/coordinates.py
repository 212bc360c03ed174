"""Where the neighbours of a vertex lie, seen from it."""

import numpy as np


def tangent_coordinates(vertices, faces, neighbors):
    """Returns the places of neighbours in the tangent plane of their vertex, the pseudo-coordinates of MoNet.

    The first axis points to the first neighbour, the normal of the vertex towards the viewer, and the farthest
    neighbour has the distance 1, so that moving, turning or scaling the template changes nothing.

    Args:
        vertices: numbers of shape (V, 3).
        faces: integers of shape (F, 3).
        neighbors: integers (V, L), each row beginning with the vertex itself; V stands for none.

    Returns:
        float32 numbers of shape (V, L, 2) between -1 and 1, zero for the vertex itself and where there is none.

    Example:

    >>> from pinets_tf.mesh import deformed_spheres, spirals
    >>> shapes = deformed_spheres(1, subdivisions=2)
    >>> rings = spirals(shapes.vertices[0], shapes.faces)
    >>> tangent_coordinates(shapes.vertices[0], shapes.faces, rings).shape
    (162, 7, 2)

    Source: Monti et al., "Geometric deep learning on graphs and manifolds using mixture model CNNs", CVPR 2017, Sec. 4,
    has geodesic polar coordinates; for one ring these Cartesian ones say the same.
    """
    vertices = np.asarray(vertices, float)
    count = len(vertices)
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((count, 3))
    for corner in range(3):
        np.add.at(normals, np.asarray(faces)[:, corner], across)
    normals = _unit(normals)
    present = neighbors < count
    offsets = (vertices[np.where(present, neighbors, 0)] - vertices[:, None]) * present[..., None]
    flat = offsets - (offsets @ normals[..., None]) * normals[:, None]
    first = _unit(flat[:, 1] if flat.shape[1] > 1 else np.zeros((count, 3)))
    axes = np.stack([first, np.cross(normals, first)], axis=-1)
    places = flat @ axes
    farthest = np.linalg.norm(places, axis=-1).max(1)
    return (places / np.where(farthest > 0, farthest, 1)[:, None, None]).astype("float32")


def _unit(vectors):
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
