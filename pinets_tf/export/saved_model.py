"""Versions of a SavedModel as TensorFlow Serving reads them: written aside, checked, and renamed into place."""

import contextlib
import os
import shutil
import uuid
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tensorflow.core.protobuf import saved_model_pb2

from pinets_tf._keras import flatten_layers
from pinets_tf.export.serving_assets import (
    CARD,
    LABELS,
    model_card,
    read_labels,
    warm_up_inputs,
    write_warm_up,
)
from pinets_tf.export.signatures import (
    answered,
    class_count,
    flat_network,
    positional_names,
    signatures,
    task_of,
)
from pinets_tf.layers.copying import copy_weights
from pinets_tf.models import fold_normalization

HALF = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16")
BATCHES = (1, 3)
# Of the largest output, how far an export may be from the Keras model.
TOLERANCE = 1e-4
# They call back into the Python process that made them.
PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
LARGEST_VERSION = 2**63 - 1


def export_saved_model(
    model,
    output,
    name,
    images=False,
    *,
    version=None,
    replace=False,
    task="auto",
    labels=None,
    workdir=None,
    warm_up=None,
    licence=None,
):
    """Writes `model` to `output`/`name`/VERSION, laid out as TensorFlow Serving reads it, and returns that folder.

    The version is written beside its place, under a name that is no number, and renamed once it is complete and has
    been checked, so that a server that watches the folder never sees half a model. Whatever goes wrong, nothing is left
    behind. What is written:

    - the signatures of `signatures`, with batch normalisations of products folded (`fold_normalization`), and in
      float32: a model that computes in half precision is built again, and a warning says so;
    - `assets.extra` with requests for warm-up, `labels.txt` of a classifier whose labels are known, and
      `model_card.md`.

    What is checked: that the graph has operations of TensorFlow alone and nothing that must be compiled with XLA, which
    TensorFlow Serving does not do unless it is told to; that `serving_default` returns what the Keras model returns, at
    batch sizes 1 and 3, up to 1e-4 of the largest output or one grey level; and that every other signature runs.
    Outputs that are not finite are warned of.

    A warning also says what clients of the version before cannot go on with: signatures, names, types and shapes that
    are others. The version is written nevertheless, since a model of other classes is a good next version too.

    Args:
        model: a built functional or sequential Keras model.
        output: the folder of all served models.
        name: the name under which it is served, a plain name of a folder.
        images: whether the images that a generator makes in [-1, 1] are returned as uint8 pixels.
        version: a positive integer, or `None` for the next one that is free.
        replace: whether `version` may take the place of a version that is there, of which nothing is kept. Between the
            two there is a moment without this version.
        task: `"auto"`, or a name of `TASKS`.
        labels: the names of the classes of a classifier; `None` takes the `labels.txt` of `workdir` if it is there.
        workdir: the folder of the run that made the model, for its labels and the model card, or `None`.
        warm_up: samples, an array, to write as requests for warm-up beside random ones, and to compare with instead of
            random ones, or `None`.
        licence: the licence of the model, for the model card.

    Raises:
        ValueError: if the model cannot be served, an argument makes no sense, or the export differs from the model.
        OSError: if the folder cannot be written to.

    Example:

    >>> import tempfile
    >>> import keras
    >>> from pinets_tf.export import export_saved_model
    >>> from pinets_tf.layers import CCP
    >>> model = keras.Sequential([keras.Input((4,)), CCP(3, order=2, rank=5)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     version = export_saved_model(model, folder, "polynomial")
    ...     print(version.relative_to(folder), (version / "saved_model.pb").exists())
    polynomial/1 True
    """
    base = Path(output) / _plain(name)
    _check_version(base, version, replace)
    if not isinstance(model, keras.Model) or not getattr(model, "outputs", None):
        raise ValueError(
            "An exported model is a built functional or sequential Keras model. "
            f"Received: {model!r}. Of another one make keras.Model(inputs, model(inputs))."
        )
    exact = in_float32(model)
    served, reference = fold_normalization(exact), exact
    if images:
        served, reference = with_pixels(served), with_pixels(reference)
    _name_by_position(served)
    task = task_of(served, task)
    if labels is None and workdir is not None and class_count(served, task) and (Path(workdir) / LABELS).is_file():
        labels = read_labels(Path(workdir) / LABELS)
    offered = signatures(served, task, labels)
    inputs = None if warm_up is None else warm_up_inputs(warm_up, offered)
    with written_aside(base) as partial:
        _write(served, offered, partial)
        _refuse_what_is_not_served(partial)
        _verify(partial, reference, offered, inputs)
        extra = partial / "assets.extra"
        extra.mkdir()
        write_warm_up(extra, name, offered, inputs)
        if labels is not None:
            (extra / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        (extra / CARD).write_text(model_card(model, name, task, offered, workdir, licence), encoding="utf-8")
        _warn_of_another_interface(base, version, partial)
        return _put_in_place(partial, base, version, replace)


def load_model(path):
    """Loads a `.keras` file.

    Raises:
        ValueError: if there is no such file, it is damaged, or it holds layers that are not loaded: a `Lambda`, or one
            of a package that is not imported.
    """
    path = Path(path)
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(f"A model is a .keras file. Received: {path}. Pass the model.keras of a run.")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"A model is a .keras file. Received: {path}, which cannot be loaded: its {path.stat().st_size:,} bytes "
            "are truncated, or another kind of file. Write or copy it again."
        )
    try:
        # What it was compiled with is for training, and may be an optimizer that is not loaded.
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Of many classes, those of Keras, of HDF5 and of zip files.
        # Keras puts the cause behind the configuration of the whole model.
        cause = str(error).rpartition("Exception encountered: ")[2]
        reason = next(iter(cause.splitlines()), type(error).__name__)
        raise ValueError(
            f"A model is a .keras file of layers of Keras and of pinets_tf. Received: {path}, which cannot be loaded "
            f"({reason[:300]}). Replace a Lambda by a layer; with layers of another package, import it in Python and "
            "call pinets_tf.export.export_saved_model; write or copy a damaged file again."
        ) from error


