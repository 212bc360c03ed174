"""What lies beside the graph of a served model: warm-up requests, names of classes, a model card."""

import json
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pinets_tf.analysis import degree, first_not_polynomial
from pinets_tf.export.signatures import class_count, positional_names

# What TensorFlow Serving reads, and at most so many requests of it.
WARM_UP, MOST_REQUESTS = "tf_serving_warmup_requests", 1000
# The files of a run, as the trainers write them beside the model.
LABELS, RESULT, CONFIG = "labels.txt", "result.json", "config.json"
CARD = "model_card.md"
# What is to be known of files that are sent, by the signature that takes them.
ON_FILES = {
    "encoded_images": "`image_bytes` are files of pictures, in JPEG or PNG. Pixels are taken as they are stored: an "
    "orientation in EXIF data turns nothing, so turn photographs before, as export/serving/client.py does. What is "
    "transparent in a PNG is laid on white.",
    "encoded_audio": "`wav_bytes` are WAV files of 16-bit PCM at the sample rate of the model; channels are averaged.",
}
# Of a run's configuration, what says nothing about the model.
PLACES = ("workdir", "data_dir", "predict", "eval_only", "data")


def read_labels(path):
    """Returns the names of the classes in a text file, one a line.

    Raises:
        ValueError: if there is no such file, or it is no text.
    """
    try:
        return tuple(Path(path).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            "Labels are a text file in UTF-8, one name a line. "
            f"Received: {path} ({getattr(error, 'strerror', None) or 'no UTF-8'}). Pass the {LABELS} of a run."
        ) from error


def read_inputs(path):
    """Returns the array of an `.npy` file.

    Raises:
        ValueError: if there is no such file, or it is another one.
    """
    try:
        # Mapped, so that a promise of numbers that are not there is seen before memory is taken.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        array = np.array(array) if isinstance(array, np.ndarray) else array
    except Exception as error:  # Of several classes, those of NumPy's parser of a header among them.
        raise ValueError(
            f"Inputs are an array in an .npy file. Received: {path} ({error}). Write one with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"Inputs are an array in an .npy file. Received: {path}, an .npz. Use numpy.save.")
    return array


def warm_up_inputs(array, offered):
    """Returns an array as inputs of the signature `serving_default`.

    Args:
        array: numbers of the shape of a batch.
        offered: the signatures of a model.

    Raises:
        ValueError: if the model has several inputs, if the shape is another one, if there are none or more than
            TensorFlow Serving replays, or if they are no finite numbers.
    """
    specs = offered["serving_default"].inputs
    most = MOST_REQUESTS - len(offered)
    array = np.asarray(array)
    fits = len(specs) == 1 and array.dtype.kind in "biuf" and specs[0].shape.is_compatible_with(array.shape)
    if not fits or not 0 < len(array) <= most or not np.isfinite(array).all():
        wanted = ", ".join(f"{spec.name} {tuple(spec.shape)}" for spec in specs)
        raise ValueError(
            f"Inputs for warm-up are 1 to {most} samples of finite numbers for a model of one input ({wanted}). "
            f"Received: an array of shape {array.shape} and type {array.dtype}. Pass a part of the test data."
        )
    return array.astype(specs[0].dtype.as_numpy_dtype)


def write_warm_up(folder, name, offered, inputs=None):
    """Writes the requests that TensorFlow Serving replays before a version answers others.

    That is one request of one sample for each signature, and one for each of `inputs`. Without the package
    tensorflow-serving-api nothing is written, and a warning says so.

    Args:
        folder: the folder `assets.extra` of a SavedModel.
        name: the name under which the model is served.
        offered: the signatures of the model.
        inputs: what `warm_up_inputs` returns, or `None`.

    Returns:
        The number of requests.
    """
    try:
        from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2
    except ImportError:
        warnings.warn(
            "No warm-up requests were written: they need the package tensorflow-serving-api. "
            "Install it with: pip install 'pinets_tf[serving]'.",
            stacklevel=2,
        )
        return 0
    requests = [(signature, offered[signature].example(1)) for signature in offered]
    entry = offered["serving_default"].inputs[0].name
    requests += [("serving_default", {entry: row[None]}) for row in ([] if inputs is None else inputs)]
    with tf.io.TFRecordWriter(str(folder / WARM_UP)) as file:
        for signature, arrays in requests:
            types = {spec.name: spec.dtype for spec in offered[signature].inputs}
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=name, signature_name=signature),
                inputs={key: tf.make_tensor_proto(array, types[key]) for key, array in arrays.items()},
            )
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            file.write(record.SerializeToString(deterministic=True))  # Inputs in the order of their names.
    return len(requests)


def model_card(model, name, task, offered, workdir=None, licence=None):
    """Returns what there is to know about a model, as Markdown.

    Args:
        model: the Keras model, as it was trained.
        name: the name under which it is served.
        task: what it is served for.
        offered: the signatures that it is served with.
        workdir: the folder of the run that made it; what its `result.json` and `config.json` say is taken over, paths
            on this machine by their last part.
        licence: the licence of the model, or `None`.
    """
    result, config = (_of_run(workdir, file) for file in (RESULT, CONFIG))
    classes = class_count(model, task)
    facts = {
        "Task": f"{task}: classification, {classes} classes" if classes else task,
        "Parameters": f"{model.count_params():,}",
        "Polynomial degree": _degree(model),
        "Data": config.get("dataset", "not stated"),
        "Commit of the code": config.get("git_commit", config.get("commit", "not stated")),
        "Licence": licence or "not stated",
        "Written with": f"TensorFlow {tf.__version__}, Keras {keras.__version__}",
    }
    rows = []
    for key, signature in offered.items():
        returned = signature.function.get_concrete_function().structured_outputs
        outputs = [
            _described(tf.TensorSpec(returned[name].shape, returned[name].dtype, name)) for name in signature.outputs
        ]
        rows.append([key, ", ".join(map(_described, signature.inputs)), ", ".join(outputs)])
    parts = [f"# {name}", _table(["", ""], facts.items())]
    parts += ["## Signatures", _table(["signature", "takes", "returns"], rows)]
    parts += [words for key, words in ON_FILES.items() if key in offered]
    for title, values in (("## Results", result), ("## Training", config)):
        if values:
            parts += [title, _table(["", ""], sorted(values.items()))]
    return "\n\n".join(parts) + "\n"


def _degree(model):
    try:
        found, reasons = degree(model), [*filter(None, keras.tree.flatten(first_not_polynomial(model)))]
    except ValueError:  # Of a model without a graph.
        return "unknown"
    text, names = "none" if found is None else str(found), positional_names(model)
    layers = ["/".join(names.get(part, part) for part in reason.split("/")) for reason in reasons]
    return f"{text} (no polynomial because of the layer {layers[0]})" if layers else text


def _of_run(workdir, name):
    file = Path(workdir or "") / name
    if workdir is None or not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return {key: value for key, value in values.items() if key not in PLACES}
    except (ValueError, AttributeError) as error:
        warnings.warn(f"{file} is no JSON object ({error}), and left out of the model card.", stacklevel=3)
        return {}


def _described(spec):
    shape = ", ".join("any" if axis is None else str(axis) for axis in spec.shape)
    return f"{spec.name}: {spec.dtype.name} ({shape})"


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value):
    if isinstance(value, str) and value.startswith(("/", "~")):
        value = Path(value).name
    return str(value).replace("\n", " ").replace("|", "\\|")
