"""Points as weighted means of the corners of their nearest triangles."""

import numpy as np
from scipy.spatial import cKDTree

# About so many pairs of a point and a triangle are looked at together.
PAIRS = 1 << 18


def barycentric(points, vertices, faces):
    """Returns the nearest triangle of each point, and where in it the nearest place is.

    Args:
        points: numbers of shape (n, 3).
        vertices: numbers of shape (v, 3).
        faces: integers of shape (F, 3), F > 0.

    Returns:
        The corners of the nearest triangles, integers of shape (n, 3), and the weights of the corners, float64 of
        shape (n, 3), which are not negative and sum to 1.
    """
    corners = vertices[faces]
    centres = corners.mean(1)
    radii = np.linalg.norm(corners - centres[:, None], axis=2).max(1)
    # Every point starts at the nearest corner of all, which is exact for corners themselves.
    used, first = np.unique(faces, return_index=True)
    distance, nearest = cKDTree(vertices[used]).query(points)
    triangle, corner = np.divmod(first[nearest], 3)
    weights = np.eye(3)[corner]
    # Triangles of about one size at a time, the large ones first: one that is nearer than the best so far has its
    # centre within one radius more.
    size = np.frexp(radii)[1]
    for exponent in np.unique(size)[::-1]:
        members = np.flatnonzero(size == exponent)
        tree, radius = cKDTree(centres[members]), radii[members].max()
        rest = np.flatnonzero(distance > 0)
        pairs = tree.query_ball_point(points[rest], distance[rest] + radius, return_length=True)
        for part in np.split(rest, np.flatnonzero(np.diff(np.cumsum(pairs) // PAIRS)) + 1):
            found = tree.query_ball_point(points[part], distance[part] + radius, return_sorted=True)
            point = np.repeat(part, [len(near) for near in found])
            if not len(point):
                continue
            candidate = members[np.concatenate(found).astype(np.int64)]
            place = _weights(points[point], corners[candidate])
            away = np.linalg.norm((place[:, :, None] * corners[candidate]).sum(1) - points[point], axis=1)
            order = np.lexsort((candidate, away, point))
            best = order[np.unique(point[order], return_index=True)[1]]
            best = best[away[best] < distance[point[best]]]
            better = point[best]
            distance[better], triangle[better], weights[better] = away[best], candidate[best], place[best]
    return faces[triangle], weights


def _weights(points, corners):
    """Returns the barycentric weights of the nearest place of each triangle, also of one without an area."""
    ends = np.roll(corners, -1, axis=1)
    along = ends - corners
    square = (along * along).sum(2)
    share = ((points[:, None] - corners) * along).sum(2) / np.where(square > 0, square, 1)
    share = np.clip(share, 0, 1)
    gap = np.square(corners + share[..., None] * along - points[:, None]).sum(2)
    edge, every = gap.argmin(1), np.arange(len(points))
    weights = np.zeros((len(points), 3))
    weights[every, edge] = 1 - share[every, edge]
    weights[every, (edge + 1) % 3] = share[every, edge]
    # The foot of the perpendicular, where it is inside: areas seen along the normal.
    normal = np.cross(along[:, 0], along[:, 1])
    area = np.cross(along, points[:, None] - corners) @ normal[..., None]
    area = np.roll(area[..., 0], -1, axis=1)
    total = area.sum(1)
    inside = (area > 0).all(1) & (total > 0)
    weights[inside] = area[inside] / total[inside, None]
    return weights
