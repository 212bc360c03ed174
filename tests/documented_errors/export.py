"""The tests of the errors that docstrings of `pinets_tf.export` document."""

import keras
import numpy as np
import tensorflow as tf

from pinets_tf import export
from pinets_tf.export import quantization, runtime, saved_model, serving_assets
from pinets_tf.export.signatures import answered
from tests.documented_errors.provoking import Case, dense, fails, without, written


def two_inputs():
    one, other = keras.Input((4,)), keras.Input((4,))
    return keras.Model([one, other], keras.layers.Add()([one, other]))


def words_to_numbers():
    words = keras.Input((), dtype="string")
    return keras.Model(words, keras.layers.StringLookup(vocabulary=["cat"])(words))


def tflite(model):
    function = tf.function(lambda *inputs: model(list(inputs)))
    specs = [tf.TensorSpec((1, *tensor.shape[1:])) for tensor in model.inputs]
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function(*specs)], model).convert()


def exported(path, *layers):
    keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2)]).export(path / "model", verbose=False)
    return path / "model"


NO_FOLDER = ("An export is written into its folder", "where that failed ([Errno", "or pass another folder")


NO_SAVED_MODEL = ("A SavedModel is a folder with saved_model.pb", "where it cannot be read", "Pass the folder")


NO_LITERT = ("with the package ai-edge-litert", "ai_edge_litert", "pip install 'pinets_tf[tflite]'")


NO_QUANTIZER = ("with the package litert-quantizer", "litert_quantizer", "pip install 'pinets_tf[int8]'")


NO_ONNX = ("Models for onnx are written and run with", "halted", "pip install 'pinets_tf[onnx]'")


NO_OPENVINO = ("Models for openvino are written and run with", "halted", "pip install 'pinets_tf[openvino]'")


NO_TFLITE = ("the content of a .tflite file", "what does not load", "Convert it again")


