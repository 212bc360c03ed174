"""What a trained model becomes to be served: signatures, versions of a SavedModel, and what lies beside them."""

from pinets_tf.export.equalization import equalize
from pinets_tf.export.other_runtimes import (
    RUNTIMES,
    check_runtime,
    run_onnx,
    run_openvino,
    to_onnx,
    to_openvino,
    write_checked,
)
from pinets_tf.export.quantization import QuantizedModel, quantize_int8
from pinets_tf.export.saved_model import export_saved_model, in_float32, load_model, signature_names, with_pixels
from pinets_tf.export.serving_assets import model_card, read_inputs, read_labels, write_warm_up
from pinets_tf.export.signatures import TASKS, Signature, class_count, signatures, task_of
from pinets_tf.export.tflite import PRECISIONS, convert

__all__ = [
    "PRECISIONS",
    "RUNTIMES",
    "TASKS",
    "QuantizedModel",
    "Signature",
    "check_runtime",
    "class_count",
    "convert",
    "equalize",
    "export_saved_model",
    "in_float32",
    "load_model",
    "model_card",
    "quantize_int8",
    "read_inputs",
    "read_labels",
    "run_onnx",
    "run_openvino",
    "signature_names",
    "signatures",
    "task_of",
    "to_onnx",
    "to_openvino",
    "with_pixels",
    "write_checked",
    "write_warm_up",
]
