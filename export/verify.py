"""Runs the same inputs through a Keras model and its exports, each export in a fresh process without this package.

    python export/verify.py model.keras served/model/1 model.tflite --inputs images.npy

Prints a line of JSON for each export: the largest absolute and relative difference to Keras, how often the largest
output is the same one, and the outputs for the first input. Exit status 1 if a relative difference exceeds --tolerance.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

# What the fresh process runs. It gets an export and files for inputs and outputs; it must not need pinets_tf.
RUN_EXPORT = """
import sys
import numpy as np
export, inputs, outputs = sys.argv[1:]
x = np.load(inputs)
if export.endswith(".tflite"):
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=export)
    entry, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(entry, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry, x)
    interpreter.invoke()
    y = interpreter.get_tensor(result)
else:
    import tensorflow as tf
    loaded = tf.saved_model.load(export)
    signature = loaded.signatures["serving_default"]
    name, = signature.structured_input_signature[1]
    # What the Keras model returns; export/saved_model.py adds probabilities and classes.
    output, = loaded.signatures.get("lite", signature).structured_outputs
    y = signature(**{name: tf.constant(x)})[output].numpy()
assert "pinets_tf" not in sys.modules
np.save(outputs, y)
"""


def run_export(export, inputs):
    """Returns what an exported model answers to `inputs`, from a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("inputs.npy", "outputs.npy")]
        np.save(files[0], inputs)
        # -I leaves out the working folder, so that this package cannot be imported from it by accident.
        command = [sys.executable, "-I", "-c", RUN_EXPORT, str(Path(export).resolve()), *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(
                f"An export is a SavedModel folder or a .tflite file. Received: {export}, which did not run "
                f"({reason}). Export it again."
            )
        return np.load(files[1])


def compare(expected, received):
    """Returns how far two batches of outputs are apart.

    Of an export that returns pixels, half a grey level of the difference is its rounding, and what is darker than black
    or brighter than white is cut off.
    """
    if received.dtype == np.uint8:
        expected = np.clip(127.5 * expected + 127.5, 0, 255)
        difference = np.maximum(np.abs(received - expected) - 0.5, 0)
        scale = 255.0
    else:
        difference, scale = np.abs(received - expected), np.abs(expected).max()
    return {
        "largest_difference": float(difference.max()),
        "largest_relative_difference": float(difference.max() / scale),
        "same_answer": float(np.mean(expected.argmax(-1) == received.argmax(-1))),
    }


def shown(output):
    """Returns an output as JSON: the numbers, or the shape where there are too many to read."""
    return output.round(4).tolist() if output.size <= 1000 else {"shape": list(output.shape), "type": str(output.dtype)}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="the .keras file that was exported")
    parser.add_argument("exports", nargs="+", help="SavedModel folders and .tflite files")
    parser.add_argument("--inputs", required=True, help="a .npy file of inputs")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative difference that is accepted")
    options = parser.parse_args(arguments)
    import keras

    import pinets_tf  # noqa: F401  registers the layers that the file may hold

    inputs = np.load(options.inputs).astype("float32")
    expected = keras.ops.convert_to_numpy(keras.models.load_model(options.model, compile=False)(inputs))
    within = True
    for export in options.exports:
        try:
            received = run_export(export, inputs)
        except ValueError as error:
            sys.exit(f"{parser.prog}: {error}")
        result = compare(expected, received)
        within = within and result["largest_relative_difference"] <= options.tolerance
        print(json.dumps({"export": export, **result, "first_outputs": shown(received[0])}))
    if not within:
        sys.exit(f"{parser.prog}: a relative difference exceeds {options.tolerance}.")


if __name__ == "__main__":
    main()
