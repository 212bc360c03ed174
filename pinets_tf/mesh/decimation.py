"""A coarser mesh of some vertices of a finer one, and the two matrices that lead from one to the other."""

import dataclasses
import heapq
import math

import numpy as np
from scipy.sparse import csr_array

from pinets_tf.mesh.projection import barycentric
from pinets_tf.mesh.topology import checked, components

# Weights beside the squared distance from the planes of the triangles: of planes that stand on the boundary, which keep
# its shape, and of the distance from the vertices themselves, which spreads the vertices where the surface is flat.
BOUNDARY_WEIGHT = 1.0
SPREAD_WEIGHT = 1e-3
# A triangle may turn by so much in one collapse (the cosine), and must not become narrower than this, where an
# equilateral triangle has 1. Where nothing else is left, only the topology is kept.
LEAST_COSINE = 0.2
LEAST_ROUNDNESS = 0.05


@dataclasses.dataclass(frozen=True)
class Coarse:
    """The coarser mesh that `decimate` makes.

    `vertices` float64 (v, 3) and `faces` int32 (F, 3); `down`, a float32 CSR matrix (v, V) with one 1 a row, selects
    the fine vertices that are kept, in their order; `up`, a float32 CSR matrix (V, v), has three weights a row at most,
    which are not negative and sum to 1.
    """

    vertices: np.ndarray
    faces: np.ndarray
    down: csr_array
    up: csr_array


def decimate(vertices, faces, factor):
    """Returns a mesh with V / factor vertices, rounded up, by collapsing edges in the order of their quadric errors.

    An edge collapses into one of its ends, so the coarse vertices are some of the fine ones. What it costs is the
    squared distance of that end from the planes of all triangles that have come together there, weighted with their
    areas. The topology stays: no component and no hole goes away, no two sheets grow together, and what was a manifold
    is one after it. Triangles do not turn over, unless the number of vertices cannot be reached otherwise.

    Vertices in no triangle are left out of the coarse mesh. Edges of more than two triangles are treated as boundaries.

    For `up`, each fine vertex is projected to the nearest triangle of what is left of its own connected component, one
    in no triangle to the nearest of all; a vertex that was kept has the weight 1 on itself. The same input gives the
    same result.

    Args:
        vertices: numbers of shape (V, 3).
        faces: integers of shape (F, 3), repaired as `clean_faces` says.
        factor: a number above 1.

    Returns:
        A `Coarse`.

    Raises:
        ValueError: if vertices, faces or factor do not fit, or if more than 1.1 times the asked number of vertices are
            left when no edge can collapse any more.

    Example:

    >>> from pinets_tf.mesh import deformed_spheres
    >>> shapes = deformed_spheres(1, subdivisions=2)
    >>> coarse = decimate(shapes.vertices[0], shapes.faces, factor=4)
    >>> coarse.down.shape, coarse.up.shape
    ((41, 162), (162, 41))

    Source: Garland and Heckbert, "Surface Simplification Using Quadric Error Metrics", SIGGRAPH 1997, and for the two
    matrices Ranjan et al., "Generating 3D Faces Using Convolutional Mesh Autoencoders", ECCV 2018, Sec. 3.
    """
    vertices, faces = checked(vertices, faces)
    factor = checked_factor(factor)
    wanted = math.ceil(len(vertices) / factor)
    if wanted < 3 or not len(faces):
        raise ValueError(
            "A coarse mesh has at least one triangle. "
            f"Received: {len(vertices)} vertices, {len(faces)} triangles and factor={factor:g}, which leaves {wanted}. "
            "Pass a smaller factor, or fewer factors."
        )
    left = _Collapses(vertices, faces).until(wanted)
    kept, renumbered = np.unique(left, return_inverse=True)
    if len(kept) > 1.1 * wanted:
        raise ValueError(
            "A decimation comes within a tenth of the number of vertices that was asked for. "
            f"Received: factor={factor:g} for {len(vertices)} vertices, so {wanted}, where {len(kept)} are left and no "
            "edge can collapse without losing a component or a hole. Pass a smaller factor, fewer factors, or a "
            "template without its smallest parts."
        )
    coarse, left = vertices[kept], renumbered.reshape(-1, 3).astype(np.int32)
    ones = np.ones(len(kept), np.float32)
    down = csr_array((ones, kept, np.arange(len(kept) + 1)), shape=(len(kept), len(vertices)))
    return Coarse(coarse, left, down, _up(vertices, faces, kept, coarse, left))


