"""How far the vertices of reconstructed shapes are from where they should be, in millimetres."""

import dataclasses
from pathlib import Path

import numpy as np

from pinets_tf.training.workdir import write_atomically

FAR_OFF = 10  # Times the median shape.
OFFICIAL_LIMIT = 1.0  # Mean error of the standardised coordinates.
SHOWN = 10


@dataclasses.dataclass(frozen=True)
class ShapeErrors:
    """The errors of n reconstructed shapes of V vertices.

    Args:
        vertices_mm: distance of each vertex, float64 (n, V); not a number throughout a shape that has a coordinate that
            is none, or infinite.
        standardised: for each shape, the mean error of its coordinates in units of their deviation.
        names: a name for each shape.
    """

    vertices_mm: np.ndarray
    standardised: np.ndarray
    names: tuple[str, ...]

    @property
    def shapes_mm(self):
        """The mean distance for each shape."""
        return self.vertices_mm.mean(1)

    @property
    def finite(self):
        return np.isfinite(self.standardised)

    @property
    def far_off(self):
        """Which finite shapes are above 10 times the median shape, or would be left out by the official script."""
        limit = FAR_OFF * np.median(np.nan_to_num(self.shapes_mm, nan=np.inf))
        return self.finite & ((self.shapes_mm > limit) | (self.standardised > OFFICIAL_LIMIT))

    @property
    def officially_kept(self):
        """Which shapes the official script keeps: those with a mean standardised error of at most 1."""
        return self.finite & (self.standardised <= OFFICIAL_LIMIT)

    def order(self):
        """Returns the numbers of the finite shapes, the best first."""
        ranked = np.argsort(self.shapes_mm, kind="stable")
        return ranked[self.finite[ranked]]

    def summary(self):
        """Returns the numbers as a dictionary. Mean and deviation are no numbers if those of a single shape are not."""
        kept = self.vertices_mm[self.officially_kept]
        return {
            "vertex_error_mm": float(self.vertices_mm.mean()),
            # A shape without a finite answer is infinitely far off.
            "median_mm": float(np.median(np.nan_to_num(self.vertices_mm, nan=np.inf))),
            "deviation_mm": float(self.vertices_mm.std()),
            "test_shapes": len(self.names),
            "not_finite": int((~self.finite).sum()),
            "far_off": int(self.far_off.sum()),
            "officially_filtered_mm": float(kept.mean()) if len(kept) else float("nan"),
            "officially_dropped": int((~self.officially_kept).sum()),
        }


def shape_errors(vertices, answers, deviation, names):
    """Measures reconstructions.

    Args:
        vertices: how the shapes are, (n, V, 3) in millimetres.
        answers: how they came out, (n, V, 3) in millimetres.
        deviation: standard deviation of each coordinate over the training shapes, (V, 3) in millimetres; 0 counts as 1.
        names: a name for each shape.

    Returns:
        `ShapeErrors`.

    Raises:
        ValueError: if the arrays and names do not fit.

    Example:

    >>> shapes = np.zeros((2, 5, 3))
    >>> answers = shapes + [[[3.0, 4.0, 0.0]], [[np.inf, 0.0, 0.0]]]
    >>> errors = shape_errors(shapes, answers, np.full((5, 3), 10.0), ("a", "b"))
    >>> errors.shapes_mm
    array([ 5., nan])
    """
    vertices, answers = np.asarray(vertices), np.asarray(answers)
    fits = vertices.ndim == 3 and vertices.shape[2:] == (3,) and len(vertices) == len(names) > 0
    if not fits or answers.shape != vertices.shape or np.shape(deviation) != vertices.shape[1:]:
        raise ValueError(
            "Shapes and answers are (n, V, 3), n > 0, with a deviation (V, 3) and n names. "
            f"Received: shapes {vertices.shape}, answers {answers.shape}, deviation {np.shape(deviation)}, "
            f"{len(names)} names. Pass the answers to these shapes."
        )
    scale = np.where(np.asarray(deviation) > 0, deviation, 1)
    distances = np.full(vertices.shape[:2], np.nan)
    standardised = np.full(len(vertices), np.nan)
    for number, (shape, answer) in enumerate(zip(vertices, answers)):
        if np.isfinite(answer).all():
            difference = answer.astype("float64") - shape
            distances[number] = np.linalg.norm(difference, axis=-1)
            standardised[number] = (np.abs(difference) / scale).mean()
    return ShapeErrors(distances, standardised, tuple(names))


