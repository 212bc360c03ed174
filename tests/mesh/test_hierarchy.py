"""Levels: the parts fit together, and a cache gives what was made, however it was left."""

import concurrent.futures
import pickle
import sys

import numpy as np
import pytest

from pinets_tf.mesh import decimate, deformed_spheres, hierarchy, spirals
from tests.mesh.templates import sphere

# The function has the name of its module.
MODULE = sys.modules["pinets_tf.mesh.hierarchy"]


def same(first, second):
    return pickle.dumps(first) == pickle.dumps(second)


@pytest.fixture(autouse=True)
def _made(monkeypatch):
    """Counts how often a hierarchy is made and not read."""
    make, calls = MODULE._make, []
    monkeypatch.setattr(MODULE, "_make", lambda *arguments: calls.append(1) or make(*arguments))
    return calls


def test_levels_are_made_of_each_other():
    vertices, faces = sphere(3)
    result = hierarchy(vertices, faces, (4, 3), hops=(1, 2, 1), dilation=(1, 2, 1), lengths=(None, 8, 5))
    assert [len(level.vertices) for level in result.levels] == [642, 161, 54]
    assert len(result.down) == len(result.up) == 2
    np.testing.assert_array_equal(result.levels[0].vertices, vertices)
    for number, factor in enumerate((4, 3)):
        fine, coarse = result.levels[number : number + 2]
        made = decimate(fine.vertices, fine.faces, factor)
        np.testing.assert_array_equal(coarse.vertices, made.vertices)
        np.testing.assert_array_equal(coarse.faces, made.faces)
        assert (result.down[number] != made.down).nnz == (result.up[number] != made.up).nnz == 0
    for level, options in zip(result.levels, ({}, {"hops": 2, "dilation": 2, "length": 8}, {"length": 5})):
        np.testing.assert_array_equal(level.spirals, spirals(level.vertices, level.faces, **options))


def test_defaults_and_no_factors():
    shapes = deformed_spheres(3, subdivisions=4)
    result = hierarchy(shapes.vertices.mean(0), shapes.faces)
    assert [len(level.vertices) for level in result.levels] == [2562, 641, 161, 41, 11]
    assert all(level.spirals.max() == len(level.vertices) for level in result.levels)
    assert len(hierarchy(*sphere(1), factors=()).levels) == 1


def test_faces_are_repaired_before_anything_else():
    vertices, faces = sphere(2)
    spoilt = np.concatenate([faces, [[3, 3, 4]], faces[:5]])
    spoilt[7] = spoilt[7][[0, 2, 1]]
    assert same(hierarchy(vertices, spoilt, (4,)), hierarchy(vertices, faces, (4,)))


def test_cache_gives_what_was_made(tmp_path, _made):
    template = sphere(2)
    fresh = hierarchy(*template, (4, 4))
    first = hierarchy(*template, (4, 4), cache=tmp_path / "new" / "folder")
    assert len(_made) == 2
    read = hierarchy(*template, (4, 4), cache=str(tmp_path / "new" / "folder"))
    assert len(_made) == 2
    for one in (first, read):
        for level, other in zip(one.levels, fresh.levels):
            for field in ("vertices", "faces", "spirals"):
                array, expected = getattr(level, field), getattr(other, field)
                assert array.dtype == expected.dtype
                np.testing.assert_array_equal(array, expected)
        for matrix, other in zip(one.down + one.up, fresh.down + fresh.up):
            assert type(matrix) is type(other) and matrix.dtype == other.dtype and matrix.shape == other.shape
            assert (matrix != other).nnz == 0
    assert [path.suffix for path in (tmp_path / "new" / "folder").iterdir()] == [".npz"]


