"""Writes a trained model as a versioned SavedModel, laid out as TensorFlow Serving reads it.

    python export/saved_model.py runs/order2/model.keras --output served

makes served/model/1, the next time served/model/2. The version appears under its number only when it is complete and
was found to return what the Keras model returns, so that a server that watches the folder never sees half a model.
Which signatures it has depends on the model (`pinets_tf.export.signatures`): tensors in float32, encoded images or
sounds, and one for TFLite. The labels of a classifier, and what the model card says of its training, are taken from the
folder of the model. What batch normalisations of products compute from their weights at every call is computed once,
before (`pinets_tf.models.fold_normalization`).

    python export/saved_model.py runs/order2/model.keras --output served --onnx order2.onnx --openvino order2.xml

writes the model also for ONNX Runtime and for OpenVINO, compares both with the SavedModel on the model's own examples
or those of --warm_up, and prints the largest relative difference. One that differs by more than 1e-3 is not written.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import argparse
import sys
import warnings

import numpy as np

from pinets_tf import script
from pinets_tf.export import (
    RUNTIMES,
    TASKS,
    check_runtime,
    export_saved_model,
    load_model,
    read_inputs,
    read_labels,
    signatures,
    write_checked,
)
from pinets_tf.export.saved_model import BATCHES
from pinets_tf.files import expanded


def examples(model, task, inputs):
    """Returns what exports are compared on: the model's own examples, with the values of `inputs` if there are any."""
    requests = [signatures(model, task)["lite"].example(batch) for batch in BATCHES]
    if inputs is None:
        return requests
    return [
        {name: np.resize(inputs, value.shape).astype(value.dtype) for name, value in request.items()}
        for request in requests
    ]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=expanded, help="the .keras file of a trained model")
    parser.add_argument("--output", type=expanded, required=True, help="the folder to export into")
    parser.add_argument("--name", help="the name under which it is served; by default that of the file")
    parser.add_argument("--version", type=int, help="the number of the version; by default the next one")
    parser.add_argument("--replace", action="store_true", help="replace --version if it is there, and all of it")
    parser.add_argument(
        "--labels", type=expanded, help="a file with the name of each class; by default labels.txt beside the model"
    )
    parser.add_argument("--images", action="store_true", help="a generator: return uint8 pixels, not [-1, 1]")
    parser.add_argument("--task", choices=["auto", *TASKS], default="auto", help="what the model takes; auto looks")
    parser.add_argument(
        "--warm_up", type=expanded, help="an .npy file of inputs, to be replayed by the server before it answers"
    )
    parser.add_argument("--licence", help="the licence of the model, for the model card")
    parser.add_argument("--onnx", metavar="FILE.onnx", type=expanded, help="write the model also for ONNX Runtime")
    parser.add_argument("--openvino", metavar="FILE.xml", type=expanded, help="write it also for OpenVINO")
    options = parser.parse_args(arguments)
    others = {name: file for name in RUNTIMES if (file := getattr(options, name)) is not None}
    warnings.formatwarning = lambda message, *_: f"{parser.prog}: {message}\n"
    try:
        for name, file in others.items():
            check_runtime(name, file)
        model = load_model(options.model)
        inputs = None if options.warm_up is None else read_inputs(options.warm_up)
        target = export_saved_model(
            model,
            options.output,
            options.model.stem if options.name is None else options.name,
            options.images,
            version=options.version,
            replace=options.replace,
            task=options.task,
            labels=None if options.labels is None else read_labels(options.labels),
            workdir=options.model.parent,
            warm_up=inputs,
            licence=options.licence,
        )
    except (ImportError, ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{parser.prog}: interrupted, and nothing written")
    print(target, flush=True)
    for name, file in others.items():
        try:
            difference = write_checked(name, target, file, examples(model, options.task, inputs))
        except (ImportError, ValueError, OSError) as error:
            sys.exit(f"{parser.prog}: {error} The SavedModel is written.")
        except KeyboardInterrupt:
            sys.exit(f"{parser.prog}: interrupted, and {file} not written; the SavedModel is")
        print(f"{file}: largest relative difference to the SavedModel {difference:.1e}")


if __name__ == "__main__":
    script.start()
    main()
