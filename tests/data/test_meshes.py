"""Shapes of one topology: which come where, in which unit and order, and what bad files say."""

import h5py
import numpy as np
import pytest

from pinets_tf.data import meshes
from pinets_tf.mesh import deformed_spheres


def spheres(count):
    return deformed_spheres(count, subdivisions=1)


def saved(path, count=12, **changes):
    shapes = spheres(count)
    arrays = {"vertices": shapes.vertices, "faces": shapes.faces, **changes}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return str(path)


def numbers(shapes, of):
    """Returns which of the shapes `of` each of `shapes` is."""
    known = {bytes(vertices): number for number, vertices in enumerate(of)}
    return [known[bytes(vertices)] for vertices in shapes.vertices]


def write_off(path, vertices, faces):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["OFF", f"{len(vertices)} {len(faces)} 0"]
    lines += [" ".join(map(str, row)) for row in vertices.tolist()] + [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
    path.write_text("\n".join(lines))


def test_sample():
    data = meshes.load("sample")
    assert [len(part.names) for part in (data.train, data.validation, data.test)] == [192, 24, 24]
    assert data.train.vertices.shape[1:] == (642, 3) and data.faces.shape == (1280, 3)
    assert 100 < np.ptp(data.train.vertices) < 200


@pytest.mark.parametrize(
    "count, validation, test", [(3, [2], [1]), (9, [6], [3]), (25, [6, 16], [3, 13, 23]), (10, [6], [3])]
)
def test_few_shapes_are_split_by_position(tmp_path, count, validation, test):
    data = meshes.load(saved(tmp_path / "set.npz", count))
    of = spheres(count).vertices
    assert (numbers(data.validation, of), numbers(data.test, of)) == (validation, test)
    assert numbers(data.train, of) == [number for number in range(count) if number not in (*validation, *test)]
    assert data.test.names == tuple(f"set-{number}" for number in test)


def test_many_shapes_are_sliced(tmp_path):
    # Told apart by their first coordinate.
    vertices = np.tile(spheres(1).vertices, (1250, 1, 1))
    vertices[:, 0, 0] = np.arange(1250) / 100
    data = meshes.load(saved(tmp_path / "set.npz", vertices=vertices))
    train, validation, test = (
        np.rint(part.vertices[:, 0, 0] * 100).astype(int) for part in (data.train, data.validation, data.test)
    )
    assert test.tolist() == [number for number in range(1250) if number % 100 < 10]
    rest = [number for number in range(1250) if number % 100 >= 10]
    assert train.tolist() == rest[:-100] and validation.tolist() == rest[-100:]


def test_a_folder_of_sequences(tmp_path):
    shapes = spheres(12)
    for number, vertices in enumerate(shapes.vertices):
        sequence = ("smile", "cough", "blink")[number // 4]
        write_off(tmp_path / f"person_{number % 2}" / sequence / f"{number:03d}.off", vertices, shapes.faces)
    data = meshes.load(tmp_path, test_sequences=["cough"])
    assert len(data.test.names) == 4 and all("/cough/" in name for name in data.test.names)
    assert not any("/cough/" in name for name in (*data.train.names, *data.validation.names))
    assert (len(data.train.names), len(data.validation.names)) == (7, 1)
    person = meshes.load(tmp_path, test_sequences=["person_1"])
    assert {name.split("/")[0] for name in person.test.names} == {"person_1"} and len(person.test.names) == 6
    with pytest.raises(ValueError, match=r"some of the folders.*'yawn' is not there\. Pass some of blink, cough, pers"):
        meshes.load(tmp_path, test_sequences=["yawn"])
    with pytest.raises(ValueError, match=r"no shape is left for training"):
        meshes.load(tmp_path, test_sequences=["person_0", "person_1"])


def test_a_folder_that_is_split_already(tmp_path):
    of = spheres(30).vertices
    saved(tmp_path / "train.npz", vertices=of[:20])
    saved(tmp_path / "test.npz", vertices=of[25:])
    data = meshes.load(tmp_path)
    # Without a file for validation, a tenth of the training shapes.
    assert numbers(data.train, of) == list(range(18)) and numbers(data.validation, of) == [18, 19]
    saved(tmp_path / "val.npz", vertices=of[20:25])
    data = meshes.load(tmp_path)
    parts = (data.train, data.validation, data.test)
    assert [len(part.names) for part in parts] == [20, 5, 5] and numbers(data.test, of) == list(range(25, 30))
    with pytest.raises(ValueError, match=r"one row of shapes.*which is split already"):
        meshes.load(tmp_path, test_sequences=["a"])
    saved(tmp_path / "val.npz", vertices=of[20:25], faces=spheres(1).faces[:-1])
    with pytest.raises(ValueError, match=r"one topology.*val\.npz with 42 vertices and 79 faces.*train\.npz"):
        meshes.load(tmp_path)
    (tmp_path / "test.npz").unlink()
    with pytest.raises(ValueError, match=r"has test\.npz as well.*without it"):
        meshes.load(tmp_path)


def registrations(path, **changes):
    shapes = spheres(12)
    moved = shapes.vertices.transpose(1, 2, 0) / 1000
    arrays = {"faces": shapes.faces, "50002_jump": moved[..., :7], "50004_run": moved[..., 7:], **changes}
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
    return path


def test_registrations_of_dynamic_faust(tmp_path):
    data = meshes.load(registrations(tmp_path / "m.hdf5"), "metres", ["50004_run"])
    np.testing.assert_allclose(data.test.vertices, spheres(12).vertices[7:], rtol=1e-5)
    assert data.test.names[0] == "50004_run/00000" and len(data.train.names) == 6
    registrations(tmp_path / "f.hdf5", **{"50002_jump": None})
    both = meshes.load(tmp_path, "metres")  # 5 and 12 shapes.
    assert [len(part.names) for part in (both.train, both.validation, both.test)] == [13, 2, 2]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"faces": None}, r"have the array faces.*50002_jump \(42, 3, 7\)"),
        ({"50004_run": np.zeros((42, 3))}, r"an array \(V, 3, frames\).*50004_run \(42, 3\) and faces"),
        ({"50004_run": np.zeros((41, 3, 2))}, r"one topology.*\[41, 42\] vertices"),
        ({"50004_run": np.full((42, 3, 2), np.nan)}, r"finite numbers.*'50004_run'.*Remove that sequence"),
    ],
)
def test_bad_registrations(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        meshes.load(registrations(tmp_path / "m.hdf5", **changes))


def test_no_hdf5(tmp_path):
    (tmp_path / "m.hdf5").write_bytes(b"text")
    with pytest.raises(
        ValueError, match=r"are an HDF5 file.*m\.hdf5 \(4 bytes\).*\(it does not begin as .*copy it again"
    ):
        meshes.load(tmp_path / "m.hdf5")
    content = registrations(tmp_path / "m.hdf5").read_bytes()
    (tmp_path / "m.hdf5").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"m\.hdf5 .*which cannot be read \(it is damaged\)\. .*copy it again"):
        meshes.load(tmp_path / "m.hdf5")
    with h5py.File(registrations(tmp_path / "m.hdf5"), "r+") as file:
        file.create_dataset("squeezed", data=np.zeros((42, 3, 9)), compression="gzip")
        place, size = file["squeezed"].id.get_chunk_info(0)[2:]
    content = (tmp_path / "m.hdf5").read_bytes()
    (tmp_path / "m.hdf5").write_bytes(content[:place] + bytes(size) + content[place + size :])
    with pytest.raises(ValueError, match=r"\(squeezed is damaged, or compressed in a way that is not read here\)"):
        meshes.load(tmp_path / "m.hdf5")


