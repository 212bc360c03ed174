"""Spirals: the neighbours of each vertex of a mesh in an order that every vertex shares."""

import operator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from pinets_tf.mesh.topology import checked, components

# Lengths that differ by less than this are taken as equal, so that rounding does not choose between neighbours.
TOLERANCE = 1e-6


def spirals(vertices, faces, *, length=None, hops=1, dilation=1, references=None):
    """Returns the spiral of each vertex: itself, its neighbours counter-clockwise, their neighbours, and so on.

    Counter-clockwise as seen from the side from which the triangles are counter-clockwise, so from outside for most
    meshes. Ring n + 1 follows ring n round: for each vertex of ring n in turn, the neighbours that are in no ring yet,
    counter-clockwise round that vertex from the one that it was found from.

    The first neighbour is the one on the shortest path, by edge lengths, to the reference of its component; of several
    (within 1e-6 of the length) the one with the smallest index. For the reference itself it is the nearest. On a
    boundary the ring goes counter-clockwise from the first neighbour to the end of the open fan, and on from its start.
    Where several fans meet in one vertex, or more than two triangles in one edge, the fan of the first neighbour
    is followed by that of the smallest index that is left, from its start if it is open. A vertex in no triangle is
    alone in its spiral. The result depends neither on the order of the faces, nor on where each of them starts, nor on
    position, rotation and scale of the mesh.

    Args:
        vertices: numbers of shape (V, 3).
        faces: integers of shape (F, 3), repaired as `clean_faces` says.
        length: L, where longer spirals are cut off and to which shorter ones are padded with V, a vertex that does not
            exist and whose features are to be zero. `None` is the integer part of the mean of all sizes plus twice
            their standard deviation.
        hops: how many rings a spiral has.
        dilation: d takes every d-th vertex of the spiral, beginning with the vertex itself. It makes no further rings:
            pass more hops with it.
        references: indices of vertices. A component without one gets that which is farthest from the mean of the
            component (of several, the smallest index); in a component with several, the nearest of them counts.

    Returns:
        An int32 array of shape (V, L).

    Raises:
        ValueError: if vertices, faces, references or a number do not fit.

    Example:

    >>> vertices = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]]
    >>> faces = [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]]
    >>> spirals(vertices, faces, length=5)[0].tolist()
    [0, 1, 2, 3, 4]

    Source: Bouritsas et al., "Neural 3D Morphable Models", ICCV 2019, Sec. 3, which has one fixed reference for each
    component. The length is that of the official code of Chrysos et al., "Π-nets", CVPR 2020, Sec. 5.3.
    """
    vertices, faces = checked(vertices, faces)
    hops, dilation = positive(hops, "hops"), positive(dilation, "dilation")
    length = None if length is None else positive(length, "length")
    rings = _rings(faces, _first_neighbours(vertices, faces, references))
    found = [_spiral(vertex, rings, hops)[::dilation] for vertex in range(len(vertices))]
    if length is None:
        sizes = np.array([len(spiral) for spiral in found])
        length = int(sizes.mean() + 2 * sizes.std())
    result = np.full((len(vertices), length), len(vertices), np.int32)
    for row, spiral in zip(result, found):
        row[: len(spiral)] = spiral[:length]
    return result


def positive(value, name):
    """Returns `value` as a Python integer, or raises a ValueError that names it."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(
            f"{name} is a positive integer. Received: {name}={value!r}. Pass 1 or more, or leave the argument out."
        )
    return number


def _spiral(vertex, rings, hops):
    spiral, seen = [vertex], {vertex}
    parents = {vertex: None}
    for _ in range(hops):
        found = {}
        for inner, parent in parents.items():
            around = rings[inner]
            turn = around.index(parent) if parent is not None else 0
            for outer in around[turn:] + around[:turn]:
                if outer not in seen:
                    seen.add(outer)
                    found[outer] = inner
        spiral += found
        parents = found
    return spiral


def _rings(faces, first):
    """Returns the neighbours of each vertex as a list, in the order of its fans, beginning with `first[vertex]`."""
    corners, following, preceding = faces.ravel(), np.roll(faces, -1, 1).ravel(), np.roll(faces, 1, 1).ravel()
    order = np.lexsort((preceding, following, corners))
    bounds = np.searchsorted(corners[order], np.arange(len(first) + 1)).tolist()
    arrows = list(zip(following[order].tolist(), preceding[order].tolist()))
    return [_ring(arrows[start:end], at) for start, end, at in zip(bounds[:-1], bounds[1:], first.tolist())]


def _ring(arrows, first):
    """Returns the ring of one vertex, where each triangle is an arrow from one neighbour to the next."""
    after: dict[int, list[int]] = {}
    before: dict[int, list[int]] = {}
    for tail, head in arrows:
        after.setdefault(tail, []).append(head)
        before.setdefault(head, []).append(tail)
    left = after.keys() | before.keys()

    def walk(start, steps):
        path = [start]
        left.discard(start)
        while (step := next((to for to in steps.get(path[-1], ()) if to in left), None)) is not None:
            path.append(step)
            left.discard(step)
        return path

    ring: list[int] = []
    while left:
        start = min(left) if ring else first
        to_the_end = walk(start, after)
        from_the_start = walk(start, before)[:0:-1]
        ring += from_the_start + to_the_end if ring else to_the_end + from_the_start
    return ring


def _first_neighbours(vertices, faces, references):
    """Returns the first neighbour of each vertex, V where it has none."""
    count = len(vertices)
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    first = np.full(count, count)
    tails, heads = pairs.T
    if not len(pairs):
        _references(vertices, faces, references)
        return first
    lengths = np.linalg.norm(vertices[tails] - vertices[heads], axis=1)
    graph = coo_array((lengths, (tails, heads)), shape=(count, count)).tocsr()
    distance = dijkstra(graph, indices=_references(vertices, faces, references), min_only=True)
    through = distance[heads] + lengths
    shortest = np.full(count, np.inf)
    np.minimum.at(shortest, tails, through)
    among = through <= shortest[tails] * (1 + TOLERANCE)
    np.minimum.at(first, tails[among], heads[among])
    return first


def _references(vertices, faces, references):
    """Returns the references that were given, and one for each component that has none."""
    count, component = len(vertices), components(faces, len(vertices))
    given = np.array([] if references is None else references)
    if given.ndim != 1 or (given.size and (given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= count)):
        raise ValueError(
            f"References are indices of vertices, from 0 to {count - 1}. "
            f"Received: references={references!r}. Pass a list such as [0], or leave them out."
        )
    given = given.astype(np.int64)
    sizes = np.bincount(component)
    means = np.stack([np.bincount(component, axis) / sizes for axis in vertices.T], axis=1)
    distance = np.linalg.norm(vertices - means[component], axis=1)
    farthest = np.zeros(len(sizes))
    np.maximum.at(farthest, component, distance)
    among = np.flatnonzero(distance >= farthest[component] * (1 - TOLERANCE))
    _, first = np.unique(component[among], return_index=True)
    return np.union1d(given, np.delete(among[first], component[given]))