def write_shape_report(errors, faces, folder):
    """Writes the errors of a test, and returns a summary in a few lines. No shape is left out of the mean.

    `report.txt` has the summary and the worst shapes; `errors.npz` has `shapes_mm` with `names`, and `vertices_mm`, the
    mean for each vertex over all shapes that are finite, with `faces`.

    Args:
        errors: `ShapeErrors`.
        faces: the triangles of the template.
        folder: where to write; made if it does not exist.

    Example:

    >>> import tempfile
    >>> shapes = np.zeros((2, 5, 3))
    >>> errors = shape_errors(shapes, shapes + 1.0, np.full((5, 3), 10.0), ("a", "b"))
    >>> print(write_shape_report(errors, np.array([[0, 1, 2]]), tempfile.mkdtemp()))
    vertex error: mean 1.732 mm, median 1.732 mm, deviation 0.000 mm, of 2 shapes
    """
    numbers = errors.summary()
    shown = {name: millimetres(value) for name, value in numbers.items() if name.endswith("_mm")}
    lines = [
        "vertex error: mean {vertex_error_mm}, median {median_mm}, deviation {deviation_mm}, of ".format(**shown)
        + f"{numbers['test_shapes']:,} shapes"
    ]
    if numbers["not_finite"]:
        others = errors.vertices_mm[errors.finite]
        rest = f"; the mean of the others is {millimetres(others.mean())}" if len(others) else ""
        lines.append(f"not finite: {numbers['not_finite']:,} shapes ({_listed(errors, ~errors.finite)}){rest}")
    if numbers["far_off"]:
        lines.append(f"far off: {numbers['far_off']:,} shapes ({_listed(errors, errors.far_off)})")
    if numbers["officially_dropped"]:
        lines.append(
            f"without the shapes that the official script drops: {shown['officially_filtered_mm']} "
            f"({numbers['officially_dropped']:,} shapes dropped)"
        )
    worst = errors.order()[::-1][:SHOWN]
    table = [f"{millimetres(errors.shapes_mm[number]):>14}  {errors.names[number]}" for number in worst]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "report.txt", "\n".join([*lines, "", "worst finite shapes:", *table]) + "\n")
    finite = errors.vertices_mm[errors.finite]
    vertices = finite.mean(0) if len(finite) else np.full(errors.vertices_mm.shape[1], np.nan)
    np.savez(
        folder / "errors.npz",
        shapes_mm=errors.shapes_mm,
        names=np.array(errors.names),
        vertices_mm=vertices,
        faces=faces,
    )
    return "\n".join(lines)


def millimetres(value):
    """Returns a length as a text, also one that is far off."""
    return f"{value:.3f} mm" if not value >= 10_000 else f"{value:.2e} mm"


def _listed(errors, chosen):
    """Names some of the chosen shapes, the farthest first, with their errors where they have one."""
    numbers = np.flatnonzero(chosen)
    numbers = numbers[np.argsort(-np.nan_to_num(errors.shapes_mm[numbers], nan=np.inf), kind="stable")]
    named = [
        errors.names[number] + (f" {millimetres(errors.shapes_mm[number])}" if errors.finite[number] else "")
        for number in numbers[:SHOWN]
    ]
    return ", ".join(named + ["..."] * (len(numbers) > SHOWN))
