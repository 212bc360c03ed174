"""Writes a trained model as a versioned SavedModel, laid out as TensorFlow Serving reads it.

    python export/saved_model.py runs/order2/model.keras --output served

makes served/model/1, the next time served/model/2. The version appears under its number only when it is complete, so
that a server that watches the folder never sees half a model. With --images a generator of images in [-1, 1] returns
uint8 pixels. What batch normalisations of products compute from their
weights at every call is computed once, before (`pinets_tf.models.fold_normalization`).
"""

import argparse
import os
import shutil
import sys
import zipfile
from pathlib import Path

import keras
from keras import ops

import pinets_tf  # noqa: F401  registers the layers that the file may hold
from pinets_tf.models import fold_normalization


def export_saved_model(model, output, name, images=False):
    """Writes `model` to `output`/`name`/VERSION, VERSION being the next free number, and returns that folder."""
    base = Path(output) / name
    base.mkdir(parents=True, exist_ok=True)
    versions = [int(folder.name) for folder in base.iterdir() if folder.name.isdecimal()]
    target = base / str(max(versions, default=0) + 1)
    partial = base / f"partial-{target.name}"
    shutil.rmtree(partial, ignore_errors=True)
    if getattr(model, "outputs", None):  # Not a model of a class of its own.
        model = fold_normalization(model)
    if images:
        model = with_pixels(model)
    model.export(partial, verbose=False)
    os.rename(partial, target)
    return target


def with_pixels(generator):
    """Returns a model whose images are uint8, round(127.5 x + 127.5), where those of `generator` are in [-1, 1]."""
    outputs = getattr(generator, "outputs", None) or ()
    if len(outputs) != 1 or len(outputs[0].shape) != 4:
        raise ValueError(
            "Images are the one output of a generator, of shape (batch, height, width, channels). "
            f"Received: outputs of shape {', '.join(str(output.shape) for output in outputs)}. Leave out --images."
        )
    pixels = ops.clip(ops.round(ops.cast(outputs[0], "float32") * 127.5 + 127.5), 0, 255)
    return keras.Model(generator.input, ops.cast(pixels, "uint8"), name=generator.name)


def load_model(path):
    """Loads a `.keras` file, or raises a `ValueError` that says what is wrong with it."""
    path = Path(path)
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(f"A model is a .keras file. Received: {path}. Pass the model.keras of a run.")
    try:
        return keras.models.load_model(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"A model is a .keras file. Received: {path}, which cannot be loaded ({error}). "
            "If it is damaged, write or copy it again."
        ) from error


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="the .keras file of a trained model")
    parser.add_argument("--output", required=True, help="the folder to export into")
    parser.add_argument("--name", help="the name under which it is served; by default that of the file")
    parser.add_argument("--images", action="store_true", help="a generator: return uint8 pixels, not [-1, 1]")
    options = parser.parse_args(arguments)
    try:
        model = load_model(options.model)
        target = export_saved_model(model, options.output, options.name or Path(options.model).stem, options.images)
    except (ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print(target)


if __name__ == "__main__":
    main()
