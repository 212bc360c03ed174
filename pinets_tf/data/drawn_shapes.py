"""A small set of pictures to try the trainers with, drawn here and so free of any licence but that of the package."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

# The shapes of the sample as conditions on coordinates u, v of about -1 to 1 around the centre.
SHAPES: dict[str, Callable] = {
    "checks": lambda u, v: (np.floor(3 * u) + np.floor(3 * v)) % 2 == 0,
    "cross": lambda u, v: np.minimum(abs(u), abs(v)) < 0.3,
    "disc": lambda u, v: u**2 + v**2 < 1,
    "frame": lambda u, v: np.maximum(abs(u), abs(v)) > 0.6,
    "ring": lambda u, v: abs(np.hypot(u, v) - 0.75) < 0.25,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) < 0.9,
    "stripes": lambda u, v: np.floor(4 * u) % 2 == 0,
    "triangle": lambda u, v: abs(u) < (v + 1) / 2,
}


def write_sample(folder, *, train=60, validation=15, seed=0):
    """Writes drawings of eight shapes as `train/SHAPE/*.jpeg` and `val/SHAPE/*.jpeg`, and returns the folder.

    Colours, place, size, a turn of up to a fifth of a right angle, background and noise are random, and one image in
    ten is grey. Nothing but the shape tells the classes apart.

    Args:
        folder: where to write; it is made if it does not exist.
        train: training images of a class.
        validation: validation images of a class.
        seed: an integer; the same one writes the same files.
    """
    folder = Path(folder)
    for part, (split, count) in enumerate((("train", train), ("val", validation))):
        for label, name in enumerate(SHAPES):
            target = folder / split / name
            target.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                random = np.random.default_rng((seed, part, label, number))
                image = _drawing(SHAPES[name], random)
                if random.random() < 0.1:
                    image = image.mean(-1, keepdims=True).astype("uint8")
                (target / f"{name}_{number:03}.jpeg").write_bytes(tf.io.encode_jpeg(image, quality=90).numpy())
    return folder


def _drawing(shape, random):
    height, width = random.integers((120, 160), (181, 241))
    y, x = np.mgrid[:height, :width]
    radius = random.uniform(0.28, 0.45) * height
    top, left = (random.uniform(radius, side - radius) for side in (height, width))
    turn = random.uniform(-0.3, 0.3)
    v, u = (y - top) / radius, (x - left) / radius
    u, v = np.cos(turn) * u - np.sin(turn) * v, np.sin(turn) * u + np.cos(turn) * v
    inside = (np.maximum(abs(u), abs(v)) < 1) & shape(u, v)
    # Half of the drawings have the colours of figure and ground exchanged, or their share of the area gave them away.
    figure, ground = random.uniform(30, 225, (2, 3))
    while abs(figure.mean() - ground.mean()) < 40:
        figure, ground = random.uniform(30, 225, (2, 3))
    slope = random.uniform(-30, 30, (2, 3))
    image = np.where(inside[..., None], figure, ground) + slope[0] * (y / height - 0.5)[..., None]
    image = image + slope[1] * (x / width - 0.5)[..., None] + random.normal(0, 12, (height, width, 1))
    return np.clip(image, 0, 255).astype("uint8")
