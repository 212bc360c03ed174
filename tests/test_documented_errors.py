"""Each error that a docstring documents has a test of its words.

Whoever writes a `Raises:` adds to `TESTED`, for each exception of it, the tests that provoke it: the name of a test
beside those of its neighbours, with the key of its row where the rows are a dictionary, or a `Case` here.
"""

import ast
import builtins
import contextlib
import functools
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.flags import FLAGS, DEFINE_float

from pinets_tf import export, launch, training
from pinets_tf.analysis import first_not_finite
from pinets_tf.data import epochs, imagenet, images, meshes, pictures
from pinets_tf.export import quantization, runtime, saved_model, serving_assets
from pinets_tf.export.signatures import answered
from pinets_tf.mesh import deformed_spheres
from pinets_tf.npz import Npz
from pinets_tf.training import checkpoints, cluster, fitting, gan_checkpoints
from pinets_tf.training.fitting import results

ROOT = Path(__file__).resolve().parent.parent
SHAPE, FACES = np.eye(3)[None], np.array([[0, 1, 2]])


class Case(NamedTuple):
    """A function of an empty folder, and words of each of the three parts of its error."""

    provoke: Callable[[Path], object]
    rule: str
    received: str
    remedy: str


def without(package, provoke):
    """Returns `provoke` where a package is not installed."""

    def provoke_without(path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            provoke(path)

    return provoke_without


@contextlib.contextmanager
def flags(define, *arguments, **options):
    before = set(FLAGS)
    define(**options)
    try:
        FLAGS([__name__, *arguments])
        yield
    finally:
        for name in set(FLAGS) - before:
            delattr(FLAGS, name)


RECIPE = {"epochs": 2, "batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0, "milestones": (1,)}


def recipe(*arguments, read=lambda: training.recipe_optimizer(dense(), 4)):
    with flags(training.define_recipe_flags, *arguments, **RECIPE):
        read()


def parsed_by_a_script(*arguments):
    def define():
        training.define_run_flags()
        training.define_recipe_flags(**RECIPE)
        DEFINE_float("azimuth", 25, "A flag of the script.")

    with flags(define, "--workdir=run", *arguments):
        pass


def scored(*arguments):
    with flags(training.define_score_flags, *arguments):
        training.score_extractor()


def written(path, content=b"damaged"):
    path.write_bytes(content)
    return path


def arrays(path, **others):
    """Writes four images, four shapes and other arrays into one file, and returns its path."""
    x, y, shapes = np.zeros((4, 8, 8, 3), "uint8"), np.arange(4) % 2, deformed_spheres(4, 1)
    np.savez(
        path / "set.npz",
        x_train=x,
        y_train=y,
        x_test=x,
        y_test=y,
        vertices=shapes.vertices,
        faces=shapes.faces,
        **others,
    )
    return path / "set.npz"


def configured(text, provoke):
    """Returns `provoke` where that is the `TF_CONFIG`."""

    def provoke_configured(path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TF_CONFIG", text)
            provoke()

    return provoke_configured


def alone(provoke):
    """Returns `provoke` as the first of two workers, of which nothing listens at the port of the second."""

    def provoke_alone(path):
        (port,) = launch._free_ports(1)
        configured(launch.tf_config([f"localhost:{port}", "localhost:1"], 0), provoke)(path)

    return provoke_alone


def agree_with_another_worker():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "_joined", [None])
        patch.setattr(cluster, "broadcast", lambda values: [value + 1 for value in values])
        cluster.check_agreement([np.ones(3)])


def wait_at_a_taken_port():
    with socket.create_server(("", 0)) as other:
        cluster.wait_for([f"localhost:{other.getsockname()[1]}"], 0, 0)


def dense(**options):
    inputs = keras.Input((4,), **options)
    return keras.Model(inputs, keras.layers.Dense(2)(inputs), name="dense")


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


def fails(x):
    raise RuntimeError("out of order")


def diverge(path):
    batches = tf.data.Dataset.from_tensors((np.full((4, 4), np.nan, "float32"), np.zeros(4, "int32")))
    lessons = training.Lessons(lambda epoch: batches.repeat(), lambda: 1, 4, batches, batches, ("a", "b"))
    training.fit_classifier(dense(), keras.optimizers.SGD(), lessons, path, epochs=1, xla="off", remedy="Lower it.")


def damage(path):
    (path / "result.json").write_text("[]")
    results(path)


LAYERS = "tests/layers/test_errors.py::test_error_says_rule_received_remedy"
POLYNOMIALS = "tests/layers/test_errors.py::test_every_polynomial"
GRAPHS = "tests/layers/test_graph_convolutions.py::test_error_says_rule_received_remedy"
WRAPPERS = "tests/layers/test_kernel_wrappers.py::test_error_says_rule_received_remedy"
STYLEGAN = "tests/models/test_stylegan.py::test_error_says_rule_received_remedy"
OF_SPIRALS = [
    "tests/layers/test_meshes.py::test_errors",
    "tests/layers/test_meshes.py::test_errors_of_another_topology",
]
MATPLOTLIB = ("Pictures are drawn with matplotlib", "it is not installed", "pip install 'pinets_tf[examples]'")
# The three parts of errors that several functions have.
NO_BATCH = ("at least one full batch", "batch_size=9 for ", "Pass a smaller batch size")
NO_CROP = ("A crop must lie in the resized image", "size=8, resize=4", "Pass a `resize` of at least")
NO_FOLDER = ("An export is written into its folder", "where that failed ([Errno", "or pass another folder")
NO_NETWORK = (".keras that loads", "(ValueError: ", "or copy the file again")
NO_SAVED_MODEL = ("A SavedModel is a folder with saved_model.pb", "where it cannot be read", "Pass the folder")
NO_LITERT = ("with the package ai-edge-litert", "ai_edge_litert", "pip install 'pinets_tf[tflite]'")
NO_QUANTIZER = ("with the package litert-quantizer", "litert_quantizer", "pip install 'pinets_tf[int8]'")
NO_ONNX = ("Models for onnx are written and run with", "halted", "pip install 'pinets_tf[onnx]'")
NO_OPENVINO = ("Models for openvino are written and run with", "halted", "pip install 'pinets_tf[openvino]'")
NO_TFLITE = ("the content of a .tflite file", "what does not load", "Convert it again")
NO_WORKER = (
    "A training starts when all its workers can be reached",
    "no answer from worker 1 (localhost:1) within 0 s",
    "or pass a longer --worker_timeout",
)
NO_TRIMESH = ("is made or read with trimesh", "it is not installed", "pip install 'pinets_tf[mesh]'")
DIVERGES = Case(
    diverge,
    "A training ends when its loss or its gradient is not finite",
    "that of step 1 of 1 of epoch 1",
    "Lower it.",
)
DAMAGED = Case(
    damage, "What a run writes about itself is a JSON object", "result.json, which is none", "Delete the file"
)

TESTED: dict[str, dict[str, list[str | Case]]] = {
    "analysis.coefficients.coefficients": {
        "NotPolynomial": ["tests/analysis/test_coefficients.py::test_errors"],
        "ValueError": ["tests/analysis/test_coefficients.py::test_errors"],
    },
    "analysis.coefficients.evaluate": {"ValueError": ["tests/analysis/test_coefficients.py::test_errors"]},
    "analysis.conversion.convert": {
        "ValueError": ["tests/analysis/test_conversion.py::test_says_what_cannot_be_converted"]
    },
    "analysis.degree.degree": {"ValueError": ["tests/analysis/test_degree.py::test_errors"]},
    "analysis.degree.first_not_polynomial": {"ValueError": ["tests/analysis/test_degree.py::test_errors"]},
    "analysis.encryption.encrypted_ready": {
        "ValueError": ["tests/analysis/test_encryption.py::test_says_what_it_takes"],
    },
    "analysis.finiteness.first_not_finite": {
        "ValueError": [
            Case(
                lambda path: first_not_finite(keras.layers.Dense(2), np.ones((2, 4))),
                "computed with the weights that it has",
                "which is not a Keras layer, or has no weights yet",
                "Pass a model that was built",
            )
        ],
    },
    "analysis.fitting.fit": {
        "ValueError": [
            "tests/analysis/test_fitting.py::test_says_what_cannot_be_fitted",
            "tests/analysis/test_fitting.py::test_counts_its_starts",
        ]
    },
    "analysis.grading.contributions": {
        "NotPolynomial": ["tests/analysis/test_contributions.py::test_errors"],
        "ValueError": ["tests/analysis/test_contributions.py::test_errors"],
    },
    "analysis.grading.truncate": {
        "NotPolynomial": ["tests/analysis/test_contributions.py::test_errors"],
        "ValueError": ["tests/analysis/test_contributions.py::test_errors"],
    },
    "analysis.growth.grow": {"ValueError": ["tests/analysis/test_growth.py::test_says_why_a_layer_cannot_grow"]},
    "analysis.products.without_products": {
        "ValueError": [
            "tests/models/test_generators.py::test_there_are_so_many_products",
            "tests/analysis/test_graphs.py::test_models_that_call_something_else_are_refused",
        ],
    },
    "analysis.summary.polynomial_summary": {
        "ValueError": ["tests/analysis/test_summary.py::test_says_what_it_takes"],
    },
    "analysis.rules.register_layer": {"ValueError": ["tests/analysis/test_degree.py::test_errors_of_registering"]},
    "data.epochs.full_batches": {"ValueError": ["tests/data/test_epochs.py::test_full_batches"]},
    "data.epochs.Share": {
        "ValueError": [
            Case(
                lambda path: epochs.Share(6, hosts=2, replicas=2),
                "Each replica takes the same part of a batch",
                "batch_size=6 for 4 replicas",
                "Pass a multiple of 4",
            )
        ],
    },
    "data.imagenet.load": {
        "FileNotFoundError": ["tests/data/test_imagenet.py::test_no_such_folder"],
        "ImportError": ["tests/data/test_imagenet.py::test_missing_extra"],
        "ValueError": [
            "tests/data/test_imagenet.py::test_bad_folders",
            "tests/data/test_imagenet.py::test_bad_records",
            "tests/data/test_imagenet.py::test_failed_download",
        ],
    },
    "data.imagenet.training_batches": {"ValueError": ["tests/data/test_imagenet.py::test_bad_arguments"]},
    "data.imagenet.validation_batches": {"ValueError": ["tests/data/test_imagenet.py::test_bad_arguments"]},
    "data.imagenet.read_image": {
        "FileNotFoundError": ["tests/data/test_imagenet.py::test_read_image_says_what_is_wrong"],
        "ValueError": [
            "tests/data/test_imagenet.py::test_read_image_says_what_is_wrong",
            Case(lambda path: imagenet.read_image(written(path / "a.png"), size=8, resize=4), *NO_CROP),
        ],
    },
    "data.imagenet.decode_image": {
        "ValueError": [Case(lambda path: imagenet.decode_image(b"", size=8, resize=4), *NO_CROP)]
    },
    "data.images.load": {
        "FileNotFoundError": ["tests/data/test_images.py::test_missing_and_truncated_files"],
        "ImportError": ["tests/data/test_images.py::test_missing_extra"],
        "ValueError": [
            "tests/data/test_images.py::test_missing_and_truncated_files",
            "tests/data/test_images.py::test_bad_arrays",
        ],
    },
    "data.images.training_batches": {
        "ValueError": [Case(lambda path: images.training_batches(images.load(arrays(path)), 9, epochs=1), *NO_BATCH)],
    },
    "data.images.read_image": {"ValueError": ["tests/data/test_images.py::test_errors_of_a_picture"]},
    "data.meshes.load": {
        "FileNotFoundError": ["tests/data/test_meshes.py::test_what_is_not_there"],
        "ImportError": [Case(without("trimesh", lambda path: meshes.load(written(path / "a.obj"))), *NO_TRIMESH)],
        "ValueError": [
            "tests/data/test_meshes.py::test_no_hdf5",
            "tests/data/test_meshes.py::test_bad_registrations",
            "tests/data/test_meshes.py::test_a_folder_of_sequences",
            "tests/data/test_meshes.py::test_too_few_shapes",
        ],
    },
    "data.meshes.training_batches": {
        "ValueError": [Case(lambda path: meshes.training_batches(meshes.load(arrays(path)), 9, epochs=1), *NO_BATCH)],
    },
    "data.meshes.read_shape": {
        "FileNotFoundError": [
            Case(
                lambda path: meshes.read_shape(path / "none.obj", 3),
                "Shapes are read from",
                "'none.obj', which is not in",
                "Pass the path",
            ),
        ],
        "ImportError": [
            Case(without("trimesh", lambda path: meshes.read_shape(written(path / "a.obj"), 3)), *NO_TRIMESH)
        ],
        "ValueError": [
            "tests/data/test_meshes.py::test_one_shape_of_a_file",
            Case(
                lambda path: meshes.read_shape(written(path / "a.obj"), 3),
                "A mesh file has vertices and faces",
                "a.obj (7 bytes), which cannot be read",
                "export or copy it again",
            ),
        ],
    },
    "data.pictures.load": {
        "FileNotFoundError": ["tests/data/test_pictures.py::test_missing_and_damaged_files"],
        "ImportError": ["tests/data/test_pictures.py::test_unknown_name_and_missing_extra"],
        "ValueError": [
            "tests/data/test_pictures.py::test_bad_arguments",
            "tests/data/test_pictures.py::test_missing_and_damaged_files",
            "tests/data/test_pictures.py::test_files_of_a_folder_that_cannot_be_used_are_named",
            "tests/data/test_pictures.py::test_bad_arrays",
            "tests/data/test_pictures.py::test_unknown_name_and_missing_extra",
        ],
    },
    "data.pictures.batches_from": {
        "ValueError": [Case(lambda path: pictures.batches_from(pictures.load(arrays(path), 8), 9), *NO_BATCH)],
    },
    "data.pictures.real_batches": {"ValueError": ["tests/data/test_pictures.py::test_too_few_pictures_for_a_batch"]},
    "data.speech.load": {
        "FileNotFoundError": ["tests/data/test_speech.py::test_no_such_folder"],
        "ImportError": ["tests/data/test_speech.py::test_missing_extra"],
        "ValueError": [
            "tests/data/test_speech.py::test_no_classes",
            "tests/data/test_speech.py::test_bad_sets",
            "tests/data/test_speech.py::test_failed_download",
        ],
    },
    "data.speech.training_batches": {
        "ValueError": [
            "tests/data/test_speech.py::test_too_few_clips_for_a_batch",
            "tests/data/test_speech.py::test_bad_settings",
        ],
    },
    "data.speech.read_clip": {
        "FileNotFoundError": ["tests/data/test_speech.py::test_no_such_folder"],
        "ValueError": ["tests/data/test_speech.py::test_bad_files_are_named_and_left_out"],
    },
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
    "launch.of_hosts": {
        "ValueError": [
            Case(
                lambda path: launch.of_hosts("host1,host2"),
                "Workers are listed as hosts and ports",
                "--hosts=host1,host2 ('host1' is no host with a port from 1 to 65535)",
                "Pass for example --hosts=",
            ),
            Case(
                lambda path: launch.of_hosts("host1:8470,host2:8470", 2),
                "counts from 0 to 1 here",
                "--index=2 with 2 hosts",
                "Pass --index",
            ),
        ],
    },
    "launch.of_slurm": {
        "ValueError": [
            Case(lambda path: launch.of_slurm(), "A task of Slurm is started by srun", "SLURM", "Start it with srun"),
        ],
    },
    "launch.run_local": {
        "ValueError": [
            Case(
                lambda path: launch.run_local(1, []), "Several workers are two or more", "--local=1", "Pass --local=2"
            ),
            Case(
                lambda path: launch.run_local(2, [], -1),
                "Workers are started again 0 times or more",
                "--restarts=-1",
                "Pass --restarts=0",
            ),
        ],
    },
    "layers.batch_normalization.BatchNormalization": {
        "ValueError": ["tests/layers/test_batch_normalization.py::test_the_size_of_the_axis_is_known"],
    },
    "layers.ccp.CCP": {"ValueError": [POLYNOMIALS]},
    "layers.equalized_learning_rate.EqualizedLearningRate": {
        "ValueError": [
            f"{WRAPPERS}[{case}]"
            for case in ("no layer, equalised", "no kernel, equalised", "no initializer", "gain", "multiplier")
        ],
    },
    "layers.feast_conv.FeaStConv": {
        "ValueError": [
            f"{GRAPHS}[{case}]"
            for case in ("filters", "heads", "neighbors of floats", "keep", "another mesh for FeaSt")
        ],
    },
    "layers.gat_conv.GATConv": {
        "ValueError": [
            f"{GRAPHS}[{case}]"
            for case in (
                "filters of GAT",
                "attentions",
                "combine",
                "division",
                "neighbors out of range",
                "keep of GAT",
                "another mesh for GAT",
            )
        ],
    },
    "layers.gmm_conv.GMMConv": {
        "ValueError": [
            f"{GRAPHS}[{case}]"
            for case in (
                "filters of GMM",
                "kernels",
                "sigma",
                "neighbors of GMM",
                "keep of GMM",
                "coordinates of another table",
                "coordinates not finite",
                "another mesh",
            )
        ],
    },
    "layers.injection.Injection": {
        "ValueError": [
            f"{LAYERS}[{case}]"
            for case in (
                "injection of one input",
                "injection of a map",
                "injection factor no layer",
                "injection factor width",
            )
        ],
    },
    "layers.log_mel_spectrogram.LogMelSpectrogram": {
        "ValueError": ["tests/models/test_mel_front_end.py::test_errors_of_the_layer"],
    },
    "layers.minibatch_deviation.MinibatchDeviation": {"ValueError": [f"{STYLEGAN}[group]"]},
    "layers.ncp.NCP": {"ValueError": [POLYNOMIALS, f"{LAYERS}[operator changes the size]"]},
    "layers.ncp_skip.NCPSkip": {"ValueError": [POLYNOMIALS, f"{LAYERS}[operator changes an unknown size]"]},
    "layers.noise_injection.NoiseInjection": {"ValueError": [f"{STYLEGAN}[noise]"]},
    "layers.polynomial_residual.PolynomialResidual": {
        "ValueError": [
            f"{LAYERS}[{case}]"
            for case in (
                "residual order",
                "branch no layer",
                "shortcut no layer",
                "residual factor no layer",
                "shapes differ",
                "residual factor shape",
            )
        ],
    },
    "layers.pooled_product.PooledProduct": {
        "ValueError": [
            f"{LAYERS}[{case}]"
            for case in ("pooled order", "pooled factor no layer", "pooled factor width", "pooled vector")
        ],
    },
    "layers.prod_poly.ProdPoly": {
        "ValueError": [f"{LAYERS}[{case}]" for case in ("no polynomials", "the same layer twice")],
    },
    "layers.spectral_normalization.SpectralNormalization": {
        "ValueError": [f"{WRAPPERS}[{case}]" for case in ("no layer", "no kernel", "iterations")],
    },
    "layers.spiral_conv.SpiralConv": {"ValueError": [*OF_SPIRALS]},
    "layers.spiral_polynomial.SpiralPolynomial": {"ValueError": [*OF_SPIRALS]},
    "layers.style_mixing.StyleMixing": {
        "ValueError": [f"{STYLEGAN}[{case}]" for case in ("styles", "numbers of the styles")],
    },
    "layers.vertex_resample.VertexResample": {"ValueError": [*OF_SPIRALS]},
    "layers.vertex_standardization.VertexStandardization": {"ValueError": [*OF_SPIRALS]},
    "mesh.decimation.decimate": {
        "ValueError": [
            "tests/mesh/test_decimation.py::test_bad_template",
            "tests/mesh/test_decimation.py::test_bad_factor",
            "tests/mesh/test_decimation.py::test_too_many_parts",
        ],
    },
    "mesh.deformed_spheres.deformed_spheres": {
        "ImportError": ["tests/mesh/test_deformed_spheres.py::test_missing_extra"],
    },
    "mesh.files.read_shapes": {
        "FileNotFoundError": ["tests/mesh/test_files.py::test_what_is_not_there"],
        "ImportError": ["tests/mesh/test_files.py::test_missing_extra"],
        "ValueError": [
            "tests/mesh/test_files.py::test_what_is_not_there",
            "tests/mesh/test_files.py::test_files_that_are_no_mesh",
            "tests/mesh/test_files.py::test_files_of_different_topologies",
            "tests/mesh/test_files.py::test_bad_arrays",
        ],
    },
    "mesh.files.read_mesh": {
        "FileNotFoundError": ["tests/mesh/test_files.py::test_what_is_not_there"],
        "ImportError": ["tests/mesh/test_files.py::test_missing_extra"],
        "ValueError": [
            "tests/mesh/test_files.py::test_truncated_files",
            "tests/mesh/test_files.py::test_bad_coordinates_and_indices",
        ],
    },
    "mesh.hierarchy.hierarchy": {
        "ValueError": ["tests/mesh/test_hierarchy.py::test_bad_template", "tests/mesh/test_hierarchy.py::test_errors"],
    },
    "mesh.spirals.spirals": {"ValueError": ["tests/mesh/test_spirals.py::test_errors"]},
    "mesh.topology.clean_faces": {"ValueError": ["tests/mesh/test_topology.py::test_errors"]},
    "metrics.efficientnet_lite0.EfficientNetLite0": {
        "FileNotFoundError": ["tests/metrics/test_extractors.py::test_wrong_files_of_efficientnet"],
        "ValueError": ["tests/metrics/test_extractors.py::test_wrong_files_of_efficientnet"],
    },
    "metrics.feature_statistics.FeatureStatistics": {
        "ValueError": ["tests/metrics/test_feature_statistics.py::test_errors_of_features"],
    },
    "metrics.feature_statistics.FeatureStatistics.save": {
        "ValueError": [
            "tests/metrics/test_feature_statistics.py::test_saved_statistics_go_on_where_they_were",
            "tests/metrics/test_feature_statistics.py::test_errors_of_features",
        ],
    },
    "metrics.feature_statistics.FeatureStatistics.load": {
        "FileNotFoundError": ["tests/metrics/test_feature_statistics.py::test_missing_and_broken_files"],
        "ValueError": [
            "tests/metrics/test_feature_statistics.py::test_missing_and_broken_files",
            "tests/metrics/test_feature_statistics.py::test_wrong_files",
        ],
    },
    "metrics.frechet_distance.frechet_distance": {
        "ValueError": ["tests/metrics/test_feature_statistics.py::test_errors_of_features"],
    },
    "metrics.inception_2015.Inception2015": {
        "FileNotFoundError": ["tests/metrics/test_extractors.py::test_wrong_files_of_inception"],
        "ImportError": ["tests/metrics/test_extractors.py::test_inception_without_tensorflow"],
        "ValueError": ["tests/metrics/test_extractors.py::test_wrong_files_of_inception"],
    },
    "metrics.inception_score.InceptionScore": {
        "ValueError": ["tests/metrics/test_scores.py::test_errors_of_the_inception_score"],
    },
    "metrics.keras_extractor.KerasExtractor": {
        "ValueError": [
            "tests/metrics/test_extractors.py::test_errors_of_a_keras_extractor",
            "tests/metrics/test_extractors.py::test_errors_of_images",
        ],
    },
    "metrics.kernel_distance.KernelInceptionDistance": {
        "ValueError": [
            "tests/metrics/test_scores.py::test_errors_of_the_kernel_distance",
            "tests/metrics/test_scores.py::test_few_images_for_the_kernel_distance",
        ],
    },
    "metrics.pixels.to_uint8": {"ValueError": ["tests/metrics/test_scores.py::test_rounding"]},
    "metrics.scores.score_images": {
        "FileNotFoundError": ["tests/metrics/test_scores.py::test_errors_of_images_and_files"],
        "ValueError": [
            "tests/metrics/test_scores.py::test_errors_of_scores",
            "tests/metrics/test_scores.py::test_errors_of_images_and_files",
            "tests/metrics/test_scores.py::test_no_inception_score_without_logits",
            "tests/metrics/test_scores.py::test_reference_from_a_file_and_of_another_network",
            "tests/training/test_gan_report.py::test_copies_of_a_batch_are_not_scored",
        ],
    },
    "metrics.scores.image_features": {"ValueError": ["tests/metrics/test_scores.py::test_errors_of_images_and_files"]},
    "metrics.statement.Statement": {"ValueError": ["tests/metrics/test_scores.py::test_statement_has_seven_things"]},
    "models.folding.fold_normalization": {"ValueError": ["tests/models/test_folding.py::test_errors"]},
    "models.linear_generator.linear_generator": {"ValueError": ["tests/models/test_generators.py::test_errors"]},
    "models.mel_front_end.mel_front_end": {"ValueError": ["tests/models/test_mel_front_end.py::test_errors"]},
    "models.mel_front_end.mel_mean_and_variance": {
        "ValueError": ["tests/models/test_mel_front_end.py::test_errors_of_the_statistics"],
    },
    "models.mesh_autoencoder.mesh_autoencoder": {"ValueError": ["tests/models/test_mesh_autoencoder.py::test_errors"]},
    "models.resnet.resnet": {"ValueError": ["tests/models/test_resnet.py::test_errors"]},
    "models.sngan.sngan_generator": {"ValueError": ["tests/models/test_generators.py::test_errors"]},
    "models.sngan.sngan_discriminator": {"ValueError": ["tests/models/test_generators.py::test_errors"]},
    "models.stylegan.stylegan_mapping": {"ValueError": [f"{STYLEGAN}[{case}]" for case in ("width", "layers")]},
    "models.stylegan.stylegan_synthesis": {
        "ValueError": [f"{STYLEGAN}[{case}]" for case in ("base channels", "size", "fade of the generator")],
    },
    "models.stylegan.stylegan_discriminator": {
        "ValueError": [
            f"{STYLEGAN}[{case}]" for case in ("group of the discriminator", "size of the discriminator", "fade")
        ],
    },
    "models.stylegan.stylegan_generator": {"ValueError": [f"{STYLEGAN}[{case}]" for case in ("sizes of w", "mixing")]},
    "models.stylegan.carry_weights": {
        "ValueError": ["tests/models/test_stylegan.py::test_carried_generator_has_its_average"],
    },
    "npz.Npz": {
        "ValueError": [
            Case(
                lambda path: Npz(written(path / "a.npz"), "Numbers are an .npz file"),
                "Numbers are an .npz file",
                "a.npz (7 bytes), which cannot be read",
                "or copy it again",
            ),
            Case(
                lambda path: Npz(arrays(path, x=np.array([None])), "Numbers are an .npz file")["x"],
                "Numbers are an .npz file",
                "which cannot be read (x holds Python objects)",
                "write plain arrays with numpy.savez",
            ),
        ],
    },
    "training.autoencoder.load_autoencoder": {
        "ValueError": [
            "tests/training/test_autoencoder.py::test_a_workdir_without_a_network",
            Case(lambda path: training.load_autoencoder(written(path / "model.keras").parent), *NO_NETWORK),
        ],
    },
    "training.autoencoder.run_pca": {"ImportError": ["tests/training/test_autoencoder.py::test_missing_extras"]},
    "training.checkpoints.rows_until": {
        "ValueError": [
            Case(
                lambda path: checkpoints.rows_until(written(path / "history.csv", b"step,loss\n1,2\n"), "epoch", 1),
                "A history is a table with a column of integers, epoch",
                "history.csv, which cannot be read (KeyError",
                "Delete it to go on without",
            )
        ]
    },
    "training.checkpoints.Checkpoints.restore": {
        "ValueError": ["tests/training/test_training.py::test_damaged_checkpoint"],
    },
    "training.classifier.fit_classifier": {
        "Divergence": [DIVERGES],
    },
    "training.classifier.load_classifier": {
        "ValueError": ["tests/training/test_classifier.py::test_errors_of_a_saved_network"],
    },
    "training.cluster.workers": {
        "ValueError": [
            Case(
                configured("nothing", cluster.workers),
                "TF_CONFIG lists the addresses of the workers",
                "TF_CONFIG=nothing (",
                "Pass for example",
            ),
            Case(
                configured(launch.tf_config(["host1:8470"], 1), cluster.workers),
                "says which of them this process is",
                "(no address for the task worker 1)",
                "Pass for example",
            ),
            Case(
                configured(launch.tf_config([8470, 8471], 0), cluster.workers),
                "lists the addresses of the workers",
                "(8470 is no host with a port from 1 to 65535)",
                "Pass for example",
            ),
        ],
    },
    "training.cluster.join": {
        "ValueError": [
            Case(
                configured("", lambda: cluster.join(0)),
                "Several workers find each other through TF_CONFIG",
                "with 0 workers",
                "Start them with python -m pinets_tf.launch",
            )
        ],
        "TimeoutError": [Case(alone(lambda: cluster.join(0)), *NO_WORKER)],
    },
    "training.cluster.wait_for": {
        "ValueError": [
            Case(
                lambda path: wait_at_a_taken_port(),
                "A worker listens at the port of its address",
                "worker 0 at localhost:",
                "Pass another port",
            )
        ],
        "TimeoutError": [Case(alone(lambda: cluster.wait_for(*cluster.workers(), 0)), *NO_WORKER)],
    },
    "training.cluster.check_agreement": {
        "RuntimeError": [
            Case(
                lambda path: agree_with_another_worker(),
                "All workers end with the same weights",
                "worker 0 with others than worker 0 (checksums",
                "train again with another --workdir",
            )
        ]
    },
    "training.coupled_adam.CoupledAdam": {
        "ValueError": ["tests/training/test_autoencoder.py::test_weight_decay_goes_through_the_moments"],
    },
    "training.coupled_sgd.CoupledSGD": {
        "ValueError": ["tests/training/test_training.py::test_weight_decay_goes_through_the_momentum"],
    },
    "training.curves.draw_curves": {"ImportError": ["tests/training/test_training.py::test_curves"]},
    "training.fitting.fit_network": {"Divergence": [DIVERGES]},
    "training.fitting.results": {"ValueError": [DAMAGED]},
    "training.fitting.load_network": {
        "ValueError": [Case(fitting.load_network, "model.keras that loads", *NO_NETWORK[1:])]
    },
    "training.gan.fit_gan": {
        "Divergence": ["tests/training/test_gan.py::test_divergence"],
        "ValueError": [
            "tests/training/test_gan.py::test_errors_of_networks_and_images",
        ],
    },
    "training.gan.load_generator": {"ValueError": ["tests/training/test_gan.py::test_errors_of_networks_and_images"]},
    "training.gan.load_adversaries": {"ValueError": [Case(training.load_adversaries, *NO_NETWORK)]},
    "training.gan_average.settle_statistics": {
        "ValueError": ["tests/training/test_gan.py::test_settled_statistics_are_those_of_the_weights"],
    },
    "training.gan_checkpoints.GanCheckpoints.save": {"Divergence": ["tests/training/test_gan.py::test_divergence"]},
    "training.gan_checkpoints.GanCheckpoints.restore": {
        "ValueError": ["tests/training/test_gan.py::test_checkpoint_that_does_not_load"],
    },
    "training.gan_checkpoints.GanHistory.draw": {
        "ImportError": [
            Case(
                without(
                    "matplotlib.figure",
                    lambda path: gan_checkpoints.GanHistory(path, 0).draw(path / "a.png", (), ""),
                ),
                *MATPLOTLIB,
            )
        ],
    },
    "training.gan_report.score_extractor": {
        "FileNotFoundError": [
            Case(
                lambda path: scored("--inception=none.pb"),
                "FID, IS and KID are scores of the frozen graph",
                "'none.pb', which is not in",
                "Put it there, or score with another network",
            ),
        ],
        "ValueError": [
            Case(
                lambda path: scored(f"--efficientnet_lite0={written(path / 'weights.npz')}"),
                "EfficientNet-Lite0 has its weights from",
                "weights.npz (7 bytes), which cannot be read",
                "copy it again",
            ),
            Case(
                lambda path: scored("--inception=a", "--efficientnet_lite0=b"),
                "Scores are those of one network",
                "--inception=a and --efficientnet_lite0=b",
                "Pass one",
            ),
        ],
    },
    "training.gan_step.GanRecipe": {"ValueError": ["tests/training/test_gan.py::test_recipe_errors"]},
    "training.gan_step.Adversaries": {
        "ValueError": ["tests/training/test_gan.py::test_errors_of_networks_and_images"],
    },
    "training.interruption.Interruption.leave": {
        "SystemExit": ["tests/training/test_interruption.py::test_leaving_says_what_is_saved"],
    },
    "training.loop.Loop.run": {"NotFiniteLoss": [DIVERGES]},
    "training.mesh_pictures.draw_reconstructions": {
        "ImportError": [
            Case(
                without(
                    "matplotlib.figure",
                    lambda path: training.draw_reconstructions(SHAPE, SHAPE, ["a"], FACES, path / "a.png"),
                ),
                *MATPLOTLIB,
            )
        ],
    },
    "training.mesh_pictures.draw_strip": {"ImportError": ["tests/training/test_autoencoder.py::test_missing_extras"]},
    "training.mesh_pictures.write_animation": {
        "ImportError": [
            Case(
                without("matplotlib.figure", lambda path: training.write_animation(SHAPE, FACES, path / "a.gif")),
                *MATPLOTLIB,
            )
        ],
    },
    "training.report.write_report": {
        "ImportError": ["tests/training/test_report.py::test_missing_extra"],
        "ValueError": ["tests/training/test_report.py::test_bad_input"],
    },
    "training.run_flags.recipe_optimizer": {
        "ValueError": [
            Case(
                lambda path: recipe("--milestones=1,two"),
                "--milestones lists numbers with commas between them",
                "--milestones=1,two",
                "Pass for example --milestones=1",
            ),
            Case(
                lambda path: recipe("--warm_up_epochs=2"),
                "The learning rate falls after the warm-up",
                "warm_up_steps=8, milestones=[4]",
                "Pass a shorter warm-up",
            ),
        ],
    },
    "training.run_flags.define_run_flags": {
        "IllegalFlagValueError": [
            Case(
                lambda path, given=f"--{name}={number}": parsed_by_a_script(given),
                "Flags that are numbers are finite",
                f"--{name}={number}. ",
                f"Pass for example --{name}={default}",
            )
            # The last one is that of a script.
            for name, number, default in [
                ("rollback_factor", "nan", 0.5),
                ("warm_up_epochs", "inf", 0.0),
                ("learning_rate", "nan", 0.1),
                ("azimuth", "-inf", 25),
            ]
        ],
    },
    "training.run_flags.numbers": {
        "ValueError": [
            Case(
                lambda path: recipe("--milestones=1.5", read=lambda: training.numbers("milestones")),
                "--milestones lists numbers with commas between them",
                "--milestones=1.5",
                "Pass for example --milestones=1",
            )
        ],
    },
    "training.runtime.set_up": {
        "ValueError": ["tests/training/test_training.py::test_set_up"],
        "TimeoutError": [Case(alone(lambda: training.set_up("multi_worker", worker_timeout=0)), *NO_WORKER)],
    },
    "training.sample_pictures.write_grid": {"ValueError": ["tests/training/test_sample_pictures.py::test_bad_grids"]},
    "training.sample_pictures.interpolate": {
        "ValueError": ["tests/training/test_sample_pictures.py::test_bad_interpolations"],
    },
    "training.sample_pictures.draw_interpolation": {
        "ValueError": [
            "tests/training/test_sample_pictures.py::test_strip_runs_from_source_to_target",
            Case(
                lambda path: training.draw_interpolation(fails, np.zeros((2, 3)), np.zeros((1, 3)), path / "a.png"),
                "Latents are interpolated between two arrays of one shape",
                "shapes (2, 3) and (1, 3)",
                "Pass one source for each target",
            ),
        ],
    },
    "training.sample_pictures.draw_contributions": {
        "ImportError": ["tests/training/test_sample_pictures.py::test_bad_contributions"],
        "ValueError": ["tests/training/test_sample_pictures.py::test_bad_contributions"],
    },
    "training.shape_report.shape_errors": {
        "ValueError": ["tests/training/test_autoencoder.py::test_errors_of_the_report"]
    },
    "training.step_schedule.StepSchedule": {
        "ValueError": [
            "tests/training/test_classifier.py::test_schedule_refuses_milestones_in_the_warm_up",
            Case(
                lambda path: training.StepSchedule(0.1, warm_up_steps=-1),
                "A warm-up has 0 steps or more",
                "warm_up_steps=-1",
                "Pass 0 for none",
            ),
        ],
    },
    "training.workdir.read_json": {"ValueError": [DAMAGED]},
    "training.workdir.open_workdir": {
        "PermissionError": ["tests/training/test_training.py::test_unwritable_workdir"],
        "ValueError": [
            "tests/training/test_training.py::test_workdir_belongs_to_one_configuration",
            "tests/training/test_training.py::test_one_process_writes_into_a_workdir",
        ],
    },
}
PAIRS = [(name, exception) for name, exceptions in TESTED.items() for exception in exceptions]
REFERENCES = [(*pair, test) for pair in PAIRS for test in TESTED[pair[0]][pair[1]] if isinstance(test, str)]
CASES = [(*pair, test) for pair in PAIRS for test in TESTED[pair[0]][pair[1]] if isinstance(test, Case)]


@functools.cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def raised(node):
    """Returns the names of the exceptions in the section `Raises:` of the docstring of a class or function."""
    section = re.search(r"^Raises:\n((?: .*\n?|\n)+)", ast.get_docstring(node) or "", re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+(?:, \w+)*): ", section[1], re.MULTILINE) if section else []
    assert entries or not section, f"{node.name}: `Raises:` lists `Exception: if ...`. Received: {section[1]}"
    return [name for entry in entries for name in entry.split(", ")]


def documented():
    """Yields the name below `pinets_tf` of each public class, function and method, with each exception of `Raises:`."""

    def below(node, prefix):
        for inner in node.body:
            if isinstance(inner, (ast.ClassDef, ast.FunctionDef)) and not inner.name.startswith("_"):
                name = f"{prefix}.{inner.name}"
                yield from ((name, exception) for exception in raised(inner))
                if isinstance(inner, ast.ClassDef):
                    yield from below(inner, name)

    for path in sorted((ROOT / "pinets_tf").rglob("*.py")):
        yield from below(parsed(path), ".".join(path.relative_to(ROOT / "pinets_tf").with_suffix("").parts))


def reached(path, reference):
    """Returns the test of a reference with all that it uses of its module, as nodes."""
    test, _, row = reference.partition("[")
    module = parsed(path).body
    own = {node.name: node for node in module if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in module:
        if isinstance(node, ast.Assign):
            own |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
    assert test in own, f"{path} has no test {test}"
    left, seen = [test], {}
    if row:
        # Of a table, which the decorator names, the row alone.
        seen = {name: None for decorator in own[test].decorator_list for name in names(decorator) & own.keys()}
        tables = [own[name] for name in seen if isinstance(own[name], ast.Dict)]
        rows = [value for table in tables for key, value in zip(table.keys, table.values) if key.value == row[:-1]]
        assert rows, f"the table of {test} has no row {row[:-1]!r}"
        seen["the row"] = rows[0]
        left += names(rows[0])
    while left:
        name = left.pop()
        if name in own and name not in seen:
            seen[name] = own[name]
            left += names(own[name])
    return [node for node in seen.values() if node is not None]


def names(node):
    """Returns the names and attributes that are used in a node."""
    inner = list(ast.walk(node))
    return {x.id for x in inner if isinstance(x, ast.Name)} | {x.attr for x in inner if isinstance(x, ast.Attribute)}


def checked(node):
    """Yields the exceptions that a node expects by `pytest.raises`, and looks at the words of."""
    for item in (item for inner in ast.walk(node) if isinstance(inner, ast.With) for item in inner.items):
        call, caught = item.context_expr, item.optional_vars
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.raises" and call.args:
            looked_at = caught is not None and f"{ast.unparse(caught)}.value" in ast.unparse(node)
            if looked_at or any(keyword.arg == "match" for keyword in call.keywords):
                yield ast.unparse(call.args[0]).rpartition(".")[2]


def is_a(name, wanted):
    """Returns whether an exception of that name may be raised where `wanted` is documented."""
    classes = [getattr(builtins, each, None) for each in (name, wanted)]
    # Scripts make one SystemExit of all that their readers should see.
    return name in (wanted, "SystemExit") or (None not in classes and issubclass(*classes))


def test_all_that_is_documented_is_listed():
    found, listed = set(documented()), set(PAIRS)
    missing, gone = sorted(found - listed), sorted(listed - found)
    assert not missing, f"Add to TESTED a test of the words of: {missing}"
    assert not gone, f"Take out of TESTED what no docstring has under `Raises:`: {gone}"
    assert all(TESTED[name][exception] for name, exception in PAIRS)


@pytest.mark.parametrize("name, exception, reference", REFERENCES)
def test_a_test_looks_at_the_words(name, exception, reference):
    path, _, test = reference.partition("::")
    nodes = reached(ROOT / path, test)
    expected = {caught for node in nodes for caught in checked(node)}
    assert any(is_a(caught, exception) for caught in expected), f"{reference} checks the words of {expected} alone"
    assert any(name.rpartition(".")[2] in names(node) for node in nodes), f"{reference} does not use {name}"


@pytest.mark.parametrize("name, exception, case", CASES)
def test_says_rule_received_remedy(name, exception, case, tmp_path):
    with pytest.raises(BaseException) as caught:
        case.provoke(tmp_path)
    message = str(caught.value)
    # What scripts make a SystemExit of remains its cause.
    classes = [*type(caught.value).__mro__, *type(caught.value.__cause__).__mro__]
    assert exception in [each.__name__ for each in classes], repr(caught.value)
    rule, received, remedy = map(re.escape, case[1:])
    assert re.search(f"{rule}.*Received: .*{received}.*{remedy}", message, re.DOTALL), message
