"""Runs the same inputs through a Keras model and its exports, each export in a fresh process without this package.

    python export/verify.py model.keras served/model/1 model.tflite model.onnx model.xml --inputs images.npy

An export is a SavedModel folder, a .tflite, an .onnx, or the .xml of OpenVINO, which is run in float32; all run on the
processor. Prints a line of JSON for each: the largest absolute and relative difference to Keras, the share of inputs
with the same answer (of a classifier the same greatest output, else an error below a tenth of the deviation from the
mean output), the median time of a call with one input, by which rule it was judged, whether it passed, and the outputs
for the first input. An export in float32 passes with a relative difference up to --tolerance. One with weights of fewer
bits cannot meet that, and passes with a share of same answers from --agreement on. Exit status 1 if one fails. A model
of half precision is compared as it is exported, in float32.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

from pinets_tf import script
from pinets_tf.export import in_float32, load_model, read_inputs
from pinets_tf.export.runtime import agreement
from pinets_tf.files import expanded

BATCH = 16
# What the fresh process runs. It gets an export, files for inputs and outputs, and a batch size, and prints whether
# weights have fewer bits, and the time. It must not need pinets_tf, and TensorFlow only for a SavedModel.
RUN_EXPORT = """
import json, statistics, sys, time
import numpy as np
export, inputs, outputs, size = sys.argv[1:]
x, size, fewer_bits = np.load(inputs), int(size), False
if export.endswith(".tflite"):
    from ai_edge_litert.interpreter import Interpreter
    interpreter, shape = Interpreter(model_path=export), None
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    for tensor in interpreter.get_tensor_details():
        fewer_bits |= tensor["dtype"] == np.float16 or tensor["quantization_parameters"]["scales"].size > 0
    def answer(batch):
        global shape
        if len(batch) > 1 and entry["shape_signature"][0] == 1:
            return np.concatenate([answer(batch[row : row + 1]) for row in range(len(batch))])
        scale, zero_point = entry["quantization"]
        if scale:
            limits = np.iinfo(entry["dtype"])
            batch = np.clip(np.round(batch / scale) + zero_point, limits.min, limits.max).astype(entry["dtype"])
        if batch.shape != shape:
            interpreter.resize_tensor_input(entry["index"], batch.shape)
            interpreter.allocate_tensors()
            shape = batch.shape
        interpreter.set_tensor(entry["index"], batch)
        interpreter.invoke()
        answered, (scale, zero_point) = interpreter.get_tensor(result["index"]), result["quantization"]
        return (answered.astype("float32") - zero_point) * scale if scale else answered
elif export.endswith(".onnx"):
    import onnx, onnxruntime
    fewer = {getattr(onnx.TensorProto, name) for name in ("FLOAT16", "BFLOAT16", "INT8", "UINT8")}
    fewer_bits = any(weights.data_type in fewer for weights in onnx.load(export).graph.initializer)
    session = onnxruntime.InferenceSession(export, providers=["CPUExecutionProvider"])
    (entry,), (result,) = session.get_inputs(), session.get_outputs()
    answer = lambda batch: session.run([result.name], {entry.name: batch})[0]
elif export.endswith(".xml"):
    sys.modules["openvino_telemetry"] = None  # It would report this run to the makers of OpenVINO.
    import openvino
    model = openvino.Core().read_model(export)
    (entry,), (result,) = model.inputs, model.outputs
    weights = {op.get_element_type().get_type_name() for op in model.get_ops() if op.get_type_name() == "Constant"}
    fewer_bits = not weights.isdisjoint(("f16", "bf16", "i8", "u8", "i4", "u4"))
    # Its default is bfloat16 on some processors.
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = lambda batch: compiled(batch)[0]
else:
    import tensorflow as tf
    loaded = tf.saved_model.load(export)
    signature = loaded.signatures["serving_default"]
    name, = signature.structured_input_signature[1]
    # What the Keras model returns; export/saved_model.py adds probabilities and classes.
    output, = loaded.signatures.get("lite", signature).structured_outputs
    answer = lambda batch: signature(**{name: tf.constant(batch)})[output].numpy()
np.save(outputs, np.concatenate([answer(x[first : first + size]) for first in range(0, len(x), size)]))
times = []
for _ in range(11):
    began = time.perf_counter()
    answer(x[:1])
    times.append((time.perf_counter() - began) * 1000)
