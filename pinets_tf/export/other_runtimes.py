"""A SavedModel for runtimes that are not TensorFlow's: ONNX and OpenVINO."""

import contextlib
import importlib
import io
import logging
import os
import re
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from pinets_tf.export.saved_model import signature_names, written_aside
from pinets_tf.layers.checks import one_of

# What a runtime needs, and what its files are called.
RUNTIMES = {"onnx": (("tf2onnx", "onnx", "onnxruntime"), ".onnx"), "openvino": (("openvino",), ".xml")}
# Of the largest output, how far an export may be from the SavedModel.
TOLERANCE = 1e-3
# The version of the operators of ONNX that tf2onnx 1.17 knows best.
_OPSET = 18
# On some processors OpenVINO computes in bfloat16 unless it is told not to.
_PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}
_BATCH = 16
# What there is of a spectrum: operator, attributes and second input in ONNX, where its last axis has both parts.
_OF_SPECTRUM = {
    "Real": ("Gather", {"axis": -1}, 0),
    "Imag": ("Gather", {"axis": -1}, 1),
    "ComplexAbs": ("ReduceL2", {"keepdims": 0}, [-1]),
}


def check_runtime(runtime, file):
    """Raises an error unless `write_checked` can write `file`.

    Args:
        runtime: `"onnx"` or `"openvino"`.
        file: the file to be written.

    Raises:
        ImportError: if a package is missing.
        ValueError: if there is no such runtime, or `file` is a folder or has another suffix.
    """
    one_of("runtime", runtime, tuple(RUNTIMES))
    packages, suffix = RUNTIMES[runtime]
    file = Path(file)
    if file.suffix != suffix or file.is_dir():
        raise ValueError(
            f"A model for {runtime} is a file whose name ends in {suffix}. "
            f"Received: {file}{', a folder' if file.is_dir() else ''}. Pass for example model{suffix}."
        )
    for package in packages:
        _imported(package, runtime)


def to_onnx(saved_model):
    """Returns a SavedModel as the content of an .onnx file.

    The signature `lite` is converted where there is one, else `serving_default`. The batch stays dynamic, and inputs
    and outputs keep their names; an output that is named as an input gets `_output` behind its name.

    Args:
        saved_model: the folder of a version of a SavedModel.

    Returns:
        Bytes.

    Raises:
        ImportError: if tf2onnx or onnx is missing.
        ValueError: if it is no SavedModel, or the model needs operators that ONNX does not have.

    Example:

    >>> import tempfile
    >>> import keras
    >>> import numpy as np
    >>> from pinets_tf.export import export_saved_model, run_onnx, to_onnx
    >>> from pinets_tf.layers import CCP
    >>> model = keras.Sequential([keras.Input((4,), name="z"), CCP(3, order=2, rank=5)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     content = to_onnx(export_saved_model(model, folder, "polynomial"))
    >>> run_onnx(content, {"z": np.ones((7, 4), "float32")})["outputs"].shape
    (7, 3)
    """
    return _onnx(saved_model, _function(saved_model))


def to_openvino(saved_model, file):
    """Writes a SavedModel for OpenVINO: `file`, whose name ends in .xml, and its float32 weights in a .bin beside it.

    Signature and names are those of `to_onnx`. Both files are written aside and renamed, so nothing is left behind
    whatever goes wrong, and files that are there are replaced.

    Args:
        saved_model: the folder of a version of a SavedModel.
        file: the .xml file; its folder is made.

    Raises:
        ImportError: if openvino is missing.
        ValueError: if `file` is no .xml, `saved_model` is none, or the model needs operators that OpenVINO does not
            have.
        OSError: if the files cannot be written.
    """
    check_runtime("openvino", file)
    with _in_place_of(file) as aside:
        _openvino(saved_model, _function(saved_model), aside)