TESTED: dict[str, dict[str, list[str | Case]]] = {
    "export.equalization.equalize": {
        "ImportError": [
            "tests/export/test_quantization.py::test_packages_that_are_missing",
        ],
        "ValueError": [Case(lambda path: export.equalize(b"nothing", np.ones((2, 4))), *NO_TFLITE)],
    },
    "export.other_runtimes.check_runtime": {
        "ImportError": [Case(without("onnxruntime", lambda path: export.check_runtime("onnx", "m.onnx")), *NO_ONNX)],
        "ValueError": [
            Case(
                lambda path: export.check_runtime("torch", "m.pt"),
                "`runtime` must be one of 'onnx', 'openvino'",
                "runtime='torch'",
                "Pass one of those",
            ),
            Case(
                lambda path: export.check_runtime("onnx", "m.xml"),
                "a file whose name ends in .onnx",
                "m.xml",
                "Pass for example model.onnx",
            ),
            Case(
                lambda path: export.check_runtime("openvino", path),
                "a file whose name ends in .xml",
                ", a folder",
                "Pass for example model.xml",
            ),
        ],
    },
    "export.other_runtimes.to_onnx": {
        "ImportError": [Case(without("tf2onnx", lambda path: export.to_onnx(exported(path))), *NO_ONNX)],
        "ValueError": [Case(export.to_onnx, *NO_SAVED_MODEL)],
    },
    "export.other_runtimes.to_openvino": {
        "ImportError": [Case(without("openvino", lambda path: export.to_openvino(path, "m.xml")), *NO_OPENVINO)],
        "ValueError": [
            Case(
                lambda path: export.to_openvino(path, "m.onnx"),
                "a file whose name ends in .xml",
                "m.onnx",
                "Pass for example model.xml",
            ),
            Case(lambda path: export.to_openvino(path, path / "m.xml"), *NO_SAVED_MODEL),
        ],
        "OSError": [
            Case(lambda path: export.to_openvino(exported(path), written(path / "file") / "m.xml"), *NO_FOLDER)
        ],
    },
    "export.other_runtimes.run_onnx": {
        "ImportError": [Case(without("onnxruntime", lambda path: export.run_onnx(b"", {})), *NO_ONNX)],
        "ValueError": [
            "tests/export/test_other_runtimes.py::test_they_answer_as_keras_does",
            Case(
                lambda path: export.run_onnx(b"nothing", {"z": np.ones((1, 4))}),
                "An ONNX model takes at least one sample",
                "z (1, 4) for 7 bytes, which failed",
                "or export it again",
            ),
        ],
    },
    "export.other_runtimes.run_openvino": {
        "ImportError": [Case(without("openvino", lambda path: export.run_openvino("m.xml", {})), *NO_OPENVINO)],
        "ValueError": ["tests/export/test_other_runtimes.py::test_they_answer_as_keras_does"],
    },
    "export.other_runtimes.write_checked": {
        "ImportError": [
            Case(without("openvino", lambda path: export.write_checked("openvino", path, "m.xml", [])), *NO_OPENVINO)
        ],
        "ValueError": [
            "tests/export/test_other_runtimes.py::test_models_that_are_not_converted",
            "tests/export/test_other_runtimes.py::test_what_answers_otherwise_is_not_written",
        ],
        "OSError": [
            Case(
                lambda path: export.write_checked("openvino", exported(path), written(path / "file") / "m.xml", []),
                *NO_FOLDER,
            )
        ],
    },
    "export.quantization.quantize_int8": {
        "ImportError": ["tests/export/test_quantization.py::test_packages_that_are_missing"],
        "ValueError": [
            "tests/export/test_quantization.py::test_errors",
            "tests/export/test_quantization.py::test_a_quantised_model_is_not_quantised_again",
            "tests/export/test_integer_io.py::test_errors",
            Case(
                lambda path: export.quantize_int8(tflite(two_inputs()), np.ones((2, 4)), np.ones((2, 4))),
                "has one signature of one float32 input and one output",
                "2 inputs of float32, float32, 1 outputs",
                "Convert the float model with one signature",
            ),
        ],
    },
    "export.quantization.quantize_dynamic": {
        "ImportError": [
            Case(without("litert_quantizer", lambda path: quantization.quantize_dynamic(b"")), *NO_QUANTIZER)
        ],
    },
    "export.runtime.interpreter": {
        "ImportError": [Case(without("ai_edge_litert.interpreter", lambda path: runtime.interpreter(b"")), *NO_LITERT)],
        "ValueError": [Case(lambda path: runtime.interpreter(b"nothing"), *NO_TFLITE)],
    },
    "export.runtime.answers": {
        "NotRunError": ["tests/export/test_quantization.py::test_inputs_on_which_a_model_fails"],
    },
    "export.runtime.litert_quantizer": {
        "ImportError": [Case(without("litert_quantizer", lambda path: runtime.litert_quantizer()), *NO_QUANTIZER)],
    },
    "export.saved_model.export_saved_model": {
        "ValueError": [
            "tests/export/test_saved_model.py::test_errors",
            "tests/export/test_saved_model.py::test_graphs_that_are_not_served",
            "tests/export/test_saved_model.py::test_a_failure_leaves_nothing",
        ],
        "OSError": [
            "tests/export/test_saved_model.py::test_a_failure_leaves_nothing",
            Case(lambda path: export.export_saved_model(dense(), written(path / "file"), "model"), *NO_FOLDER),
        ],
    },
    "export.saved_model.written_aside": {
        "OSError": [Case(lambda path: saved_model.written_aside(written(path / "file")).__enter__(), *NO_FOLDER)],
    },
    "export.saved_model.load_model": {
        "ValueError": ["tests/export/test_saved_model.py::test_files_that_are_not_loaded"]
    },
    "export.saved_model.signature_names": {"ValueError": [Case(export.signature_names, *NO_SAVED_MODEL)]},
    "export.saved_model.operations": {"ValueError": [Case(saved_model.operations, *NO_SAVED_MODEL)]},
    "export.saved_model.with_pixels": {
        "ValueError": [
            Case(
                lambda path: export.with_pixels(dense()),
                "Images are the one output of a generator",
                "outputs of shape (None, 2)",
                "Leave out --images",
            )
        ],
    },
    "export.serving_assets.read_labels": {"ValueError": ["tests/export/test_saved_model.py::test_errors_of_files"]},
    "export.serving_assets.read_inputs": {"ValueError": ["tests/export/test_saved_model.py::test_errors_of_files"]},
    "export.serving_assets.warm_up_inputs": {
        "ValueError": [
            Case(
                lambda path, model=model, inputs=inputs: serving_assets.warm_up_inputs(
                    inputs, export.signatures(model())
                ),
                "Inputs for warm-up are 1 to 998 samples of finite numbers for a model of one input",
                f"an array of shape {inputs.shape} and type {inputs.dtype}",
                "Pass a part of the test data",
            )
            for model, inputs in (
                (two_inputs, np.ones((2, 4))),
                (dense, np.ones((2, 5))),
                (dense, np.ones((0, 4))),
                (dense, np.ones((999, 4))),
                (dense, np.full((2, 4), np.nan)),
                (dense, np.full((2, 4), "a")),
            )
        ],
    },
    "export.signatures.task_of": {
        "ValueError": [
            Case(
                lambda path: export.task_of(dense(), "cats"),
                "A task is auto or one of images, waveforms",
                "'cats'",
                "Leave it out",
            ),
            Case(
                lambda path: export.task_of(dense(), "images"),
                "The task 'images' is that of a model of images",
                "dense from (None, 4) to (None, 2)",
                "Pass one of tensors, or auto",
            ),
        ],
    },
    "export.signatures.signatures": {
        "ValueError": [
            Case(
                lambda path: export.signatures(dense(), "vertices"),
                "The task 'vertices' is that of a model of vertices",
                "dense from (None, 4) to (None, 2)",
                "Pass one of tensors, or auto",
            ),
            Case(
                lambda path: export.signatures(dense(batch_size=3)),
                "A served model takes numbers, in batches of any size",
                "an input of shape (3, 4) and type float32",
                "Build the model with keras.Input(shape)",
            ),
            Case(
                lambda path: export.signatures(words_to_numbers()),
                "A served model takes numbers, in batches of any size",
                "an input of shape (None,) and type string",
                "Build the model with keras.Input(shape)",
            ),
            Case(
                lambda path: export.signatures(dense(), labels=["cat"]),
                "Labels name the class scores of a classifier",
                "1 labels for no scores",
                "Leave out the labels",
            ),
        ],
    },
    "export.signatures.answered": {
        "ValueError": [
            Case(
                lambda path: answered("polynomial", fails, {"x": np.ones((2, 4))}),
                "A served model answers batches of any size",
                "polynomial, which fails for x (2, 4) (out of order)",
                "or replace the layer",
            )
        ],
    },
    "export.tflite.convert": {
        "ImportError": [
            Case(
                without(
                    "litert_quantizer",
                    lambda path: export.convert(exported(path, keras.layers.Activation(tf.math.log)), "dynamic_int8"),
                ),
                *NO_QUANTIZER,
            )
        ],
        "ValueError": [
            "tests/export/test_variants.py::test_precisions",
            "tests/export/test_variants.py::test_several_signatures",
            Case(
                lambda path: export.convert(exported(path, keras.layers.Activation(tf.math.erfcinv))),
                "A TFLite model is made of builtin operators",
                "model, which needs others",
                "Replace the layer that the message names",
            ),
        ],
    },
}
