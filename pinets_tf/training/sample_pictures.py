"""Pictures of what a generator makes: grids, strips from one latent to another, and strips order by order."""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

MODES = ("linear", "spherical")
WHITE = 255
# Pixels: the width that a column of a labelled strip has at least, and the height of the line of labels.
LABELLED_WIDTH, LABEL_HEIGHT = 64, 22
# A power of two, so that sizes in inches are exact and matplotlib loses no pixel.
DOTS_PER_INCH = 128
# Below this sine of their angle, two latents have no circle between them.
PARALLEL = 1e-6


def write_grid(images, path, columns=None, separation=1, zoom=1):
    """Writes pictures as a PNG, row after row, with white lines between them; cells that are left over are white.

    The file is either the old or the new one, whenever it is read. Its folder is made if it does not exist.

    Args:
        images: uint8 (n, height, width, channels), with 1 or 3 channels.
        path: the path of the PNG to write.
        columns: pictures in a row; by default the least number that gives no more rows than columns.
        separation: width of the lines, in pixels of the file.
        zoom: an integer; each pixel of a picture becomes a square of so many.

    Returns:
        What was written, a uint8 array (height, width, channels).

    Raises:
        ValueError: if the images are of another shape or type, or a number makes no sense.

    Example:

    >>> import tempfile
    >>> images = np.zeros((5, 28, 28, 1), "uint8")
    >>> write_grid(images, Path(tempfile.mkdtemp()) / "grid.png", columns=3).shape
    (57, 86, 1)
    """
    grid = _grid(images, columns, separation, zoom)
    _write(path, lambda partial: partial.write_bytes(tf.io.encode_png(grid).numpy()))
    return grid