def run_onnx(model, inputs):
    """Returns what an ONNX model answers, computed by onnxruntime on the processor.

    Args:
        model: an .onnx file, or its content.
        inputs: a dictionary of arrays by the names of the inputs.

    Returns:
        A dictionary of arrays by the names of the outputs.

    Raises:
        ImportError: if onnxruntime is missing.
        ValueError: if it is no such model, or does not take these inputs.
    """
    onnxruntime = _imported("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    name = f"{len(model):,} bytes" if isinstance(model, bytes) else str(model)
    with _errors_of(name, inputs, "An ONNX model"):
        content = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return _in_batches(lambda batch: dict(zip(names, session.run(names, batch))), inputs)


def run_openvino(file, inputs):
    """Returns what a model for OpenVINO answers, computed in float32 on the processor.

    Args:
        file: the .xml file.
        inputs: a dictionary of arrays by the names of the inputs.

    Returns:
        A dictionary of arrays by the names of the outputs.

    Raises:
        ImportError: if openvino is missing.
        ValueError: if it is no such model, or does not take these inputs.
    """
    openvino = _imported("openvino", "openvino")
    with _errors_of(file, inputs, "A model for OpenVINO"):
        model = openvino.Core().compile_model(str(file), "CPU", _PRECISION)
        return _in_batches(
            lambda batch: {output.get_any_name(): value for output, value in model(batch).items()}, inputs
        )


def write_checked(runtime, saved_model, file, requests):
    """Writes a SavedModel for another runtime, once that was found to return what the SavedModel returns.

    Args:
        runtime: `"onnx"` or `"openvino"`.
        saved_model: the folder of a version of a SavedModel.
        file: the .onnx or .xml file. Its folder is made, and a file that is there is replaced.
        requests: what to compare with, dictionaries of arrays by the names of the inputs.

    Returns:
        The largest difference of an output, relative to the largest output of its name and request.

    Raises:
        ImportError: if a package is missing.
        ValueError: as `to_onnx` and `to_openvino`, or if the outputs differ by more than 1e-3 of the largest, or by
            more than one grey level of pixels. Then nothing is written.
        OSError: if the file cannot be written.
    """
    check_runtime(runtime, file)
    function, largest = _function(saved_model), 0.0
    with _in_place_of(file) as aside:
        if runtime == "onnx":
            aside.write_bytes(_onnx(saved_model, function))
        else:
            _openvino(saved_model, function, aside)
        run = run_onnx if runtime == "onnx" else run_openvino
        for request in requests:
            # On the processor, since graphics cards round products of float32 as they like.
            with tf.device("CPU"):
                expected = function(*(tf.constant(request[spec.name]) for spec in function.input_signature))
            received = run(aside, request)
            for name in expected:
                difference, allowed = _difference(expected[name].numpy(), received[name])
                if not difference <= allowed:  # A difference that is no number is none that is allowed.
                    raise ValueError(
                        f"An export returns what the SavedModel returns, up to {TOLERANCE} of the largest output, or "
                        f"one grey level. Received: {name} of {file} that differ by {difference:.3g} of the largest. "
                        "The file was not written. The model multiplies rounding errors on such inputs; pass real "
                        "ones with --warm_up."
                    )
                largest = max(largest, difference)
    return largest


def _onnx(saved_model, function):
    """Returns the content of an .onnx file that computes what a function of `_function` computes."""
    converter, onnx = _imported("tf2onnx", "onnx"), _imported("onnx", "onnx")
    try:
        # It counts the names that it makes through all conversions of a process.
        _imported("tf2onnx.tfonnx", "onnx").utils.INTERNAL_NAME = 1
        with _quiet():
            model, _ = converter.convert.from_function(
                function,
                input_signature=function.input_signature,
                opset=_OPSET,
                custom_op_handlers={"RFFT": (_as_dft, []), **dict.fromkeys(_OF_SPECTRUM, (_of_dft, []))},
            )
            # Constants that a layer holds, as Normalization does, become values, but tf2onnx 1.17 lists them as inputs.
            own = {spec.name for spec in function.input_signature}
            for entry in [entry for entry in model.graph.input if entry.name not in own]:
                model.graph.input.remove(entry)
            model.graph.ClearField("doc_string")  # The number of a function in this process.
            # It leaves operators that it does not know as they are.
            onnx.checker.check_model(model)
            return model.SerializeToString()
    except Exception as error:  # Of many classes, those of tf2onnx, of onnx and of protobuf.
        raise _not_converted(saved_model, "ONNX", error) from error


def _as_dft(graph, node, name, _):
    """Makes RFFT the DFT of ONNX, on whose last axis real and imaginary part lie.

    tf2onnx 1.17 itself knows no other use of a spectrum than its absolute value.
    """
    source, length = node.input
    shape, kinds = graph.get_shape(node.output[0]), _imported("onnx", "onnx").TensorProto
    axis = graph.make_const(f"{name}_axis", np.array([-1], "int64")).output[0]
    real = graph.make_node("Unsqueeze", [source, axis]).output[0]
    length = graph.make_node("Cast", [length], attr={"to": kinds.INT64}).output[0]
    length = graph.make_node("Squeeze", [length]).output[0]
    outputs, attributes = node.output, {"axis": -2, "onesided": 1}
    graph.remove_node(name)
    graph.make_node("DFT", [real, length], attributes, 1, outputs, [[*shape, 2]], name=name, dtypes=[kinds.FLOAT])


def _of_dft(graph, node, name, _):
    """Makes Real, Imag and ComplexAbs what they are of the last axis of `_as_dft`."""
    kind, attributes, second = _OF_SPECTRUM[node.type]
    shape, outputs, source = graph.get_shape(node.output[0]), node.output, node.input[0]
    second = graph.make_const(f"{name}_second", np.array(second, "int64")).output[0]
    float32 = _imported("onnx", "onnx").TensorProto.FLOAT
    graph.remove_node(name)
    graph.make_node(kind, [source, second], attributes, 1, outputs, [shape], name=name, dtypes=[float32])


def _openvino(saved_model, function, file):
    """Writes what a function of `_function` computes to an .xml and a .bin."""
    openvino = _imported("openvino", "openvino")
    try:
        with _quiet():
            concrete = function.get_concrete_function()
            model = openvino.convert_model(concrete)
            names = {output.get_any_name() for output in model.outputs}
            if names != set(concrete.structured_outputs):
                raise ValueError(f"an output is an input as it is, or another output, and remain {names}")
            # The names that it makes have numbers of a count through all conversions of a process.
            for number, operator in enumerate(model.get_ordered_ops()):
                kind = operator.get_type_name()
                if kind not in ("Parameter", "Result") and re.fullmatch(r"\w+_\d+", operator.get_friendly_name()):
                    operator.set_friendly_name(f"{kind}_{number}")
            openvino.save_model(model, str(file), compress_to_fp16=False)
    except Exception as error:  # Of classes that OpenVINO does not export.
        raise _not_converted(saved_model, "OpenVINO", error) from error


def _imported(package, extra):
    if package == "openvino":
        # Whoever imports it or converts with it would be reported to its makers otherwise.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"Models for {extra} are written and run with the package {package}. Received: {error}. Install it: "
            f"pip install 'pinets_tf[{extra}]'."
        ) from error


