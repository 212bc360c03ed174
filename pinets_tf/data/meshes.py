"""Shapes of one topology: a name or a path in, millimetres in three splits and endless `tf.data` batches out."""

import dataclasses
import functools
import math
import os
import warnings
from pathlib import PurePosixPath

import numpy as np
import tensorflow as tf

from pinets_tf.data.epochs import full_batches, shuffled
from pinets_tf.data.fingerprints import fingerprint
from pinets_tf.files import expanded, find, shown
from pinets_tf.mesh import Shapes, clean_faces, deformed_spheres, read_shapes
from pinets_tf.mesh.files import SUFFIXES
from pinets_tf.npz import EXPANSION, ROOM

SAMPLE = "sample"
UNITS = {"millimetres": 1.0, "centimetres": 10.0, "metres": 1000.0}
FILES = {"train": ("train.npz",), "validation": ("val.npz", "validation.npz"), "test": ("test.npz",)}
HDF5 = (".h5", ".hdf5")
SLICED_FROM = 1000
LAST_FOR_VALIDATION = 100
PLAUSIBLE_MM = (50.0, 10_000.0)


@dataclasses.dataclass(frozen=True)
class Meshes:
    """Shapes of one topology in three splits, in millimetres.

    `notes` are lines that whoever trains should read first: which files were not read, and vertices without a face.
    """

    train: Shapes
    validation: Shapes
    test: Shapes
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def fingerprint(self):
        """A short string that differs where vertices, in millimetres, or faces do."""
        return fingerprint(self.faces, *(shapes.vertices for shapes in (self.train, self.validation, self.test)))

    @property
    def faces(self):
        return self.train.faces

    def mean_and_deviation(self):
        """Returns mean and standard deviation of each coordinate over the training shapes, both (V, 3), in millimetres.

        A deviation within the rounding of float32, as that of a vertex that never moves, is 0.
        """
        # In parts, since float64 coordinates of the whole set are twice its size.
        vertices = self.train.vertices
        parts = np.array_split(vertices, 1 + len(vertices) // 1000)
        mean = sum(part.sum(0, dtype="float64") for part in parts) / len(vertices)
        variance = sum(np.square(part - mean).sum(0) for part in parts) / len(vertices)
        deviation = np.sqrt(variance)
        still = deviation <= 4 * np.finfo("float32").eps * np.abs(mean).max()
        return mean.astype("float32"), np.where(still, 0.0, deviation).astype("float32")


def load(dataset, unit="millimetres", test_sequences=()):
    """Loads shapes of one topology and splits them for training, validation and test.

    A folder with `train.npz`, `test.npz` and perhaps `val.npz` is split already. Everything else is one row of shapes
    in the order of the file, or of the paths in a folder, and is split by position:

    - with `test_sequences`, the shapes below a folder of one of these names are for the test, such as one expression of
      CoMA or one movement of Dynamic FAUST;
    - without them, of 1,000 shapes and more the first ten of every hundred, as the split "sliced" of CoMA;
    - of fewer, of every ten the fourth is for the test and the seventh for validation; if there are fewer than ten, one
      each.

    Where that leaves validation open, it has the last 100 of the training shapes, or a tenth of them if that is less.
    Neighbouring frames of a film are alike, so that only `test_sequences` tests what is really new.

    Args:
        dataset: `"sample"` (240 deformed spheres of 642 vertices); the path of a folder of mesh files, such as CoMA's
            SUBJECT/SEQUENCE/*.ply; an `.npz` with `vertices` (n, V, 3) and `faces` (F, 3); a folder of such files as
            above; or an `.hdf5`, or a folder of them, in the form of the registrations of Dynamic FAUST: `faces`, and
            arrays (V, 3, frames) under the names of the sequences. Which files of a folder count, `pinets_tf.files`
            says.
        unit: `"millimetres"`, `"centimetres"` or `"metres"`, the unit of the files.
        test_sequences: names or paths of folders, or names of sequences of an `.hdf5`.

    Returns:
        A `Meshes`, in millimetres. Shapes smaller than 50 mm or larger than 10 m are warned of.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ImportError: if trimesh is needed and not installed.
        ValueError: if a file cannot be read, topologies differ, a sequence is not there, or a split would be empty.
    """
    if unit not in UNITS:
        raise ValueError(f"`unit` must be one of {', '.join(UNITS)}. Received: unit={unit!r}. Pass one of them.")
    if dataset == SAMPLE:
        return _split(deformed_spheres(240), (), SAMPLE)
    path = expanded(dataset)
    arrays = find(path, (".npz",), nested=False) if path.is_dir() else None
    if arrays and any(name.lower() in FILES["train"] for name in arrays.names):
        if test_sequences:
            raise ValueError(
                "Sequences are chosen from one row of shapes. Received: "
                f"test_sequences={list(test_sequences)} for {shown(path)}, which is split already. Leave them out."
            )
        meshes = _read_splits(arrays)
    else:
        shapes = _read_hdf5(path) or read_shapes(path)
        meshes = dataclasses.replace(
            _split(shapes, [_below(path, name) for name in test_sequences], path), notes=(shapes.left_out,)
        )
    for shapes in (meshes.train, meshes.validation, meshes.test):
        _to_millimetres(shapes.vertices, unit, path)
    _warn_of_size(meshes, unit)
    unused = meshes.train.unused_vertices
    of_vertices = f"{unused:,} vertices are in no face, and are learned like the others" if unused else ""
    return dataclasses.replace(meshes, notes=tuple(filter(None, (*meshes.notes, of_vertices))))


def training_batches(meshes, batch_size, *, epochs, first_epoch=0, seed=0):
    """Returns shuffled batches for epochs `first_epoch` to `epochs`, as one `tf.data.Dataset`.

    The order depends on `seed` and the number of the batch alone, so a run that starts at a later epoch sees what an
    uninterrupted one sees. Every epoch draws a new order; the shapes after the last full batch of an epoch are left out
    of that epoch.

    Args:
        meshes: a `Meshes`.
        batch_size: shapes in a batch.
        epochs: the number of the last epoch.
        first_epoch: how many epochs to leave out at the start.
        seed: an integer.

    Returns:
        A dataset of pairs of the same float32 vertices (batch_size, V, 3) in millimetres, `steps_per_epoch` batches an
        epoch.

    Raises:
        ValueError: if there are fewer training shapes than `batch_size`.
    """
    steps = steps_per_epoch(meshes, batch_size)
    count = len(meshes.train.vertices)
    with tf.device("CPU"):
        vertices = tf.constant(meshes.train.vertices)

    def batch(step):
        epoch, first = step // steps, (step % steps) * batch_size
        positions = first + tf.range(batch_size, dtype=tf.int64)
        x = tf.gather(vertices, shuffled(positions, seed, epoch, count))
        return x, x

    dataset = tf.data.Dataset.range(first_epoch * steps, epochs * steps)
    return dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(meshes, batch_size):
    """Returns how many full batches an epoch of `training_batches` has."""
    return full_batches(len(meshes.train.vertices), batch_size, "shapes")


def validation_batches(meshes, batch_size):
    """Returns all validation shapes in their order, as pairs of the same float32 vertices in millimetres."""
    return _in_order(meshes.validation, batch_size)


def test_batches(meshes, batch_size):
    """Returns all test shapes in their order, as pairs of the same float32 vertices in millimetres."""
    return _in_order(meshes.test, batch_size)


def read_shape(path, vertices, unit="millimetres"):
    """Returns the first shape of a file, float32 (V, 3) in millimetres, and its faces.

    Args:
        path: a mesh file or an `.npz`, as `load` takes them.
        vertices: V, the number of vertices that it must have.
        unit: the unit of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if trimesh is needed and not installed.
        ValueError: if it cannot be read, or has another number of vertices.
    """
    shapes = read_shapes(path)
    shape = shapes.vertices[0]
    if len(shape) != vertices:
        raise ValueError(
            f"A shape of this topology has {vertices:,} vertices. "
            f"Received: {shown(path)} with {len(shape):,}. Register it to the template of the training shapes first."
        )
    _to_millimetres(shape, unit, path)
    return shape, shapes.faces


def _to_millimetres(vertices, unit, source):
    with np.errstate(over="ignore"):
        np.multiply(vertices, UNITS[unit], out=vertices, dtype="float32")
    if not np.isfinite([vertices.min(), vertices.max()]).all():
        raise ValueError(
            "Coordinates are finite numbers of millimetres in float32. "
            f"Received: larger ones in {shown(source)}, read as {unit}. "
            "Pass the unit of the file, or leave that shape out."
        )


def _in_order(shapes, batch_size):
    dataset = tf.data.Dataset.from_tensor_slices(shapes.vertices).batch(batch_size)
    return dataset.map(lambda x: (x, x)).prefetch(tf.data.AUTOTUNE)


def _read_splits(arrays):
    """Reads train.npz, val.npz and test.npz among the arrays of a folder, which must have the same faces."""
    folder, there = arrays.folder, {name.lower(): name for name in arrays.names}
    chosen = {split: there[name] for split, names in FILES.items() for name in reversed(names) if name in there}
    if "test" not in chosen:
        raise ValueError(
            f"A folder with train.npz has test.npz as well. Received: {shown(folder)} without it. "
            "Add it, or pass a single .npz, which is split."
        )
    found = {split: folder / name for split, name in chosen.items()}
    others = sorted({*arrays.left_out.get("other files", ()), *arrays.names} - {*chosen.values()})
    left_out = {**arrays.left_out, **({"other files": tuple(others)} if others else {})}
    notes = (dataclasses.replace(arrays, left_out=left_out).description,)
    parts = {split: read_shapes(path) for split, path in found.items()}
    train = parts["train"]
    for split, shapes in parts.items():
        if shapes.vertices.shape[1] != train.vertices.shape[1] or not np.array_equal(shapes.faces, train.faces):
            raise ValueError(
                "All splits have one topology: the same number of vertices and the same faces. "
                f"Received: {shown(found[split])} with {shapes.vertices.shape[1]:,} vertices and "
                f"{len(shapes.faces):,} faces, which are not those of {shown(found['train'])}. "
                "Save the same faces in each file."
            )
    if "validation" in parts:
        return Meshes(train, parts["validation"], parts["test"], notes)
    places = np.arange(len(train.vertices))
    training, validation = _without_the_last(places, folder)
    return Meshes(_part(train, training), _part(train, validation), parts["test"], notes)


def _below(folder, name):
    """Returns the name or path of a sequence as the shapes of a folder have it."""
    path, folder = expanded(name), folder.absolute()
    inside = path.absolute().is_relative_to(folder)
    return shown(PurePosixPath(path.absolute().relative_to(folder) if inside else path))


def _hdf5_files(path):
    """Returns the HDF5 files of a path, those below a folder of meshes being others, and what was left out."""
    if not path.is_dir():
        return ([path] if path.name.lower().endswith(HDF5) and path.is_file() else []), ""
    found = find(path, HDF5)
    if all("/" in name for name in found.names) and find(path, SUFFIXES).names:
        return [], ""
    return found.paths, found.description


def _read_hdf5(path):
    """Reads the registrations of Dynamic FAUST, or returns `None` where there are none."""
    paths, left_out = _hdf5_files(path)
    if not paths:
        return None
    # Keras stores weights with it, so it is there.
    import h5py

    frames: list[np.ndarray] = []
    names: list[str] = []
    faces = None
    for file in paths:
        cause = None
        try:
            with h5py.File(file, "r") as content:
                found, defect = _arrays(content, file.stat().st_size)
        except Exception as error:  # Of many classes, those that h5py makes of the errors of HDF5.
            defect, cause = "it is damaged", error
            if isinstance(error, BlockingIOError):
                defect = "another program writes to it"
            elif not os.access(file, os.R_OK):
                defect = "permission denied"
            elif not h5py.is_hdf5(file):
                defect = "it does not begin as one"
        if defect:
            raise ValueError(
                f"Registrations are an HDF5 file. Received: {shown(file)} ({file.stat().st_size:,} bytes), which "
                f"cannot be read ({defect}). The file is truncated or of another kind; copy it again, or write plain "
                "arrays."
            ) from cause
        own = found.pop("faces", None)
        wrong = [name for name, array in found.items() if array.ndim != 3 or array.shape[1] != 3 or not array.size]
        if own is None or not found or wrong:
            raise ValueError(
                "Registrations have the array faces (F, 3), and an array (V, 3, frames) for each sequence. "
                f"Received: {shown(file)} with "
                f"{', '.join(f'{name} {array.shape}' for name, array in found.items()) or 'none'}"
                f"{'' if own is None else ' and faces'}. Save them in that form."
            )
        faces = own if faces is None else faces
        counts = {array.shape[0] for array in found.values()} | {array.shape[0] for array in frames[:1]}
        if len(counts) > 1 or not np.array_equal(own, faces):
            raise ValueError(
                "All sequences have one topology: the same number of vertices and the same faces. "
                f"Received: {shown(file)} with {sorted(counts)} vertices. Remove the sequences or files that differ."
            )
        for name, array in sorted(found.items()):
            with np.errstate(over="ignore"):
                array = array.astype("float32", copy=False)
            if not np.isfinite(array).all():
                raise ValueError(
                    "Coordinates are finite numbers in float32. "
                    f"Received: {name!r} of {shown(file)} with others. Remove that sequence."
                )
            frames.append(array)
            names += [f"{name}/{number:05d}" for number in range(array.shape[2])]
    vertices = np.empty((len(names), frames[0].shape[0], 3), "float32")
    done = 0
    for array in frames:
        vertices[done : done + array.shape[2]] = array.transpose(2, 0, 1)
        done += array.shape[2]
    faces = clean_faces(faces, vertices.shape[1], shown(paths[0]))
    if not len(faces):
        raise ValueError(
            "Shapes have triangles with three different vertices. "
            f"Received: {shown(paths[0])}, where there is none. Save its faces with it."
        )
    return Shapes(vertices, faces, tuple(names), left_out)


def _arrays(content, size):
    """Returns the datasets of an open HDF5 file of `size` bytes by name, and what forbids to read them, or nothing.

    No other file is read.
    """
    import h5py

    found: dict[str, np.ndarray] = {}
    left = ROOM + EXPANSION * size
    for name in content:
        if not isinstance(content.get(name, getlink=True), h5py.HardLink):
            return found, f"{name} is a link"
        array = content[name]
        if not isinstance(array, h5py.Dataset):
            continue
        if array.external or array.is_virtual:
            return found, f"{name} is in another file"
        if array.dtype.kind not in "fiu":
            return found, f"{name} is of type {array.dtype}"
        # A dataset may have a shape and no numbers, which are then all the same.
        left -= math.prod(array.shape or (0,)) * array.dtype.itemsize
        if left < 0:
            return found, f"with {name} it takes more than {EXPANSION} times the memory of the file"
        try:
            found[name] = array[()]
        except OSError:
            return found, f"{name} is damaged, or compressed in a way that is not read here"
    return found, ""


def _split(shapes, test_sequences, source):
    """Splits one row of shapes as `load` says."""
    places = np.arange(len(shapes.vertices))
    if len(places) < 3:
        raise ValueError(
            "Training, validation and test need at least one shape each. "
            f"Received: {shown(source)} with {len(places)} of this topology. Add shapes."
        )
    if test_sequences:
        # The last part of a name is the frame, all others are folders.
        parents = [PurePosixPath(name).parent for name in shapes.names]
        folders = [{*parent.parts, str(parent), *map(str, parent.parents)} - {"."} for parent in parents]
        missing = sorted(set(test_sequences) - set().union(*folders))
        test = np.array([not parts.isdisjoint(test_sequences) for parts in folders])
        if missing or test.all():
            names = sorted(set().union(*(parent.parts for parent in parents)))
            what = f"{missing[0]!r} is not there" if missing else "no shape is left for training"
            raise ValueError(
                "The sequences for the test are some of the folders of the dataset. "
                f"Received: test_sequences={list(test_sequences)} for {shown(source)}, where {what}. "
                f"Pass some of {', '.join(names[:20]) or 'a dataset that has folders'}"
                f"{', ...' if len(names) > 20 else ''}."
            )
    elif len(places) >= SLICED_FROM:
        test = places % 100 < 10
    else:
        period = min(10, len(places))
        test, validation = places % period == period // 3, places % period == 2 * period // 3
        return Meshes(*(_part(shapes, places[chosen]) for chosen in (~(test | validation), validation, test)))
    training, validation = _without_the_last(places[~test], source)
    return Meshes(*(_part(shapes, chosen) for chosen in (training, validation, places[test])))


def _without_the_last(places, source):
    """Returns the places of training and those that validation takes from their end."""
    taken = min(LAST_FOR_VALIDATION, max(1, len(places) // 10))
    if len(places) < 2:
        raise ValueError(
            "Training and validation need at least one shape each. "
            f"Received: {shown(source)}, which leaves {len(places)} for both. Add shapes, or name fewer sequences."
        )
    return places[:-taken], places[-taken:]


def _part(shapes, places):
    return Shapes(shapes.vertices[places], shapes.faces, tuple(shapes.names[place] for place in places))


def _warn_of_size(meshes, unit):
    size = float(np.linalg.norm(np.ptp(meshes.train.vertices[0], axis=0)))
    least, most = PLAUSIBLE_MM
    if not least <= size <= most:
        others = [name for name, factor in UNITS.items() if least <= size / UNITS[unit] * factor <= most]
        hint = f"In {' or '.join(others)} it would be plausible. " if others else ""
        warnings.warn(
            f"The first shape is {size:.3g} mm large if its file is in {unit}. {hint}"
            "Errors are reported in millimetres of this unit.",
            stacklevel=3,
        )