def signature_names(folder):
    """Returns the names of the signatures of a SavedModel, without loading it.

    Raises:
        ValueError: if there is none in that folder.
    """
    # One with two underscores runs as the model is loaded.
    return sorted(name for name in _meta_graph(folder).signature_def if not name.startswith("__"))


def operations(folder):
    """Returns the names of all operations in a SavedModel.

    Raises:
        ValueError: if there is none in that folder.
    """
    graph = _meta_graph(folder).graph_def
    return {node.op for part in (graph.node, *(each.node_def for each in graph.library.function)) for node in part}


def in_float32(model):
    """Returns a model of the same weights that computes in float32 where `model` computes in half precision.

    A model without half precision is returned as it is.

    Example:

    >>> import keras
    >>> from pinets_tf.export import in_float32
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, dtype="mixed_float16")])
    >>> in_float32(model).layers[0].compute_dtype
    'float32'
    """
    if not any(layer.compute_dtype in ("float16", "bfloat16") for layer in flatten_layers(model)):
        return model
    warnings.warn(f"{model.name} computes in half precision. It is exported in float32.", stacklevel=3)
    again = type(model).from_config(_without_half_precision(model.get_config()))
    copy_weights(again, model)
    return again


def with_pixels(generator):
    """Returns a model whose images are uint8, round(127.5 x + 127.5), where those of `generator` are in [-1, 1].

    Raises:
        ValueError: if its outputs are not images.
    """
    outputs = getattr(generator, "outputs", None) or []
    if len(outputs) != 1 or len(outputs[0].shape) != 4:
        raise ValueError(
            "Images are the one output of a generator, of shape (batch, height, width, channels). "
            f"Received: outputs of shape {', '.join(str(output.shape) for output in outputs)}. Leave out --images."
        )
    pixels = ops.clip(ops.round(ops.cast(outputs[0], "float32") * 127.5 + 127.5), 0, 255)
    # A sequential model that was never called has no `input`.
    inputs = generator.inputs if isinstance(generator, keras.Sequential) else generator.input
    return keras.Model(inputs, ops.cast(pixels, "uint8"), name=generator.name)


def _plain(name):
    if not name or name in (".", "..") or any(mark in name for mark in ("/", "\\", os.sep, "\0")):
        raise ValueError(
            "A model is served under the plain name of a folder. "
            f"Received: {name!r}. Pass a name without slashes, such as order2."
        )
    return name


def _versions(base):
    """Returns the folders of all versions by their numbers. Leading zeros count for nothing, as for the server."""
    folders = base.iterdir() if base.is_dir() else ()
    return {int(path.name): path for path in folders if path.name.isascii() and path.name.isdigit()}


