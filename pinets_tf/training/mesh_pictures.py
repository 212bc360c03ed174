"""Pictures of shapes: reconstructions with their errors, rows of shapes, and animations."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from pinets_tf.files import shown

SKIN = (0.72, 0.76, 0.82)
# From the left, from above and from the viewer.
LIGHT = np.array([-0.35, 0.45, 0.82])
FRAMES_PER_SECOND = 12
MARGIN = 0.06  # Of the size of the shapes.


@dataclasses.dataclass(frozen=True)
class View:
    """Where shapes are seen from: degrees around the upright axis and above the horizon, and that axis: x, y or z."""

    azimuth: float = 25.0
    elevation: float = 10.0
    up: str = "y"

    def turned(self, vertices):
        """Returns vertices (..., V, 3) as the viewer has them: to the right, upwards, and towards the viewer."""
        order = {"x": (1, 0, 2), "y": (0, 1, 2), "z": (0, 2, 1)}[self.up]
        # Two of these swap two axes, which mirrors, so that one changes its sign.
        vertices = np.asarray(vertices, "float64")[..., order] * ((1, 1, 1) if self.up == "y" else (1, 1, -1))
        a, e = np.radians(self.azimuth), np.radians(self.elevation)
        around = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        above = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
        return vertices @ (above @ around).T


FROM_THE_FRONT = View()


def draw_reconstructions(shapes, answers, labels, faces, picture, view=FROM_THE_FRONT, title=None):
    """Draws input, reconstruction and a map of the error side by side, a row for each shape, with one scale in mm.

    Args:
        shapes: vertices (n, V, 3) in millimetres.
        answers: their reconstructions, alike.
        labels: a text for each row.
        faces: triangles (F, 3).
        picture: the path of the PNG to write.
        view: a `View`.
        title: a line above all.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure_class, normalize, mappable = _matplotlib()
    # Squares of answers far off would be too large for float32.
    differences = np.asarray(answers, "float64") - shapes
    distances = np.linalg.norm(differences, axis=-1)
    tops = [np.percentile(values[np.isfinite(values)], 99) for values in distances if np.isfinite(values).any()]
    # One shape far off must not leave the others without colours.
    norm = normalize(0, max(min(max(tops), 2 * float(np.median(tops))), 1e-6) if tops else 1.0)
    window = _window(np.asarray(shapes), view)
    figure = figure_class(figsize=(8.6, (2.5 * _height(window) + 0.25) * len(shapes) + 0.6), layout="constrained")
    panels = figure.subplots(len(shapes), 3, squeeze=False)
    colors = mappable(norm, "viridis")
    for row, (shape, answer, label, errors) in enumerate(zip(shapes, answers, labels, distances)):
        for axes, heading, vertices, values in zip(
            panels[row],
            ("input", "reconstruction", "error"),
            (shape, answer, shape),
            (None, None, errors),
        ):
            _paint(axes, vertices, faces, view, window, values, colors)
            if row == 0:
                axes.set_title(heading, fontsize=10)
        panels[row][0].text(0, 0, shown(label), transform=panels[row][0].transAxes, fontsize=8, va="top")
    figure.colorbar(colors, ax=panels[:, 2], label="distance of a vertex, mm", extend="max", shrink=0.8)
    figure.suptitle(title and shown(title), fontsize=11)
    _save(figure, picture)


