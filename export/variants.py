"""Compares what a SavedModel is in all TFLite precisions: size, answers, accuracy and time.

    python export/variants.py served/order2/1 --inputs inputs.npy --labels labels.npy --output order2_tflite

`--inputs` is an .npy file of some hundred inputs, as the model takes them: every second one gives the ranges of eight
bits, the others are asked. "same answer" is how often a variant answers as float32 does, "accuracy" how often its
greatest output is the one of `--labels`. Times are of one input, by LiteRT with XNNPACK on this machine's processor,
the median of interleaved rounds; those of a phone are others. With `--output` the files are written, except for eight
bits that answer otherwise than float32 on more than one input in a hundred. If there are no operators of eight bits for
a model, its table has the others.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import argparse
import sys

import numpy as np

from pinets_tf import script
from pinets_tf.export import PRECISIONS, convert, quantize_int8, read_inputs
from pinets_tf.export.runtime import NotRunError, agreement, answers, milliseconds
from pinets_tf.files import expanded

LEAST_AGREEMENT = 0.99
THREADS = (1, 2)


def variants(saved_model, inputs):
    """Returns the contents of all variants by name, and of eight bits how it was made, or why it does not run."""
    contents = {precision: convert(saved_model, precision) for precision in PRECISIONS}
    options = {"calibration": inputs[::2], "held_out": inputs[1::2], "agreement": LEAST_AGREEMENT}
    try:
        whole, mixed = (
            quantize_int8(contents["float32"], **options, float_operators=floats) for floats in (False, True)
        )
    except NotRunError as error:
        return contents, error
    return {**contents, "int8, integers only": whole.content, "int8": mixed.content}, mixed


def rows(contents, inputs, labels):
    """Returns the table: a heading, and a row for each variant."""
    asked, labels = inputs[1::2], None if labels is None else labels[1::2]
    outputs = {name: answers(content, asked) for name, content in contents.items()}
    times = [milliseconds(contents.values(), asked[0], threads) for threads in THREADS]
    table = [["variant", "kB", "same answer", *(["accuracy"] if labels is not None else [])]]
    table[0] += [f"ms, {threads} thread{'s' * (threads > 1)}" for threads in THREADS]
    for name, *taken in zip(contents, *times):
        row = [name, f"{len(contents[name]) / 1000:,.0f}", f"{agreement(outputs['float32'], outputs[name]):.3f}"]
        row += [f"{np.mean(outputs[name].argmax(-1) == labels):.3f}"] if labels is not None else []
        table.append([*row, *(f"{one:.3f}" for one in taken)])
    return table


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("saved_model", type=expanded, help="a version of a SavedModel")
    parser.add_argument("--inputs", type=expanded, required=True, help="an .npy file of inputs")
    parser.add_argument("--labels", type=expanded, help="an .npy file with the number of the class of each input")
    parser.add_argument("--output", type=expanded, help="a folder for the .tflite files")
    options = parser.parse_args(arguments)
    try:
        inputs = read_inputs(options.inputs)
        labels = None if options.labels is None else read_inputs(options.labels)
        if labels is not None and labels.shape != inputs.shape[:1]:
            raise ValueError(
                "Labels are one number for each input. "
                f"Received: shape {labels.shape} for {len(inputs)} inputs. Pass those of the same file."
            )
        contents, eight_bits = variants(options.saved_model, inputs)
        table = rows(contents, inputs, labels)
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
            # Those that do not run have none.
            agrees = getattr(eight_bits, "agreement", 0) >= LEAST_AGREEMENT
            for name in (*PRECISIONS, *(["int8"] if agrees else [])):
                (options.output / f"{name}.tflite").write_bytes(contents[name])
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(f"int8: {eight_bits}")


if __name__ == "__main__":
    script.start()
    main()
