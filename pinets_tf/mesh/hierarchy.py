"""All levels of resolution of a template, with their spirals and the matrices between them, kept in a file."""

import dataclasses
import hashlib
import json
import warnings

import numpy as np
from scipy.sparse import csr_array

from pinets_tf.files import expanded, shown
from pinets_tf.mesh.coordinates import tangent_coordinates
from pinets_tf.mesh.decimation import checked_factor, decimate
from pinets_tf.mesh.spirals import positive, spirals
from pinets_tf.mesh.topology import checked
from pinets_tf.npz import Npz, write_npz

# Part of the name of a cache file: to be raised whenever the same arguments give another result.
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Level:
    """One resolution: vertices float64 (V, 3), faces int32 (F, 3), and spirals int32 (V, L), padded with V."""

    vertices: np.ndarray
    faces: np.ndarray
    spirals: np.ndarray

    @property
    def coordinates(self):
        """Where the vertices of each spiral lie, seen from its centre, as `tangent_coordinates` says."""
        return tangent_coordinates(self.vertices, self.faces, self.spirals)


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """The levels from fine to coarse; `down[i]` leads from level i to level i + 1 and `up[i]` back."""

    levels: tuple[Level, ...]
    down: tuple[csr_array, ...]
    up: tuple[csr_array, ...]


def hierarchy(vertices, faces, factors=(4, 4, 4, 4), *, hops=1, dilation=1, lengths=None, cache=None):
    """Returns the levels of a template, each with the spirals of its vertices, as `decimate` and `spirals` make them.

    Args:
        vertices: numbers of shape (V, 3): one shape, such as the mean of the training shapes.
        faces: integers of shape (F, 3), repaired as `clean_faces` says.
        factors: by how much each level is coarser than the one before; there is one more level than factors.
        hops: rings of a spiral, an integer or one for each level.
        dilation: which share of the spiral is used, an integer or one for each level.
        lengths: the length of the spirals, `None` for that of `spirals`, or a list with either for each level.
        cache: a folder that keeps the result, made if it is not there, or `None`. The name of the file is made of the
            template and all arguments, so that any change of them gives a file of its own. A file that cannot be read
            is made again, with a warning; where none can be written, a warning says so.

    Returns:
        A `Hierarchy`.

    Raises:
        ValueError: if the template or an argument does not fit, or a level cannot be reached, as `decimate` says.

    Example:

    >>> from pinets_tf.mesh import deformed_spheres
    >>> shapes = deformed_spheres(1, subdivisions=2)
    >>> result = hierarchy(shapes.vertices[0], shapes.faces, factors=(4, 4))
    >>> [level.spirals.shape for level in result.levels]
    [(162, 7), (41, 8), (11, 7)]

    Source: Bouritsas et al., "Neural 3D Morphable Models", ICCV 2019; Chrysos et al., "Π-nets", CVPR 2020, Sec. 5.3.
    The factors are those of the official code for 5,023 vertices.
    """
    vertices, faces = checked(vertices, faces)
    factors = tuple(checked_factor(factor) for factor in factors)
    options = {
        "hops": _for_each_level(hops, len(factors) + 1, "hops"),
        "dilation": _for_each_level(dilation, len(factors) + 1, "dilation"),
        "length": _for_each_level(lengths, len(factors) + 1, "lengths"),
    }
    if cache is None:
        return _make(vertices, faces, factors, options)
    path = expanded(cache) / f"hierarchy-{_key(vertices, faces, factors, options)}.npz"
    if path.is_file():
        try:
            return _read(path, len(factors))
        except (OSError, KeyError, TypeError, ValueError) as error:
            warnings.warn(f"{shown(path)} cannot be read ({error}) and is made again.", stacklevel=2)
    result = _make(vertices, faces, factors, options)
    try:
        _write(path, result)
    except OSError as error:
        warnings.warn(
            f"{shown(path)} cannot be written ({error}), so the levels are made again next time.", stacklevel=2
        )
    return result


def _for_each_level(value, levels, name):
    values = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value,) * levels
    if len(values) != levels:
        raise ValueError(
            f"{name} is one value, or one for each level. "
            f"Received: {name}={value!r} for {levels} levels, one more than factors. Pass {levels} values."
        )
    return tuple(None if number is None and name == "lengths" else positive(number, name) for number in values)


def _make(vertices, faces, factors, options):
    levels, down, up = [], [], []
    for number in range(len(factors) + 1):
        if number:
            coarse = decimate(vertices, faces, factors[number - 1])
            vertices, faces = coarse.vertices, coarse.faces
            down.append(coarse.down)
            up.append(coarse.up)
        chosen = {name: values[number] for name, values in options.items()}
        levels.append(Level(vertices, faces, spirals(vertices, faces, **chosen)))
    return Hierarchy(tuple(levels), tuple(down), tuple(up))


def _key(vertices, faces, factors, options):
    described = json.dumps([FORMAT, vertices.shape, faces.shape, factors, options])
    digest = hashlib.sha256(described.encode())
    digest.update(np.ascontiguousarray(vertices, "<f8").tobytes())
    digest.update(np.ascontiguousarray(faces, "<i4").tobytes())
    return digest.hexdigest()


def _write(path, result):
    arrays = {}
    for number, level in enumerate(result.levels):
        arrays.update({f"{field}_{number}": value for field, value in vars(level).items()})
    for name, matrices in (("down", result.down), ("up", result.up)):
        for number, matrix in enumerate(matrices):
            parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "shape": matrix.shape}
            arrays.update({f"{name}_{number}_{part}": value for part, value in parts.items()})
    write_npz(path, **arrays)


def _read(path, steps):
    with Npz(path, "Levels are an .npz file that this function wrote") as file:
        levels = tuple(
            Level(*(file[f"{field.name}_{number}"] for field in dataclasses.fields(Level)))
            for number in range(steps + 1)
        )

        def matrix(name):
            parts = (file[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
            matrix = csr_array(tuple(parts), shape=tuple(file[f"{name}_shape"].tolist()))
            # The products of SciPy read what an index says without looking.
            matrix.check_format(full_check=True)
            return matrix

        down, up = (tuple(matrix(f"{name}_{number}") for number in range(steps)) for name in ("down", "up"))
        return Hierarchy(levels, down, up)