def _function(saved_model):
    """Returns a SavedModel as a function of named tensors, without checks of shapes where there is such a signature."""
    names = signature_names(saved_model)
    key = "lite" if "lite" in names else "serving_default"
    loaded = tf.saved_model.load(str(saved_model))
    # A SavedModel keeps them in an order that is another one in each process.
    takes = dict(sorted(loaded.signatures[key].structured_input_signature[1].items()))
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in takes.items()]

    @tf.function(input_signature=specs, autograph=False)
    def answer(*tensors):
        outputs = loaded.signatures[key](**dict(zip(takes, tensors)))
        return {f"{name}_output" if name in takes else name: output for name, output in outputs.items()}

    return answer


@contextlib.contextmanager
def _in_place_of(file):
    """Yields a file in a folder of its own, which is renamed to `file` with what was written beside it."""
    file = Path(file)
    with written_aside(file.parent) as partial:
        yield partial / file.name
        for part in sorted(partial.iterdir()):  # Weights (.bin) before the graph (.xml).
            os.replace(part, file.with_name(part.name))
        partial.rmdir()


def _in_batches(answer, inputs):
    count = max(map(len, inputs.values()), default=0)
    parts = [
        answer({name: values[first : first + _BATCH] for name, values in inputs.items()})
        for first in range(0, count, _BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _difference(expected, received):
    """Returns how far an output is off, relative to the largest, and how far it may be."""
    if expected.dtype == np.uint8:
        return float(np.abs(expected.astype(int) - received.astype(int)).max()) / 255, 1 / 255
    finite = np.isfinite(expected)
    expected, received = (np.where(finite, values, 0).astype("float64") for values in (expected, received))
    return float(np.abs(expected - received).max() / max(np.abs(expected).max(), np.finfo("float32").tiny)), TOLERANCE


def _not_converted(saved_model, format, error):
    # OpenVINO puts the cause behind the place in its own code.
    cause = re.search(r"-- (.+)", str(error)) or re.search(r"(.+)", str(error))
    reason = cause[1][:300] if cause else type(error).__name__
    return ValueError(
        f"A model for {format} is made of operators that {format} has. Received: {saved_model}, which cannot be "
        f"converted ({reason}). Replace the layer that needs them."
    )


@contextlib.contextmanager
def _errors_of(model, inputs, kind):
    try:
        with _quiet():
            yield
    except Exception as error:  # Those of the runtime.
        shapes = ", ".join(f"{name} {np.shape(values)}" for name, values in inputs.items())
        reason = " ".join(str(error).split())[-300:] or type(error).__name__
        raise ValueError(
            f"{kind} takes at least one sample, by the names of its inputs. "
            f"Received: {shapes} for {model}, which failed ({reason}). Pass inputs that fit, or export it again."
        ) from error


@contextlib.contextmanager
def _quiet():
    """Keeps what converters log and print from the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)