def _check_version(base, version, replace):
    if version is None:
        if replace:
            raise ValueError(
                "A version is replaced by its number. Received: replace without a version. Pass the version too."
            )
    elif isinstance(version, bool) or not isinstance(version, int) or not 0 < version <= LARGEST_VERSION:
        raise ValueError(f"A version is a positive integer. Received: {version!r}. Pass for example 1.")
    elif version in _versions(base) and not replace:
        raise ValueError(
            f"A version is written once. Received: version {version}, which {base} has already. "
            "Leave the version out for the next free one, or replace it with --replace."
        )


def _without_half_precision(config):
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy" and config["config"]["name"] in HALF:
            return {**config, "config": {**config["config"], "name": "float32"}}
        return {
            key: "float32" if key == "dtype" and value in HALF else _without_half_precision(value)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(map(_without_half_precision, config))
    return config


@contextlib.contextmanager
def written_aside(base):
    """Makes a folder in `base` whose name is no number. If it is not renamed, it is removed with all that is empty.

    Raises:
        OSError: if something cannot be written.
    """
    made = [folder for folder in (base, *base.parents) if not folder.exists()]
    partial = base / f"partial-{uuid.uuid4().hex}"
    try:
        partial.mkdir(parents=True)
        yield partial
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # Another export has written into it.
                folder.rmdir()
        if isinstance(error, OSError):
            raise OSError(
                f"An export is written into its folder. Received: {base}, where that failed ({error}). "
                "Make room, or pass another folder."
            ) from error
        raise


def _name_by_position(model):
    """Gives the layers of a model the names that `positional_names` has for them.

    Names of operators in graphs, and of tensors in .tflite, .onnx and .xml files, are made of them.
    """
    names = positional_names(model)
    for layer in flatten_layers(model, include_self=False):
        layer.name = names.get(layer.name, layer.name)


def _write(model, offered, folder):
    archive = keras.export.ExportArchive()
    archive.track(model)
    try:
        for name, signature in offered.items():
            signature.function.get_concrete_function()
            archive.add_endpoint(name, signature.function)
        archive.write_out(str(folder), verbose=False)
    except Exception as error:  # Whatever a layer raises when it is made a graph.
        raise ValueError(
            "A served model is a graph of TensorFlow, of any batch. "
            f"Received: {model.name}, which cannot be written as one ({type(error).__name__}: {error}). "
            "Replace the layer that the message names."
        ) from error


def _refuse_what_is_not_served(folder):
    """Raises a `ValueError` if a graph needs XLA, Python, or operations that TensorFlow itself does not have."""
    graph = _meta_graph(folder).graph_def
    functions = {function.signature.name: function for function in graph.library.function}
    nodes = [*graph.node, *(node for function in functions.values() for node in function.node_def)]
    compiled = {name for name, function in functions.items() if _must_compile(function)}
    compiled |= {node.name for node in nodes if _must_compile(node)}
    if compiled:
        raise ValueError(
            "TensorFlow Serving runs no function that must be compiled with XLA. "
            f"Received: {', '.join(sorted(compiled))}. Remove jit_compile=True from the tf.function of the layer."
        )
    foreign = {node.op for node in nodes if not hasattr(tf.raw_ops, node.op)} - functions.keys()
    foreign |= {node.op for node in nodes if node.op in PYTHON}
    if foreign:
        raise ValueError(
            "A server runs the operations of TensorFlow itself, none of other packages and none of Python. "
            f"Received: {', '.join(sorted(foreign))}. Write the layer that needs them with TensorFlow's own."
        )


def _meta_graph(folder):
    try:
        saved = saved_model_pb2.SavedModel.FromString((Path(folder) / "saved_model.pb").read_bytes())
        return saved.meta_graphs[0]
    except Exception as error:  # Among them that of protobuf, which is a package that is not ours to import.
        raise ValueError(
            f"A SavedModel is a folder with saved_model.pb. Received: {folder}, where it cannot be read ({error}). "
            "Pass the folder that export/saved_model.py printed."
        ) from error


def _interface(folder):
    """Returns the inputs and outputs of a SavedModel, in words, by signature and name."""
    return {
        (key, f"{kind} {name}"): f"{tf.as_dtype(tensor.dtype).name} {tf.TensorShape(tensor.tensor_shape)}"
        for key, signature in _meta_graph(folder).signature_def.items()
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs))
        for name, tensor in tensors.items()
        if not key.startswith("__")
    }