def checked_factor(factor):
    """Returns the factor as a float, or raises a ValueError."""
    if not isinstance(factor, (int, float, np.integer, np.floating)) or not 1 < factor < math.inf:
        raise ValueError(
            "The factor of a decimation is a number above 1. "
            f"Received: factor={factor!r}. Pass for example 4, which leaves a quarter of the vertices."
        )
    return float(factor)


def _up(vertices, faces, kept, coarse, coarse_faces):
    component = components(faces, len(vertices))
    # Those in no triangle are one group, which has no triangles of its own.
    component = np.where(np.bincount(component)[component] == 1, -1, component)
    of_face = component[kept][coarse_faces[:, 0]]
    by_component, faces_by_component = np.argsort(component, kind="stable"), np.argsort(of_face, kind="stable")
    corners, weights = np.zeros((len(vertices), 3), np.int64), np.zeros((len(vertices), 3))
    for group in np.split(by_component, np.flatnonzero(np.diff(component[by_component])) + 1):
        start, end = np.searchsorted(of_face, component[group[0]] + np.arange(2), sorter=faces_by_component)
        near = coarse_faces[faces_by_component[start:end]] if end > start else coarse_faces
        corners[group], weights[group] = barycentric(vertices[group], coarse, near)
    corners[kept], weights[kept] = np.arange(len(kept))[:, None], (1, 0, 0)
    rows = np.repeat(np.arange(len(vertices)), 3)
    up = csr_array((weights.ravel().astype(np.float32), (rows, corners.ravel())), shape=(len(vertices), len(kept)))
    up.eliminate_zeros()
    return up


class _Collapses:
    """A mesh while its edges collapse.

    Plain lists of numbers, since each collapse touches about ten triangles, for which NumPy takes longer than Python.
    """

    def __init__(self, vertices, faces):
        # Centred, so that the quadrics keep their digits.
        points = vertices - vertices.mean(0)
        self.points = points.tolist()
        self.faces = faces.tolist()
        self.around: list[set[int]] = [set() for _ in range(len(vertices))]
        for number, face in enumerate(self.faces):
            for vertex in face:
                self.around[vertex].add(number)
        self.quadrics = _quadrics(points, faces)
        self.count = sum(map(bool, self.around))
        self.version = [0] * len(vertices)

    def until(self, wanted):
        """Collapses edges until so many vertices are left, or no more can; returns the triangles."""
        for shapely in (True, False):
            before = None
            # A collapse that was refused may be possible once others around it have been made.
            while self.count > wanted and self.count != before:
                before = self.count
                self._pass(wanted, shapely)
        return np.array([face for face in self.faces if face is not None], np.int64)

    def _pass(self, wanted, shapely):
        queue = [
            (self._cost(vertex, other), vertex, other, 0, 0)
            for vertex, faces in enumerate(self.around)
            for other in sorted({corner for face in faces for corner in self.faces[face]} - {vertex})
        ]
        self.version = [0] * len(self.version)
        heapq.heapify(queue)
        while queue and self.count > wanted:
            _, vertex, into, version, version_into = heapq.heappop(queue)
            if self.version[vertex] != version or self.version[into] != version_into:
                continue
            if not self._possible(vertex, into) or (shapely and self._spoils(vertex, into)):
                continue
            self._collapse(vertex, into)
            version = self.version[into]
            for other in sorted({corner for face in self.around[into] for corner in self.faces[face]} - {into}):
                for ends in ((into, other), (other, into)):
                    versions = (self.version[end] for end in ends)
                    heapq.heappush(queue, (self._cost(*ends), *ends, *versions))

    def _cost(self, vertex, into):
        a, b = self.quadrics[vertex], self.quadrics[into]
        x, y, z = self.points[into]
        return (
            (a[0] + b[0]) * x * x
            + (a[1] + b[1]) * y * y
            + (a[2] + b[2]) * z * z
            + 2 * ((a[3] + b[3]) * x * y + (a[4] + b[4]) * x * z + (a[5] + b[5]) * y * z)
            + 2 * ((a[6] + b[6]) * x + (a[7] + b[7]) * y + (a[8] + b[8]) * z)
            + a[9]
            + b[9]
        )

    def _neighbours(self, vertex):
        """Returns how many triangles each edge of the vertex has, by its other end."""
        edges: dict[int, int] = {}
        for face in self.around[vertex]:
            for corner in self.faces[face]:
                edges[corner] = edges.get(corner, 0) + 1
        del edges[vertex]
        return edges

    def _possible(self, vertex, into):
        """Whether the surface has the same topology when `vertex` has gone into its neighbour `into`."""
        edges, edges_into = self._neighbours(vertex), self._neighbours(into)
        rim = [other for other, count in edges.items() if count != 2]
        # A vertex of a boundary goes along it. One where several boundaries meet stays.
        if rim and (into not in rim or len(rim) != 2):
            return False
        shared = self.around[vertex] & self.around[into]
        opposite = {corner for face in shared for corner in self.faces[face]} - {vertex, into}
        # What both ends touch is what their common triangles touch, or two sheets would grow together.
        if (edges.keys() & edges_into.keys()) != opposite:
            return False
        # Each edge opposite to the ends keeps a triangle, and no triangle comes twice.
        if any(edges[corner] + edges_into[corner] == 2 for corner in opposite):
            return False
        there = {frozenset(self.faces[face]) for face in self.around[into]}
        moved = (self.faces[face] for face in self.around[vertex] - shared)
        return not any(frozenset(into if corner == vertex else corner for corner in face) in there for face in moved)

    def _spoils(self, vertex, into):
        """Whether a triangle turns too far, or becomes too narrow."""
        for face in self.around[vertex]:
            corners = self.faces[face]
            if into in corners:
                continue
            turn = corners.index(vertex)
            p, q = self.points[corners[turn - 2]], self.points[corners[turn - 1]]
            old, new = _normal(self.points[vertex], p, q), _normal(self.points[into], p, q)
            square_old, square_new = _dot(old, old), _dot(new, new)
            if _dot(old, new) < LEAST_COSINE * math.sqrt(square_old * square_new):
                return True
            sides = (_square(p, q), _square(p, self.points[into]), _square(q, self.points[into]))
            # Twice the area over the mean square of the sides, and the same for what the triangle was.
            roundness = math.sqrt(12 * square_new) / (sum(sides) or 1)
            if roundness < LEAST_ROUNDNESS:
                sides = (_square(p, q), _square(p, self.points[vertex]), _square(q, self.points[vertex]))
                if roundness < math.sqrt(12 * square_old) / (sum(sides) or 1):
                    return True
        return False

    def _collapse(self, vertex, into):
        for face in self.around[vertex] & self.around[into]:
            for corner in self.faces[face]:
                self.around[corner].discard(face)
            self.faces[face] = None
        for face in self.around[vertex]:
            self.faces[face] = [into if corner == vertex else corner for corner in self.faces[face]]
            self.around[into].add(face)
        self.around[vertex] = set()
        self.quadrics[into] = [a + b for a, b in zip(self.quadrics[vertex], self.quadrics[into])]
        self.version[vertex] += 1
        self.version[into] += 1
        self.count -= 1