assert "pinets_tf" not in sys.modules
print(json.dumps({"fewer_bits": bool(fewer_bits), "milliseconds": statistics.median(times[1:])}))
"""


def read_model_and_inputs(model_file, inputs_file):
    """Returns the Keras model as it is exported, and the inputs as it takes them.

    Raises:
        ValueError: if one of them cannot be read, or they do not fit.
    """
    inputs, model = read_inputs(inputs_file), in_float32(load_model(model_file))
    entries, results = (getattr(model, name, None) or [] for name in ("inputs", "outputs"))
    if len(entries) != 1 or len(results) != 1:
        raise ValueError(
            f"A model that is verified has one input and one output. Received: {model_file} with {len(entries)} inputs "
            f"and {len(results)} outputs. Compare the signatures of its SavedModel in Python."
        )
    wanted, dtype = tuple(entries[0].shape), entries[0].dtype
    fits = len(wanted) == inputs.ndim and all(size in (None, got) for size, got in zip(wanted, inputs.shape))
    if not fits or not len(inputs) or inputs.dtype.kind not in "biuf":
        raise ValueError(
            f"Inputs are at least one sample of numbers as the model takes them, of shape {wanted}. "
            f"Received: {inputs_file} of shape {inputs.shape} and type {inputs.dtype}. Pass a part of the test data."
        )
    with np.errstate(over="ignore"):
        inputs = inputs.astype("float32" if "float" in dtype else dtype)
    if bad := np.sum(~np.isfinite(inputs)):
        raise ValueError(
            f"Inputs are finite numbers, also in {inputs.dtype}. "
            f"Received: {inputs_file} with {bad:,} of {inputs.size:,} that are not. Leave those samples out."
        )
    return model, inputs


def run_keras(model, inputs):
    """Returns what a Keras model answers to `inputs`."""
    with keras.device("cpu:0"):  # Graphics cards round products of float32 as they like.
        parts = [model(inputs[first : first + BATCH], training=False) for first in range(0, len(inputs), BATCH)]
    outputs = np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])
    if bad := np.sum(~np.isfinite(outputs)):
        raise ValueError(
            f"Exports are compared with a Keras model of finite outputs. Received: {bad:,} of {outputs.size:,} that "
            "are not. Leave those inputs out, or train the model again."
        )
    return outputs


def run_export(export, inputs):
    """Returns what an exported model answers to `inputs`, and what `RUN_EXPORT` prints, from a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("inputs.npy", "outputs.npy")]
        np.save(files[0], inputs)
        # -I leaves out the working folder, so that this package cannot be imported from it by accident.
        command = [sys.executable, "-I", "-c", RUN_EXPORT, str(Path(export).resolve()), *files, str(BATCH)]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", env=environment, check=False
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise ValueError(
                "An export is a SavedModel folder, a .tflite, an .onnx, or an .xml of OpenVINO. "
                f"Received: {export}, which did not run ({reason}). Export it again, or install what is missing."
            )
        return np.load(files[1]), json.loads(done.stdout.splitlines()[-1])


def compare(expected, received):
    """Returns how far two batches of outputs are apart.

    Of an export that returns pixels, half a grey level of the difference is its rounding, and what is darker than black
    or brighter than white is cut off.
    """
    if received.dtype == np.uint8:
        expected = np.clip(127.5 * expected + 127.5, 0, 255)
        difference, scale = np.maximum(np.abs(received - expected) - 0.5, 0), 255.0
    else:
        difference, scale = np.abs(received - expected), np.abs(expected).max() or 1.0
    return {
        "largest_difference": float(difference.max()),
        "largest_relative_difference": float(difference.max() / scale),
        "same_answer": agreement(expected, received),
    }


def verify(export, inputs, expected, options):
    """Returns the line of an export, and what is wrong with it, or `None`."""
    received, run = run_export(export, inputs)
    if received.shape != expected.shape or not np.isfinite(received).all():
        raise ValueError(
            f"An export returns finite outputs of the shape that Keras returns, {expected.shape}. Received: {export} "
            f"with shape {received.shape}, {np.sum(~np.isfinite(received)):,} not finite. Export the model again."
        )
    result, remedy = compare(expected, received), "Export the model again."
    share, largest = result["same_answer"], result["largest_relative_difference"]
    if run["fewer_bits"]:
        rule, passed = "agreement", share >= options.agreement
        reason = f"a share of same answers of {share:.3g}, below --agreement={options.agreement}"
        remedy = "Export it with more bits, such as --precision=float16."
    else:
        rule, passed = "difference", largest <= options.tolerance
        reason = f"a largest relative difference of {largest:.3g}, above --tolerance={options.tolerance}"
    result |= {"milliseconds_for_one_input": round(run["milliseconds"], 3), "judged_by": rule, "passed": passed}
    first = received[0].round(4).tolist()
    if received[0].size > 1000:  # Too many to read.
        first = {"shape": list(received[0].shape), "type": str(received.dtype)}
    line = json.dumps({"export": export, **result, "first_outputs": first})
    wrong = f"An export answers as the Keras model does. Received: {export} with {reason}. {remedy}"
    return line, None if passed else wrong


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=expanded, help="the .keras file that was exported")
    parser.add_argument(
        "exports", type=os.path.expanduser, nargs="+", help="SavedModel folders, .tflite, .onnx, and .xml of OpenVINO"
    )
    parser.add_argument("--inputs", type=expanded, required=True, help="a .npy file of inputs")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative difference; by default 1e-4")
    parser.add_argument("--agreement", type=float, default=0.99, help="with fewer bits: same answers; by default .99")
    options = parser.parse_args(arguments)
    warnings.formatwarning = lambda message, *_: f"{parser.prog}: {message}\n"
    failures = []
    try:
        model, inputs = read_model_and_inputs(options.model, options.inputs)
        expected = run_keras(model, inputs)
    except ValueError as error:
        sys.exit(f"{parser.prog}: {error}")
    for export in options.exports:
        try:
            line, wrong = verify(export, inputs, expected, options)
            print(line, flush=True)
        except ValueError as error:
            wrong = error
        failures += [] if wrong is None else [f"{parser.prog}: {wrong}"]
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    script.start()
    main()
