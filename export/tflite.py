"""Converts a SavedModel to TFLite, with builtin operators alone.

    python export/tflite.py served/order2/1 --output order2.tflite
    python export/tflite.py served/order2/1 --output order2.tflite --precision float32
    python export/tflite.py served/order2/1 --output order2.tflite --precision int8 --inputs inputs.npy
    python export/tflite.py served/order2/1 --output order2.tflite --precision int8 --inputs inputs.npy --integer_io

By default, dynamic_int8, weights have eight bits, which is a quarter of float32 and the quickest on most phones; with
float16 they have half of it. With int8 activations have eight bits too, as some accelerators need it: every second one
of --inputs, some hundred inputs like those to come, gives their ranges, and the others tell whether the model still
answers as the float one does. If it does on less than --agreement of them, nothing is written. The products of a
polynomial have heavy tails, so some of them may stay in float (`pinets_tf.export.quantize_int8`) unless --integer_only
is given.

Inputs and outputs are float32 and the batch is any, also with --integer_only: the model itself rounds what it is given.
Accelerators of edge devices, such as the Edge TPU, demand more, which is --integer_io: integers alone, also as inputs
and outputs, and all shapes fixed, with a batch of one. An input x is then given as round(x / scale) + zero_point in
int8, and an output y read as (y - zero_point) * scale, with the numbers that the file has for each. --fixed_batch fixes
the batch in the other precisions. What a model in eight bits takes is printed with its share of equal answers.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import argparse
import sys

from pinets_tf import script
from pinets_tf.export import PRECISIONS, convert, quantize_int8, read_inputs
from pinets_tf.files import expanded


def eight_bits(options):
    """Returns the model of `options` with eight bits, or raises a `ValueError` that says what else there is."""
    if options.inputs is None:
        raise ValueError(
            "The ranges of eight bits are those of inputs. Received: --precision=int8 without --inputs. "
            "Pass an .npy file of some hundred inputs, or --precision=dynamic_int8, which needs none."
        )
    inputs = read_inputs(options.inputs)
    found = quantize_int8(
        convert(options.saved_model, signatures=options.signature, fixed_batch=options.fixed_batch),
        inputs[::2],
        inputs[1::2],
        agreement=options.agreement,
        float_operators=not options.integer_only,
        integer_io=options.integer_io,
    )
    if found.agreement < options.agreement:
        given = "--integer_io" if options.integer_io else "--integer_only"
        other = f"leave out {given}, " if options.integer_only else ""
        raise ValueError(
            f"A model in eight bits answers as the float one does on {options.agreement:.1%} of the inputs. "
            f"Received: {found}. Nothing was written; {other}pass --precision=dynamic_int8, or a lower --agreement."
        )
    print(found, file=sys.stderr)
    return found.content


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("saved_model", type=expanded, help="a version of a SavedModel")
    parser.add_argument("--output", type=expanded, required=True, help="the .tflite file to write")
    parser.add_argument(
        "--precision", choices=[*PRECISIONS, "int8"], default="dynamic_int8", help="by default dynamic_int8"
    )
    parser.add_argument("--signature", action="append", help="which to convert, also several; by default lite")
    parser.add_argument("--inputs", type=expanded, help="for int8: an .npy file of inputs")
    parser.add_argument(
        "--agreement", type=float, default=0.99, help="for int8: share of equal answers; by default .99"
    )
    parser.add_argument("--integer_only", action="store_true", help="for int8: no product in float")
    parser.add_argument("--fixed_batch", action="store_true", help="a batch of one, and no shape that is computed")
    parser.add_argument(
        "--integer_io", action="store_true", help="for int8: int8 inputs and outputs, --integer_only and --fixed_batch"
    )
    options = parser.parse_args(arguments)
    options.integer_only |= options.integer_io
    options.fixed_batch |= options.integer_io
    try:
        if options.integer_io and options.precision != "int8":
            raise ValueError(
                "Integer inputs and outputs are those of eight bits throughout. "
                f"Received: --integer_io with --precision={options.precision}. Pass --precision=int8 and --inputs."
            )
        if options.precision == "int8":
            model = eight_bits(options)
        else:
            model = convert(options.saved_model, options.precision, options.signature, fixed_batch=options.fixed_batch)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        partial = options.output.with_name(options.output.name + ".partial")
        partial.write_bytes(model)
        os.replace(partial, options.output)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print(options.output)


if __name__ == "__main__":
    script.start()
    main()
