"""A SavedModel as TFLite, in the precisions of phones."""

import contextlib
import io
import tempfile

import tensorflow as tf

from pinets_tf.export.quantization import quantize_dynamic
from pinets_tf.export.saved_model import operations, signature_names
from pinets_tf.layers.checks import one_of

PRECISIONS = ("float32", "float16", "dynamic_int8")


def convert(saved_model, precision="float32", signatures=None, *, fixed_batch=False):
    """Returns a SavedModel as the content of a .tflite file, made of builtin operators alone.

    The batch stays dynamic unless it is to be fixed, and signatures share their weights. `"float16"` halves the
    weights, which are made float32 again as the model is loaded. `"dynamic_int8"` stores weights in eight bits, with a
    scale for each channel, and rounds the inputs of linear maps to eight bits, with a range of its own for each batch;
    products, sums and outputs are float32, and so is what comes before a logarithm, as in a log-mel spectrogram
    (`quantize_dynamic`). For eight bits throughout see `quantize_int8`.

    Args:
        saved_model: the folder of a version of a SavedModel.
        precision: `"float32"`, `"float16"` or `"dynamic_int8"`.
        signatures: names of signatures to be converted; by default `lite` where there is one, else `serving_default`.
            Those that `export_saved_model` writes for servers check shapes, for which TFLite has no operator.
        fixed_batch: whether the batch is one sample, as accelerators of edge devices demand, so that all shapes are
            fixed and none is computed.

    Returns:
        Bytes.

    Raises:
        ImportError: if the model has logarithms and is to have eight bits, and litert-quantizer is missing.
        ValueError: if the model needs other operators, which the message names, if `precision` is another, or the model
            has no such signature.
    """
    one_of("precision", precision, PRECISIONS)
    names = signature_names(saved_model)
    keys = list(signatures or ["lite" if "lite" in names else "serving_default"])
    for key in keys:
        if key not in names:
            raise ValueError(
                f"What is converted are signatures of the model. Received: {key!r}, for {saved_model}. "
                f"Pass some of {', '.join(map(repr, names))}."
            )
    if fixed_batch:
        with tempfile.TemporaryDirectory() as folder:
            _write_with_fixed_batch(saved_model, keys, folder)
            return convert(folder, precision, keys)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=keys)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision == "dynamic_int8" and "Log" in operations(saved_model):
        return quantize_dynamic(convert(saved_model, signatures=keys))
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    try:
        # It prints what it does.
        with contextlib.redirect_stdout(io.StringIO()):
            return converter.convert()
    except Exception as error:  # The converter raises a class of its own that it does not export.
        raise ValueError(
            f"A TFLite model is made of builtin operators. Received: {saved_model}, which needs others ({error}). "
            "Replace the layer that the message names; of a model that Keras has quantised export the one before."
        ) from error


def _write_with_fixed_batch(saved_model, keys, folder):
    """Writes signatures of a SavedModel as one that takes a sample at a time."""
    module = tf.Module()
    module.loaded = tf.saved_model.load(str(saved_model))
    functions = {}
    for key in keys:
        signature = module.loaded.signatures[key]
        specs = {
            name: tf.TensorSpec(tf.TensorShape([1]).concatenate(spec.shape[1:]), spec.dtype, name)
            for name, spec in signature.structured_input_signature[1].items()
        }
        functions[key] = tf.function(signature, autograph=False).get_concrete_function(**specs)
    tf.saved_model.save(module, folder, signatures=functions)