def draw_strip(shapes, faces, picture, labels=None, view=FROM_THE_FRONT, title=None, within=None):
    """Draws shapes in one row.

    Args:
        shapes: vertices (n, V, 3).
        faces: triangles (F, 3).
        picture: the path of the PNG to write.
        labels: a text above each shape.
        view: a `View`.
        title: a line above all.
        within: shapes (m, V, 3) whose limits are those of the picture, such as real ones; by default the shapes.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure_class, _, _ = _matplotlib()
    window = _window(np.asarray(shapes if within is None else within), view)
    figure = figure_class(figsize=(1.9 * len(shapes), 1.9 * _height(window) + 0.7), layout="constrained")
    for axes, vertices, label in zip(
        figure.subplots(1, len(shapes), squeeze=False)[0], shapes, labels or [""] * len(shapes)
    ):
        _paint(axes, vertices, faces, view, window)
        axes.set_title(shown(label), fontsize=9)
    figure.suptitle(title and shown(title), fontsize=11)
    _save(figure, picture)


def write_animation(shapes, faces, path, view=FROM_THE_FRONT, within=None):
    """Writes shapes as a GIF that runs forwards and backwards.

    Args:
        shapes: vertices (n, V, 3), one for each frame.
        faces: triangles (F, 3).
        path: the path of the GIF to write.
        view: a `View`.
        within: shapes (m, V, 3) whose limits are those of the picture; by default the shapes.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure_class, _, _ = _matplotlib()
    from matplotlib.animation import PillowWriter

    figure = figure_class(figsize=(3, 3), layout="constrained")
    axes = figure.subplots()
    window = _window(np.asarray(shapes if within is None else within), view)
    partial = Path(path).with_name("partial." + Path(path).name)
    writer = PillowWriter(FRAMES_PER_SECOND)
    with writer.saving(figure, str(partial), dpi=100):
        for vertices in [*shapes, *shapes[-2:0:-1]]:
            axes.clear()
            _paint(axes, vertices, faces, view, window)
            writer.grab_frame()
    os.replace(partial, path)


def _matplotlib():
    try:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib. Received: it is not installed. Install it with: "
            "pip install 'pinets_tf[examples]'"
        ) from error
    return Figure, Normalize, ScalarMappable


def _window(shapes, view):
    """Returns the limits to the right and upwards of shapes, with a margin; what is beyond them is cut off."""
    places = view.turned(shapes)[..., :2]
    places = places[np.isfinite(places).all((1, 2))]
    if not len(places):
        return np.array([[-1.0, -1.0], [1.0, 1.0]])
    low, high = places.min((0, 1)), places.max((0, 1))
    return np.stack([low - MARGIN * (high - low), high + MARGIN * (high - low)])


def _height(window):
    """Returns the height of a panel whose width is 1."""
    width, height = np.maximum(np.ptp(window, axis=0), 1e-12)
    return float(np.clip(height / width, 0.4, 2))


def _paint(axes, vertices, faces, view, window, values=None, colors=None):
    """Paints the triangles of a shape from the farthest to the nearest, without those that are not finite."""
    from matplotlib.collections import PolyCollection

    axes.set(xlim=window[:, 0], ylim=window[:, 1], aspect="equal")
    axes.axis("off")
    size = np.ptp(window, axis=0).max()
    with np.errstate(invalid="ignore", over="ignore"):
        # Coordinates far outside would be too large for the painter.
        corners = np.clip(view.turned(vertices), window.min() - 4 * size, window.max() + 4 * size)[faces]
    seen = np.isfinite(corners).all((1, 2))
    places = corners[seen, :, :2]
    if not ((places >= window[0]) & (places <= window[1])).all(2).any():
        axes.text(0.5, 0.5, "outside", transform=axes.transAxes, ha="center", va="center", fontsize=9, color="0.4")
    order = np.flatnonzero(seen)[np.argsort(corners[seen, :, 2].mean(1), kind="stable")]
    corners = corners[order]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    # The inside, seen through a hole, is darker than what lies in the shade.
    shade = np.where(normals[:, 2] > 0, 0.35 + 0.65 * np.clip(normals @ LIGHT, 0, 1), 0.25)[:, None]
    if values is None:
        painted = shade * SKIN
    else:
        painted = (0.4 + 0.6 * shade) * colors.to_rgba(values[faces[order]].mean(1))[:, :3]
    axes.add_collection(PolyCollection(corners[:, :, :2], facecolors=painted, edgecolors="face", linewidths=0.3))


def _save(figure, picture):
    partial = Path(picture).with_name(Path(picture).name + ".partial")
    figure.savefig(partial, dpi=130, format="png")
    os.replace(partial, picture)