def test_files_that_cannot_be_opened(tmp_path, monkeypatch):
    registrations(tmp_path / "m.hdf5")
    saved(tmp_path / "m.npz")
    (tmp_path / "m.obj").write_text("")
    error = PermissionError(13, "Permission denied")

    def refuse(*arguments):
        raise error

    monkeypatch.setattr(h5py, "File", refuse)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("zipfile.ZipFile", refuse)
    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    for name in ("m.hdf5", "m.npz", "m.obj"):
        with pytest.raises(ValueError, match=rf"{name} \(.* bytes\), which cannot be read \([Pp]ermission denied\)"):
            meshes.load(tmp_path / name)
    error = BlockingIOError(11, "Unable to lock file")
    with pytest.raises(ValueError, match=r"m\.hdf5 \(.*cannot be read \(another program writes to it\)"):
        meshes.load(tmp_path / "m.hdf5")


def test_units_and_the_warning_of_their_size(tmp_path):
    of = spheres(12).vertices
    path = saved(tmp_path / "set.npz", vertices=of / 1000)
    data = meshes.load(path, "metres")
    np.testing.assert_allclose(data.test.vertices[0], of[3], rtol=1e-5)
    with pytest.warns(
        UserWarning, match=r"is 0\.\d+ mm large if its file is in millimetres\. In metres it would be pl"
    ):
        meshes.load(path)
    with pytest.warns(UserWarning, match=r"large if its file is in metres\. In millimetres or centimetres it would"):
        meshes.load(saved(tmp_path / "set.npz"), "metres")
    with pytest.raises(
        ValueError, match=r"`unit` must be one of millimetres, centimetres, metres\. Received: unit='ft'"
    ):
        meshes.load(path, "ft")


