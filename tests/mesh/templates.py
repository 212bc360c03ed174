"""Small meshes that the tests of this folder share."""

import numpy as np
import trimesh


def sphere(subdivisions=2):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    return np.array(mesh.vertices), np.array(mesh.faces)


def grid(rows=5, columns=6):
    """A flat sheet whose triangles are counter-clockwise seen from above."""
    y, x = np.mgrid[:rows, :columns]
    vertices = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3).astype(float)
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]
    return vertices, np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])


def together(*meshes):
    """Several meshes as one, side by side."""
    vertices, faces, count = [], [], 0
    for number, (points, triangles) in enumerate(meshes):
        vertices.append(np.asarray(points, float) + [20 * number, 0, 0])
        faces.append(np.asarray(triangles) + count)
        count += len(points)
    return np.concatenate(vertices), np.concatenate(faces)


def edge_counts(faces):
    """How many triangles each edge has."""
    ends = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return np.unique(ends, axis=0, return_counts=True)


def euler(faces):
    return len(np.unique(faces)) - len(edge_counts(faces)[0]) + len(faces)


def directed_edges(faces):
    return [tuple(edge) for face in np.asarray(faces).tolist() for edge in zip(face, face[1:] + face[:1])]
