"""Pictures of samples: where each pixel is, what lies between two latents, and what bad input says."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from pinets_tf.training.sample_pictures import draw_contributions, draw_interpolation, interpolate, write_grid


def read(path):
    return tf.io.decode_png(path.read_bytes()).numpy()


def numbered(count, channels, height=3, width=4):
    return np.random.default_rng(0).integers(0, 255, (count, height, width, channels)).astype("uint8")


def levels(latents):
    """Images whose rows of pixels are all their latent, in grey."""
    return np.broadcast_to(np.asarray(latents)[:, None, :, None], (len(latents), 2, 3, 1)).astype("uint8")


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_has_each_image_in_its_cell(channels, tmp_path):
    images = numbered(5, channels)
    grid = write_grid(images, tmp_path / "new" / "grid.png", columns=3)
    assert grid.shape == (2 * 3 + 1, 3 * 4 + 2, channels) and grid.dtype == np.uint8
    np.testing.assert_array_equal(read(tmp_path / "new" / "grid.png"), grid)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]
    expected = np.full_like(grid, 255)
    for number, image in enumerate(images):
        top, left = 4 * (number // 3), 5 * (number % 3)
        expected[top : top + 3, left : left + 4] = image
    np.testing.assert_array_equal(grid, expected)


def test_zoom_and_separation(tmp_path):
    images = numbered(4, 1)
    grid = write_grid(images, tmp_path / "grid.png", separation=2, zoom=3)
    assert grid.shape == (2 * 9 + 2, 2 * 12 + 2, 1)
    np.testing.assert_array_equal(grid[11::3, 14::3], images[3])
    np.testing.assert_array_equal(grid[13::3, 16::3], images[3])
    assert (grid[9:11] == 255).all() and (grid[:, 12:14] == 255).all()
    assert write_grid(images, tmp_path / "grid.png", separation=0).shape == (6, 8, 1)


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "grid.png"
    grid = write_grid(numbered(2, 1), path)

    def fail(*arguments):
        raise OSError("no space")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(OSError, match="no space"):
        write_grid(numbered(3, 1), path)
    np.testing.assert_array_equal(read(path), grid)


@pytest.mark.parametrize(
    "images, options, words",
    [
        (np.zeros((2, 3, 4, 1), "float32"), {}, ("must be a uint8 array", "type float32", "Round images in [-1, 1]")),
        (np.zeros((2, 3, 4), "uint8"), {}, ("(n, height, width, channels)", "shape (2, 3, 4)", "Round")),
        (np.zeros((2, 3, 4, 2), "uint8"), {}, ("with 1 or 3 channels", "shape (2, 3, 4, 2)", "Round")),
        (np.zeros((0, 3, 4, 1), "uint8"), {}, ("n > 0", "shape (0, 3, 4, 1)", "Round")),
        (numbered(2, 1), {"columns": 0}, ("`columns` must be an integer of 1 or more", "columns=0", "Pass")),
        (numbered(2, 1), {"separation": -1}, ("`separation` must be an integer of 0", "separation=-1", "Pass")),
        (numbered(2, 1), {"zoom": 1.5}, ("`zoom` must be an integer of 1 or more", "zoom=1.5", "Pass")),
    ],
)
def test_bad_grids(images, options, words, tmp_path):
    with pytest.raises(ValueError) as caught:
        write_grid(images, tmp_path / "grid.png", **options)
    for word in words:
        assert word in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["linear", "spherical"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_interpolation_ends_exactly(mode, dtype):
    first, second = np.random.default_rng(1).normal(size=(2, 6, 16)).astype(dtype)
    between = interpolate(first, second, 5, mode)
    assert between.shape == (6, 5, 16) and between.dtype == dtype
    np.testing.assert_array_equal(between[:, 0], first)
    np.testing.assert_array_equal(between[:, -1], second)


def test_linear_interpolation_has_equal_steps():
    first, second = np.random.default_rng(2).normal(size=(2, 3, 8))
    between = interpolate(first, second, 9)
    np.testing.assert_allclose(np.diff(between, axis=1), np.repeat(((second - first) / 8)[:, None], 8, 1), atol=1e-12)


def test_spherical_interpolation_keeps_length_and_turns_evenly():
    first, second = np.random.default_rng(3).normal(size=(2, 3, 8))
    first, second = (latents / np.linalg.norm(latents, axis=1, keepdims=True) for latents in (first, second))
    between = interpolate(first, second, 9, "spherical")
    np.testing.assert_allclose(np.linalg.norm(between, axis=-1), 1, atol=1e-12)
    turns = np.arccos((between[:, 1:] * between[:, :-1]).sum(-1))
    np.testing.assert_allclose(turns, np.repeat(np.arccos((first * second).sum(1))[:, None] / 8, 8, 1), atol=1e-7)
    # Without an arc: the same direction, the opposite one, and no direction.
    first, second = np.array([[1.0, 2.0], [1.0, 0.0], [0.0, 0.0]]), np.array([[2.0, 4.0], [-1.0, 0.0], [3.0, 1.0]])
    np.testing.assert_allclose(interpolate(first, second, 3, "spherical"), interpolate(first, second, 3), atol=1e-12)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((np.zeros((2, 3)), np.zeros((3, 3)), 3), ("one shape (rows, d)", "(2, 3) and (3, 3)", "one source for each")),
        ((np.zeros(3), np.zeros(3), 3), ("one shape (rows, d)", "shapes (3,) and (3,)", "one source for each")),
        ((np.zeros((2, 3)), np.zeros((2, 3)), 1), ("`steps` must be an integer of 2", "steps=1", "for example 9")),
        (
            (np.zeros((2, 3)), np.zeros((2, 3)), 3, "cubic"),
            ("one of linear, spherical", "mode='cubic'", "Pass one of them"),
        ),
    ],
)
def test_bad_interpolations(arguments, words):
    with pytest.raises(ValueError) as caught:
        interpolate(*arguments)
    for word in words:
        assert word in str(caught.value)


def test_strip_runs_from_source_to_target(tmp_path):
    sources, targets = np.array([[0.0, 10.0, 20.0], [250.0] * 3]), np.array([[80.0, 90.0, 100.0], [10.0] * 3])
    strip = draw_interpolation(levels, sources, targets, tmp_path / "strip.png", steps=5)
    assert strip.shape == (2 * 2 + 1, 5 * 3 + 4, 1)
    np.testing.assert_array_equal(read(tmp_path / "strip.png"), strip)
    assert strip[0, :, 0].tolist() == [
        *(0, 10, 20, 255, 20, 30, 40, 255, 40, 50, 60, 255, 60, 70, 80, 255, 80, 90, 100),
    ]
    assert strip[3, ::4, 0].tolist() == [250, 190, 130, 70, 10]
    with pytest.raises(
        ValueError, match=r"one image of each.*shape \(9, 2, 3, 1\) for 10 latents from generate.*Return all"
    ):
        draw_interpolation(lambda latents: levels(latents)[1:], sources, targets, tmp_path / "strip.png", steps=5)


@pytest.mark.parametrize("channels", [1, 3])
def test_contributions_have_a_row_for_each_latent_and_a_labelled_column_for_each_order(channels, tmp_path):
    latents = np.array([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]])
    generators = {
        str(order): lambda latents, order=order: np.repeat(levels(latents * order), channels, -1) for order in (1, 2, 3)
    }
    grid = draw_contributions(generators, latents, tmp_path / "orders.png")
    zoom = 22
    assert grid.shape == (2 * 2 * zoom + 1, 3 * 3 * zoom + 2, channels)
    assert grid[0, 5::zoom, 0].tolist() == [10, 20, 30, 20, 40, 60, 30, 60, 90]
    assert grid[-1, zoom + 1 :: 3 * zoom + 1, 0].tolist() == [50, 100, 150]
    picture = read(tmp_path / "orders.png")[..., :3]
    assert picture.shape[1] == grid.shape[1]
    labels, shown = picture[: -len(grid)], picture[-len(grid) :]
    np.testing.assert_array_equal(shown, np.broadcast_to(grid, shown.shape))
    ink = (labels < 128).any((0, 2))
    columns = [ink[left : left + 3 * zoom] for left in range(0, len(ink), 3 * zoom + 1)]
    assert [column.any() for column in columns] == [True] * 3
    assert all(abs(np.flatnonzero(column).mean() - 1.5 * zoom) < 3 for column in columns)
    assert not (labels[[0, -1]] < 128).any()


def test_bad_contributions(tmp_path, monkeypatch):
    latents = np.ones((2, 3))
    generators = {"1": levels, "2": lambda latents: levels(latents)[:, :1]}
    with pytest.raises(ValueError, match=r"one shape.*\(2, 1, 3, 1\), \(2, 2, 3, 1\).*differ in their orders alone"):
        draw_contributions(generators, latents, tmp_path / "orders.png")
    with pytest.raises(ValueError, match=r"one generator at least.*Received: no generators.*Pass"):
        draw_contributions({}, latents, tmp_path / "orders.png")
    with pytest.raises(ValueError, match=r"one image of each.*shape \(1, 2, 3, 1\) for 2 latents from '2'"):
        draw_contributions({"1": levels, "2": lambda latents: levels(latents)[1:]}, latents, tmp_path / "orders.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"drawn with matplotlib.*pip install 'pinets_tf\[examples\]'"):
        draw_contributions(generators, latents, tmp_path / "orders.png")