def test_every_argument_has_a_file_of_its_own(tmp_path, _made, monkeypatch):
    vertices, faces = sphere(1)
    moved = vertices.copy()
    moved[0, 0] = np.nextafter(moved[0, 0], 2)
    calls = [
        ((vertices, faces, (4,)), {}),
        ((moved, faces, (4,)), {}),
        ((vertices, faces[::-1], (4,)), {}),
        ((vertices, faces, (3,)), {}),
        ((vertices, faces, (3, 2)), {}),
        ((vertices, faces, (4,)), {"hops": 2}),
        ((vertices, faces, (4,)), {"hops": (1, 2)}),
        ((vertices, faces, (4,)), {"hops": 2, "dilation": 2}),
        ((vertices, faces, (4,)), {"lengths": 7}),
    ]
    for arguments, options in calls:
        hierarchy(*arguments, **options, cache=tmp_path)
    assert len(_made) == len(list(tmp_path.iterdir())) == len(calls)
    # The same things said otherwise.
    hierarchy(vertices.tolist(), faces.astype("uint16"), [4.0], hops=[1, 1], lengths=(None, None), cache=tmp_path)
    assert len(_made) == len(calls)
    monkeypatch.setattr(MODULE, "FORMAT", MODULE.FORMAT + 1)
    hierarchy(vertices, faces, (4,), cache=tmp_path)
    assert len(_made) == len(calls) + 1


@pytest.mark.parametrize("left", [0, 0.5, -5, "other"])
def test_a_broken_cache_is_made_again(tmp_path, left, _made):
    template = sphere(1)
    fresh = hierarchy(*template, (4,), cache=tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if left == "other":
        np.savez(path, something=np.zeros(3))
    else:
        path.write_bytes(content[: int(left * len(content)) if left >= 0 else left])
    with pytest.warns(UserWarning, match=r"hierarchy-[0-9a-f]{64}\.npz cannot be read \(.*is made again"):
        again = hierarchy(*template, (4,), cache=tmp_path)
    np.testing.assert_array_equal(again.levels[1].spirals, fresh.levels[1].spirals)
    assert len(_made) == 2 and path.read_bytes() == content


def test_flipped_bytes_are_noticed(tmp_path):
    template = sphere(1)
    hierarchy(*template, (4,), cache=tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[content.index(template[0].tobytes()) + 100] ^= 255
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="made again"):
        hierarchy(*template, (4,), cache=tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(UserWarning, match=r"cannot be written \(.*made again next time"):
        result = hierarchy(*sphere(1), (4,), cache=tmp_path / "file")
    assert len(result.levels) == 2

    def full(*arguments, **arrays):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="no space left"):
        hierarchy(*sphere(1), (4,), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_writers_at_the_same_time(tmp_path):
    template = sphere(2)
    expected = hierarchy(*template, (4,)).levels[1].spirals
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: hierarchy(*template, (4,), cache=tmp_path), range(16)):
            np.testing.assert_array_equal(result.levels[1].spirals, expected)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "options, words",
    [
        ({"hops": (1, 2)}, ("hops is one value, or one for each level", "(1, 2) for 3 levels", "Pass 3 values")),
        ({"lengths": [9]}, ("lengths is one value", "[9] for 3 levels", "Pass 3 values")),
        ({"dilation": 0}, ("dilation is a positive integer", "dilation=0", "Pass 1 or more")),
        ({"hops": None}, ("hops is a positive integer", "hops=None", "Pass 1 or more")),
        ({"lengths": (None, "9", 9)}, ("lengths is a positive integer", "lengths='9'", "Pass 1 or more")),
        ({"factors": (4, 1)}, ("a number above 1", "factor=1", "for example 4")),
        ({"factors": (4, 8)}, ("at least one triangle", "11 vertices", "fewer factors")),
    ],
)
def test_errors(options, words, tmp_path):
    with pytest.raises(ValueError) as caught:
        hierarchy(*sphere(1), **{"factors": (4, 2), **options}, cache=tmp_path)
    for word in words:
        assert word in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_bad_template(tmp_path):
    vertices, faces = sphere(1)
    with pytest.raises(ValueError, match=r"indices from 0 to 40 for 41 vertices\. Received: 41 in face .*Count from 0"):
        hierarchy(vertices[:41], faces, (4,), cache=tmp_path)
    assert not list(tmp_path.iterdir())
