"""How quick exports of a convolutional Π-net are at one image, and what folding of normalisations brings.

    python benchmarks/export.py

ResNet18 with blocks of order 2 and no activation, its products normalised, 32x32 pixels. *graph* is the SavedModel in
TensorFlow, *TFLite* LiteRT with XNNPACK; both may use all cores. *folded* is the SavedModel as `export_saved_model`
writes it, *not folded* the same network without `fold_normalization`; so too for single NCPs, whose normalisations
become part of their matrices or convolutions.
"""

import argparse
import os
import tempfile

import keras
import numpy as np
import tensorflow as tf
from timing import Claim, interleave, machine, print_table

from pinets_tf.export import convert, export_saved_model
from pinets_tf.export.runtime import interpreter
from pinets_tf.layers import NCP
from pinets_tf.models import fold_normalization, resnet

AS_FAST, EIGHT_BITS, FOLDING = Claim("<=", 1.00), Claim(">=", 2.50), Claim(">=", 1.05)
BATCHES = (1, 16)
LAYERS = (
    ("NCP of matrices, order 4, rank 64", (784,), {"order": 4, "rank": 64}),
    (
        "NCP of convolutions, order 3, 32 channels",
        (32, 32, 32),
        {"order": 3, "operator": keras.layers.Conv2D(32, 3, padding="same")},
    ),
)


def lite(content, image):
    """Returns a function that runs a TFLite model on an image."""
    loaded = interpreter(content, num_threads=os.cpu_count())
    loaded.resize_tensor_input(loaded.get_input_details()[0]["index"], image.shape)
    loaded.allocate_tensors()
    loaded.set_tensor(loaded.get_input_details()[0]["index"], image)
    return loaded.invoke


def graph(network, batch, shape=(32, 32, 3)):
    """Returns a function that runs a Keras model, or a signature, on a batch."""
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (batch, *shape)), tf.float32)
    function = tf.function(lambda x: network(x, training=False))
    return lambda: function(images).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timings of each function")
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage")
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    network = resnet((32, 32, 3), 10, stage_blocks=(2, 2, 2, 2), width=options.width, order=2, activation=None)
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        version = export_saved_model(network, folder, "network")
        contents = {precision: convert(version, precision) for precision in ("float32", "dynamic_int8")}
        loaded = tf.saved_model.load(str(version))
    signature = loaded.signatures["lite"]
    functions = {"graph": graph(lambda x, training: signature(images=x)["logits"], 1)}
    functions |= {precision: lite(content, image) for precision, content in contents.items()}
    times = interleave(functions, options.rounds)
    rows = [
        ("TFLite float32 / graph, time", times.ratio("float32", to="graph"), AS_FAST),
        ("float32 / dynamic int8, time", times.ratio("float32", to="dynamic_int8"), EIGHT_BITS),
    ]
    for batch in BATCHES:
        folded = graph(lambda x, training: signature(images=x)["logits"], batch)
        times = interleave({"not folded": graph(network, batch), "folded": folded}, options.rounds)
        rows.append((f"not folded / folded, time, batch {batch}", times.ratio("not folded", to="folded"), FOLDING))
    for what, shape, settings in LAYERS:
        layer = keras.Sequential([keras.Input(shape), NCP(10, **settings, normalize="batch")])
        functions = {"not folded": graph(layer, 16, shape), "folded": graph(fold_normalization(layer), 16, shape)}
        times = interleave(functions, options.rounds)
        rows.append((f"{what}, not folded / folded, time", times.ratio("not folded", to="folded"), FOLDING))
    sizes = {name: len(content) for name, content in contents.items()}
    print_table(rows, f"{machine()}; width {options.width}, {options.rounds} rounds")
    print(", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()))


if __name__ == "__main__":
    main()
