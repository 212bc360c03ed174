"""The triangles that all shapes share: what is an error, what is repaired, and which way they face."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def clean_faces(faces, vertex_count, where="the mesh"):
    """Returns the triangles of a mesh without degenerate and repeated ones, oriented alike.

    What is repaired: a triangle with a vertex twice is dropped, and of several with the same three vertices all but the
    first, however they are oriented. Where two neighbours disagree about the side from which they are
    counter-clockwise, the smaller part of their connected surface is turned over. A surface that has no sides (a Möbius
    band) stays as it is, and so do the disagreements across an edge of more than two triangles.

    What is kept: vertices in no triangle, and edges of more than two triangles.

    Args:
        faces: integers of shape (F, 3).
        vertex_count: V, the number of vertices.
        where: the file or thing that is named in an error.

    Returns:
        An int32 array of shape (F', 3) in the order of `faces`; a triangle that was turned over starts at the same
        vertex.

    Raises:
        ValueError: if the array has another shape or type, or an index is not in [0, V).
    """
    faces = check_faces(faces, vertex_count, where).astype(np.int32)
    corners = np.sort(faces, axis=1)
    _, first = np.unique(corners, axis=0, return_index=True)
    first = first[(np.diff(corners[first], axis=1) > 0).all(axis=1)]
    return _oriented(faces[np.sort(first)])


def check_faces(faces, vertex_count, where):
    """Returns the faces as an array, or raises a ValueError if shape, type or an index does not fit."""
    faces = np.asarray(faces)
    if faces.ndim != 2 or faces.shape[1] != 3 or not np.issubdtype(faces.dtype, np.integer):
        raise ValueError(
            "Faces must be integers of shape (F, 3), three vertices for each triangle. "
            f"Received: faces of shape {faces.shape} and type {faces.dtype} in {where}. Triangulate the mesh first."
        )
    beyond = (faces < 0) | (faces >= vertex_count)
    if beyond.any():
        raise ValueError(
            f"Faces must hold indices from 0 to {vertex_count - 1} for {vertex_count} vertices. "
            f"Received: {faces[beyond][0]} in face {np.argwhere(beyond)[0][0]} of {where}. "
            "Count from 0, and save the faces that belong to these vertices."
        )
    return faces


def components(faces, vertex_count):
    """Returns the connected component of each vertex, numbered in the order of their smallest vertices."""
    rows, columns = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(vertex_count, vertex_count))
    return connected_components(graph, directed=False)[1]


def checked(vertices, faces, where="the template"):
    """Returns one template's vertices as float64 and its clean faces, or says what does not fit."""
    vertices = np.asarray(vertices)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not len(vertices) or vertices.dtype.kind not in "fiu":
        raise ValueError(
            "Vertices must be numbers of shape (V, 3), V > 0. "
            f"Received: vertices of shape {vertices.shape} and type {vertices.dtype} in {where}. "
            "Pass one shape, such as the mean of all or the first."
        )
    vertices = vertices.astype(np.float64)
    check_finite(vertices, where)
    return vertices, clean_faces(faces, len(vertices), where)


def check_finite(vertices, where):
    """Raises a ValueError if a coordinate is not a number or infinite."""
    bad = vertices.size - np.count_nonzero(np.isfinite(vertices))
    if bad:
        raise ValueError(
            "Coordinates must be finite. "
            f"Received: {bad:,} of {vertices.size:,} coordinates that are NaN or infinite in {where}. "
            "Leave that shape out, or export it again."
        )


def _oriented(faces):
    tails, heads = faces.ravel().astype(np.int64), np.roll(faces, -1, axis=1).ravel()
    # The two halves of an edge have one number, and those of the edges of exactly two triangles are paired.
    number = np.minimum(tails, heads) * (1 + faces.max(initial=0)) + np.maximum(tails, heads)
    order = np.argsort(number, kind="stable")
    _, start, count = np.unique(number[order], return_index=True, return_counts=True)
    one, other = order[start[count == 2]], order[start[count == 2] + 1]
    disagree = (tails < heads)[one] == (tails < heads)[other]
    if not disagree.any():
        return faces
    # Every triangle twice, as it is and turned over, each connected to what agrees with it: a surface with two sides
    # falls into two parts, either of which is an orientation. Numbered in an order that does not depend on that of the
    # faces.
    total = len(faces)
    rank = np.empty(total, np.int64)
    rank[np.lexsort(np.sort(faces, axis=1).T[::-1])] = np.arange(total)
    one, other = rank[one // 3], rank[other // 3]
    rows = np.concatenate([one, one + total])
    columns = np.concatenate([other + total * disagree, other + total * ~disagree])
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(2 * total, 2 * total))
    sides, side = connected_components(graph, directed=False)
    as_is, turned = side[rank], side[rank + total]
    kept = np.bincount(as_is, minlength=sides)
    turn = (kept[turned] > kept[as_is]) | ((kept[turned] == kept[as_is]) & (turned < as_is))
    return np.where(turn[:, None], faces[:, [0, 2, 1]], faces)