def test_mean_and_deviation(tmp_path):
    vertices = spheres(12).vertices
    vertices[:, 5] = [1.0, 2.0, 3.0]
    data = meshes.load(saved(tmp_path / "set.npz", vertices=vertices))
    mean, deviation = data.mean_and_deviation()
    np.testing.assert_allclose(mean, data.train.vertices.astype("float64").mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(deviation[5], 0)
    np.testing.assert_allclose(deviation, data.train.vertices.astype("float64").std(0), rtol=1e-4, atol=1e-4)


def test_an_epoch_has_every_shape_once_and_a_new_order(tmp_path):
    data = meshes.load(saved(tmp_path / "set.npz"))
    batches = [(x.numpy(), y.numpy()) for x, y in meshes.training_batches(data, 5, epochs=2)]
    assert meshes.steps_per_epoch(data, 5) == 2 and len(batches) == 4
    for x, y in batches:
        np.testing.assert_array_equal(x, y)
    epochs = [np.concatenate([x for x, _ in batches[first : first + 2]]) for first in (0, 2)]
    for epoch in epochs:
        assert sorted(map(bytes, epoch)) == sorted(map(bytes, data.train.vertices))
    assert not np.array_equal(*epochs)


def test_a_later_start_sees_what_an_uninterrupted_run_sees(tmp_path):
    data = meshes.load(saved(tmp_path / "set.npz"))
    whole = list(meshes.training_batches(data, 3, epochs=3, seed=5))
    late = list(meshes.training_batches(data, 3, epochs=3, first_epoch=2, seed=5))
    assert (len(whole), len(late)) == (9, 3)
    for (x, _), (x_late, _) in zip(whole[6:], late):
        np.testing.assert_array_equal(x, x_late)
    other = next(iter(meshes.training_batches(data, 3, epochs=1, seed=6)))[0]
    assert not np.array_equal(whole[0][0], other)


def test_validation_and_test_are_complete_and_in_order():
    data = meshes.load("sample")
    for batches, part in (
        (meshes.validation_batches(data, 7), data.validation),
        (meshes.test_batches(data, 7), data.test),
    ):
        x, y = (np.concatenate(arrays) for arrays in zip(*batches.as_numpy_iterator()))
        np.testing.assert_array_equal(x, part.vertices)
        np.testing.assert_array_equal(x, y)


def test_one_shape_of_a_file(tmp_path):
    shapes = spheres(1)
    write_off(tmp_path / "one.off", shapes.vertices[0] / 10, shapes.faces)
    shape, faces = meshes.read_shape(tmp_path / "one.off", 42, "centimetres")
    np.testing.assert_allclose(shape, shapes.vertices[0], rtol=1e-5)
    np.testing.assert_array_equal(faces, shapes.faces)
    with pytest.raises(ValueError, match=r"has 50 vertices\. Received: .*one\.off with 42\. Register it"):
        meshes.read_shape(tmp_path / "one.off", 50)


def test_too_few_shapes(tmp_path):
    with pytest.raises(ValueError, match=r"at least one shape each\. Received: .*set\.npz with 2 of this topology"):
        meshes.load(saved(tmp_path / "set.npz", 2))
    data = meshes.load(saved(tmp_path / "set.npz"))
    with pytest.raises(ValueError, match=r"one full batch.*batch_size=11 for 10 training shapes.*smaller batch"):
        meshes.steps_per_epoch(data, 11)


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Received: 'none'"):
        meshes.load(tmp_path / "none")
    with pytest.raises(ValueError, match=r"at least one mesh file"):
        meshes.load(tmp_path)
