"""Shapes of one topology: from a mesh file, an .npz file, or a folder of mesh files."""

import dataclasses
from pathlib import PurePosixPath

import numpy as np

from pinets_tf.files import expanded, find, shown
from pinets_tf.mesh.formats import vertices_and_triangles
from pinets_tf.mesh.topology import check_finite, clean_faces
from pinets_tf.npz import Npz

SUFFIXES = (".obj", ".off", ".ply", ".stl")
WANTED = "an .npz file with the arrays vertices (n, V, 3) and faces (F, 3)"


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Shapes of one topology: vertices float32 (n, V, 3), faces int32 (F, 3), and n names.

    `left_out` is one line that counts and names the files of a folder that were not read, or empty.
    """

    vertices: np.ndarray
    faces: np.ndarray
    names: tuple[str, ...]
    left_out: str = ""

    @property
    def unused_vertices(self):
        """How many of the V vertices are in no face."""
        return self.vertices.shape[1] - len(np.unique(self.faces))


def read_shapes(path):
    """Reads all shapes of a file or a folder, which must have one topology.

    A folder is searched with its subfolders for OBJ, OFF, PLY and STL files, as `pinets_tf.files` says. They are read
    one after the other in the order of their paths and named after these. All must have the number of vertices of the
    first and the same triangles; these may come in another order. Triangles are repaired once, as `clean_faces` says.

    Args:
        path: a mesh file as `read_mesh` takes it, an `.npz` file with the arrays `vertices` (n, V, 3), or (V, 3), and
            `faces` (F, 3), or a folder of mesh files.

    Returns:
        A `Shapes`, in the units of the files.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ImportError: if trimesh is needed and not installed.
        ValueError: if a file cannot be read, if vertices and faces do not fit, if a coordinate is not finite, if a
            folder holds no mesh file, or if the files of a folder differ in their topology.
    """
    path = expanded(path)
    if not path.exists():
        raise FileNotFoundError(
            f"Shapes are read from a folder of mesh files, a mesh file ({', '.join(SUFFIXES)}), or {WANTED}. "
            f"Received: {path.name!r}, which is not in {shown(path.resolve().parent)}. "
            "Pass the path of one that exists."
        )
    if path.is_dir():
        return _read_folder(path)
    if path.suffix.lower() == ".npz":
        return _read_npz(path)
    vertices, faces = read_mesh(path)
    return Shapes(vertices[None], _triangles(faces, len(vertices), path), (shown(path.stem),))


def read_mesh(path):
    """Reads one mesh, with its vertices in the order of the file.

    Normals, colours, textures, groups, lines and points are left out. A polygon becomes the triangles that its first
    corner spans with its other edges. An OBJ or PLY file has the vertices of its positions, also where several textures
    meet in one. An STL file has no common vertices: equal positions become one vertex, numbered as they first come.

    Args:
        path: an OBJ, OFF, PLY or STL file.

    Returns:
        The vertices, float32 of shape (V, 3), and the triangles as they are in the file, int64 of shape (F, 3).

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if trimesh is not installed.
        ValueError: if the file is no mesh, cannot be read, or has a coordinate that is not finite or an index beyond
            its vertices.
    """
    path = expanded(path)
    kind = path.suffix.lower()
    if not path.is_file():
        raise FileNotFoundError(
            f"A mesh is a file ({', '.join(SUFFIXES)}). "
            f"Received: {path.name!r}, which is not in {shown(path.resolve().parent)}. "
            "Pass the path of one that exists."
        )
    if kind not in SUFFIXES:
        raise ValueError(
            f"A mesh is a file that ends in {', '.join(SUFFIXES)}. "
            f"Received: {shown(path)}. Convert it, or save all shapes as {WANTED}."
        )
    trimesh = trimesh_module(f"The mesh {shown(path)}")
    try:
        vertices, faces = vertices_and_triangles(trimesh, kind, path.read_bytes())
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"A mesh file has vertices and faces. Received: {shown(path)} ({path.stat().st_size:,} bytes), which "
            f"cannot be read ({reason}). The file is truncated, not a mesh, or has no faces; export or copy it again."
        ) from error
    vertices = _finite(vertices, shown(path))
    if kind == ".stl":
        places, first, number = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        vertices, faces = places[order], np.argsort(order)[number.reshape(-1)[faces]]
    return vertices, faces


def trimesh_module(purpose):
    """Returns the module trimesh, or says which extra has it."""
    try:
        import trimesh
    except ImportError as error:
        raise ImportError(
            f"{purpose} is made or read with trimesh. Received: it is not installed ({error}). "
            "Install it with: pip install 'pinets_tf[mesh]'. An .npz file of shapes needs nothing."
        ) from error
    return trimesh


def _read_folder(folder):
    found = find(folder, SUFFIXES)
    if not found.names:
        raise ValueError(
            f"A folder of shapes has at least one mesh file ({', '.join(SUFFIXES)}). "
            f"Received: {shown(folder)}, where there is none, in no subfolder either. Pass another folder, or {WANTED}."
            f"{' ' * bool(found.description)}{found.description}"
        )
    first, *others = found.paths
    first_vertices, first_faces = read_mesh(first)
    triangles = _triangles(first_faces, len(first_vertices), first)
    vertices = np.empty((len(found.names), *first_vertices.shape), np.float32)
    vertices[0] = first_vertices
    for number, path in enumerate(others, 1):
        more, faces = read_mesh(path)
        if len(more) != len(first_vertices):
            _refuse(first, path, f"{len(more):,} vertices instead of {len(first_vertices):,}")
        if not np.array_equal(faces, first_faces):
            one, other = _face_set(triangles), _face_set(_triangles(faces, len(more), path))
            if one != other:
                what = (
                    f"{len(other - one):,} triangles that the first has not, and not {len(one - other):,} that it has"
                )
                _refuse(first, path, what)
        vertices[number] = more
    names = tuple(shown(PurePosixPath(name).with_suffix("")) for name in found.names)
    return Shapes(vertices, triangles, names, found.description)


def _triangles(faces, vertex_count, path):
    faces = clean_faces(faces, vertex_count, shown(path))
    if not len(faces):
        raise ValueError(
            "Shapes have triangles with three different vertices. "
            f"Received: {shown(path)}, where there is none. Save its faces with it."
        )
    return faces


def _face_set(faces):
    """Returns the triangles as a set, each beginning with its smallest vertex."""
    start = faces.argmin(1)[:, None]
    return set(map(tuple, np.take_along_axis(faces, (start + np.arange(3)) % 3, axis=1).tolist()))


def _refuse(first, path, what):
    raise ValueError(
        "All shapes of a folder have one topology: the same vertices in the same order, and the same triangles. "
        f"Received: {shown(path)} with {what}, compared with {shown(first)}. "
        "Register the shapes to one template first, or move this file out of the folder."
    )


def _read_npz(path):
    with Npz(path, f"Shapes must be {WANTED}") as file:
        missing = [name for name in ("vertices", "faces") if name not in file.names]
        if missing:
            raise ValueError(
                f"Shapes must be {WANTED}. "
                f"Received: {shown(path)} with {', '.join(file.names) or 'no arrays'}. Add {' and '.join(missing)}."
            )
        vertices, faces = file["vertices"], file["faces"]
    if vertices.ndim == 2:
        vertices = vertices[None]
    if vertices.ndim != 3 or vertices.shape[2] != 3 or not vertices.size or vertices.dtype.kind not in "fiu":
        raise ValueError(
            "Vertices must be numbers of shape (n, V, 3) or (V, 3), n and V > 0. "
            f"Received: vertices of shape {vertices.shape} and type {vertices.dtype} in {shown(path)}. "
            "Save one row of x, y and z for each vertex."
        )
    vertices = _finite(vertices, shown(path))
    faces = _triangles(faces, vertices.shape[1], path)
    count = len(vertices)
    stem = shown(path.stem)
    names = (stem,) if count == 1 else tuple(f"{stem}-{number}" for number in range(count))
    return Shapes(vertices, faces, names)


def _finite(vertices, where):
    """Returns coordinates as float32, which must be finite as such."""
    with np.errstate(over="ignore"):
        vertices = np.ascontiguousarray(vertices, np.float32)
    finite = np.isfinite(vertices).all((-2, -1))
    if not finite.all():
        check_finite(vertices, where if finite.ndim == 0 else f"{where}, first in shape {finite.argmin()}")
    return vertices