def interpolate(first, second, steps, mode="linear"):
    """Returns latents on the way from each row of one array to the same row of another, both ends included.

    Args:
        first: numbers (rows, d).
        second: numbers (rows, d).
        steps: latents on each way, 2 or more.
        mode: `"linear"` as in Fig. 6 and 7, a + t (b - a), or `"spherical"`, along the arc between both directions, for
            latents whose length matters, such as normal ones. Two of the same or of opposite directions have no such
            arc, and are interpolated linearly.

    Returns:
        An array (rows, steps, d), float64 where the latents are, else float32.

    Raises:
        ValueError: if shapes, `steps` or `mode` make no sense.

    Example:

    >>> interpolate([[0.0, 0.0]], [[1.0, -2.0]], steps=3).tolist()
    [[[0.0, 0.0], [0.5, -1.0], [1.0, -2.0]]]
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.ndim != 2 or first.shape != second.shape or first.size == 0:
        raise ValueError(
            "Latents are interpolated between two arrays of one shape (rows, d). "
            f"Received: shapes {first.shape} and {second.shape}. Pass one source for each target."
        )
    if not _is_whole(steps, 2):
        raise ValueError(
            f"`steps` must be an integer of 2 or more, since both ends are shown. Received: steps={steps!r}. "
            "Pass for example 9."
        )
    if mode not in MODES:
        raise ValueError(f"`mode` must be one of {', '.join(MODES)}. Received: mode={mode!r}. Pass one of them.")
    dtype = "float64" if "float64" in (first.dtype, second.dtype) else "float32"
    first, second = (latents.astype("float64")[:, None] for latents in (first, second))
    t = np.linspace(0, 1, steps)[:, None]
    start, end = 1 - t, t
    if mode == "spherical":
        lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
        cosine = np.clip((first * second).sum(-1) / np.maximum(lengths, np.finfo("float64").tiny), -1, 1)
        angle = np.arccos(cosine)[..., None]
        # A latent of zeros has no direction.
        curved = (np.sin(angle) > PARALLEL) & (lengths[..., None] > 0)
        sine = np.where(curved, np.sin(angle), 1)
        start, end = (np.where(curved, np.sin(part * angle) / sine, part) for part in (start, end))
    return (start * first + end * second).astype(dtype)


def draw_interpolation(generate, sources, targets, path, steps=9, mode="linear", zoom=1):
    """Draws what lies between latents, a row for each pair: the source on the left, the target on the right.

    Args:
        generate: a function from latents (n, d) to uint8 images (n, height, width, channels); it is called once, with
            the latents of all rows.
        sources: latents (rows, d).
        targets: latents (rows, d).
        path: the path of the PNG to write.
        steps: pictures in a row.
        mode: as in `interpolate`.
        zoom: as in `write_grid`.

    Returns:
        What was written, a uint8 array (height, width, channels).

    Raises:
        ValueError: if the latents do not fit, or `generate` returns something else.
    """
    latents = interpolate(sources, targets, steps, mode)
    images = _generated(generate, latents.reshape(-1, latents.shape[-1]), "generate")
    return write_grid(images, path, columns=steps, zoom=zoom)


def draw_contributions(generators, latents, path, zoom=None):
    """Draws what generators make of the same latents: a row for each latent, and a column with a label for each.

    With generators that leave out the products above an order, it shows what each order adds.

    Args:
        generators: an ordered dictionary from a label, such as `"1"`, `"2"`, ... `"N"`, to a function from latents
            (n, d) to uint8 images (n, height, width, channels).
        latents: numbers (n, d).
        path: the path of the PNG to write; its folder is made if it does not exist.
        zoom: as in `write_grid`; by default the least that gives a label 64 pixels.

    Returns:
        The pictures without their labels, as written, a uint8 array (height, width, channels).

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there are no generators, or they return something else or images of different shapes.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib. Received: it is not installed. Install it with: "
            "pip install 'pinets_tf[examples]'"
        ) from error
    columns = {label: _generated(generate, latents, repr(label)) for label, generate in generators.items()}
    shapes = {images.shape for images in columns.values()}
    if len(shapes) != 1:
        raise ValueError(
            "Columns that are compared are images of one shape, of one generator at least. "
            f"Received: {', '.join(map(str, sorted(shapes))) or 'no generators'}. "
            "Pass generators that differ in their orders alone."
        )
    images = np.stack(list(columns.values()), axis=1)
    zoom = -(-LABELLED_WIDTH // images.shape[3]) if zoom is None else zoom
    grid = _grid(images.reshape(-1, *images.shape[2:]), len(columns), 1, zoom)
    height, width = grid.shape[:2]
    whole = height + LABEL_HEIGHT
    figure = Figure(figsize=(width / DOTS_PER_INCH, whole / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    figure.figimage(np.broadcast_to(grid, (height, width, 3)), origin="upper")
    for number, label in enumerate(columns):
        middle = (number + 0.5) * (width + 1) / len(columns)
        x, y = middle / width, (height + LABEL_HEIGHT / 2) / whole
        figure.text(x, y, str(label), ha="center", va="center_baseline", fontsize=7)
    _write(path, lambda partial: figure.savefig(partial, format="png", dpi=DOTS_PER_INCH))
    return grid


def _grid(images, columns, separation, zoom):
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3) or images.size == 0:
        raise ValueError(
            "Images must be a uint8 array of shape (n, height, width, channels), n > 0, with 1 or 3 channels. "
            f"Received: shape {images.shape} and type {images.dtype}. Round images in [-1, 1] to grey levels 0 to 255."
        )
    count, height, width, channels = images.shape
    columns = int(np.ceil(np.sqrt(count))) if columns is None else columns
    for name, value, least in (("columns", columns, 1), ("separation", separation, 0), ("zoom", zoom, 1)):
        if not _is_whole(value, least):
            raise ValueError(
                f"`{name}` must be an integer of {least} or more. Received: {name}={value!r}. Pass such a number."
            )
    rows = -(-count // columns)
    cells = np.full((rows * columns, height * zoom + separation, width * zoom + separation, channels), WHITE, "uint8")
    cells[:count, : height * zoom, : width * zoom] = images.repeat(zoom, 1).repeat(zoom, 2)
    cells = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    grid = cells.reshape(rows * cells.shape[1], columns * cells.shape[3], channels)
    return grid[: grid.shape[0] - separation, : grid.shape[1] - separation]


def _generated(generate, latents, name):
    """Returns the images that a function makes of latents, one for each."""
    images = np.asarray(generate(latents))
    if images.shape[:1] != (len(latents),):
        raise ValueError(
            "A generator makes one image of each latent. "
            f"Received: images of shape {images.shape} for {len(latents)} latents from {name}. "
            "Return all of them in their order."
        )
    return images


def _is_whole(value, least):
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least


def _write(path, write):
    """Writes a file through `write`, a function of a path, as a whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    write(partial)
    os.replace(partial, path)