def _warn_of_another_interface(base, version, partial):
    """Warns if requests for the version before, or for the one to be replaced, do not fit a new one."""
    versions = _versions(base)
    before = max((number for number in versions if version is None or number <= version), default=None)
    try:
        old, new = _interface(versions[before]), _interface(partial)
    except (KeyError, ValueError):  # There is none, or none that can be read.
        return
    offered = {key for key, _ in old}  # No client knows a signature that is new.
    changes = [
        f"{name} of {key}, {old.get((key, name), 'none')} before and now {new.get((key, name), 'none')}"
        for key, name in sorted(old.keys() | new.keys())
        if key in offered and old.get((key, name)) != new.get((key, name))
    ]
    if changes:
        warnings.warn(
            "A new version has the signatures, names, types and shapes of the version before, so that clients need not "
            f"change. Received: version {before} of {base} with others ({'; '.join(changes)}). Export under another "
            "name, or change the clients with the version.",
            stacklevel=3,
        )


def _must_compile(definition):
    return "_XlaMustCompile" in definition.attr and definition.attr["_XlaMustCompile"].b


def _verify(folder, reference, offered, given):
    """Compares `serving_default` with the Keras model, and runs all other signatures."""
    network = flat_network(reference)
    # On the processor, since graphics cards round products of float32 as they like.
    with tf.device("CPU"):
        loaded = tf.saved_model.load(str(folder))
        default = offered["serving_default"]
        for batch in BATCHES:
            request = default.example(batch)
            if given is not None:
                request = {name: np.resize(given, value.shape) for name, value in request.items()}
            received = answered("serving_default", _signature(loaded, "serving_default", offered), request)
            expected = answered(reference.name, lambda **values: network(*values.values()), request)
            for name, one in zip(default.outputs, expected):
                _compare(ops.convert_to_numpy(one), received[name].numpy(), name, batch)
        for name in offered.keys() - {"serving_default"}:
            answered(name, _signature(loaded, name, offered), offered[name].example(1))
        for name in offered.keys() - {"lite"}:
            try:
                answered(name, _signature(loaded, name, offered), offered[name].example(0))
            except ValueError as error:
                if not isinstance(error.__cause__, tf.errors.InvalidArgumentError):  # The graph refuses it in words.
                    raise


def _signature(loaded, name, offered):
    """Returns a signature of a loaded SavedModel as a function of arrays."""
    types = {spec.name: spec.dtype for spec in offered[name].inputs}
    function = loaded.signatures[name]
    return lambda **request: function(**{key: tf.constant(value, types[key]) for key, value in request.items()})


def _compare(expected, received, name, batch):
    if received.dtype == np.uint8:
        difference, allowed = np.abs(expected.astype(int) - received.astype(int)).max(), 1
    else:
        finite = np.isfinite(expected)
        if not finite.all():
            warnings.warn(f"The Keras model returns {name} that are not finite for inputs that are.", stacklevel=4)
        expected, received = (np.where(finite, values, 0).astype("float64") for values in (expected, received))
        difference, allowed = np.abs(expected - received).max(), TOLERANCE * np.abs(expected).max()
    if not difference <= allowed:  # A difference that is no number is none that is allowed.
        raise ValueError(
            f"An export returns what the Keras model returns, up to {TOLERANCE} of the largest output, or one grey "
            f"level. Received: {name} that differ by {difference:.3g} with {allowed:.3g} allowed, at batch {batch}. "
            "The model multiplies rounding errors on such inputs; pass real ones with --warm_up."
        )


def _put_in_place(partial, base, version, replace):
    """Renames a complete version to its number, and returns its folder."""
    while version is None:
        target = base / str(max(_versions(base), default=0) + 1)
        try:
            os.rename(partial, target)
            return target
        except OSError:
            if not target.exists():
                raise
            # Another export has just taken this number.
    target, before = base / str(version), _versions(base).get(version)
    if before is None or not replace:
        os.rename(partial, target)
        return target
    aside = base / f"replaced-{uuid.uuid4().hex}"
    os.rename(before, aside)
    try:
        os.rename(partial, target)
    except BaseException:
        os.rename(aside, before)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    return target
