"""Converts a SavedModel to TFLite, with builtin operators alone.

python export/tflite.py served/model/1 --output model.tflite
"""

import argparse
import os
import sys
from pathlib import Path

import tensorflow as tf


def convert(saved_model):
    """Returns the bytes of a float32 TFLite model, or raises a `ValueError` that names what cannot be converted."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["serving_default"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        return converter.convert()
    except Exception as error:  # The converter raises a class of its own that it does not export.
        raise ValueError(
            f"A TFLite model is made of builtin operators. Received: {saved_model}, which needs others ({error}). "
            "Replace the layer that the message names."
        ) from error


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("saved_model", type=Path, help="a version of a SavedModel")
    parser.add_argument("--output", type=Path, required=True, help="the .tflite file to write")
    options = parser.parse_args(arguments)
    if not (options.saved_model / "saved_model.pb").is_file():
        sys.exit(
            f"{parser.prog}: a SavedModel is a folder with saved_model.pb. Received: {options.saved_model}. "
            "Pass the folder that export/saved_model.py printed."
        )
    try:
        model = convert(options.saved_model)
    except ValueError as error:
        sys.exit(f"{parser.prog}: {error}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    partial = options.output.with_name(options.output.name + ".partial")
    partial.write_bytes(model)
    os.replace(partial, options.output)
    print(options.output)


if __name__ == "__main__":
    main()