def _quadrics(points, faces):
    """Returns the ten numbers of the quadric of each vertex: xx, yy, zz, xy, xz, yz, x, y, z, 1."""
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    normals = np.cross(b - a, c - a)
    areas = np.linalg.norm(normals, axis=1)
    normals /= np.where(areas > 0, areas, 1)[:, None]
    total = np.zeros((len(points), 10))
    planes = _plane(normals, a, areas)
    for corner in range(3):
        np.add.at(total, faces[:, corner], planes)
        for axis in np.eye(3):
            vertex = faces[:, corner]
            spread = _plane(np.tile(axis, (len(faces), 1)), points[vertex], SPREAD_WEIGHT / 3 * areas)
            np.add.at(total, vertex, spread)
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, edge, count = np.unique(np.sort(ends, axis=1), axis=0, return_inverse=True, return_counts=True)
    rim = np.flatnonzero(count[edge.ravel()] != 2)
    start, along = points[ends[rim, 0]], points[ends[rim, 1]] - points[ends[rim, 0]]
    across = np.cross(along, normals[rim % len(faces)])
    lengths = np.linalg.norm(across, axis=1)
    across /= np.where(lengths > 0, lengths, 1)[:, None]
    walls = _plane(across, start, BOUNDARY_WEIGHT * np.square(lengths))
    for end in range(2):
        np.add.at(total, ends[rim, end], walls)
    return total.tolist()


def _plane(normals, points, weights):
    x, y, z = normals.T
    offset = -(normals * points).sum(1)
    columns = (x * x, y * y, z * z, x * y, x * z, y * z, x * offset, y * offset, z * offset, offset * offset)
    return np.stack(columns, axis=1) * weights[:, None]


def _normal(a, b, c):
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _square(a, b):
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2
