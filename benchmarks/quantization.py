"""Whether networks in eight bits answer as they do in float: ours against TensorFlow's own full int8.

    python benchmarks/quantization.py

Five networks of orders 2 and 3 without activations are trained on the sample of Fashion-MNIST that comes with the
package, from seeds 0 to 4. Of its training images 500 are left out for the ranges of the tensors, and 500 for choosing
(`pinets_tf.export.quantize_int8`); the table is of the test images, which nobody has seen. *TensorFlow int8* is
`tf.lite.TFLiteConverter` with the first 500, *ours* may keep products in float, *ours, integers* may not.
"""

import argparse
import contextlib
import io
import tempfile

import keras
import numpy as np
import tensorflow as tf

from pinets_tf import training
from pinets_tf.data import images
from pinets_tf.export import convert, export_saved_model, quantize_int8
from pinets_tf.export.runtime import agreement, answers
from pinets_tf.models import resnet

ORDERS = (2, 3)
LEFT_OUT = 500
BATCH = 50


def trained(data, seed, order, width, epochs):
    """Returns a network trained on `data`."""
    keras.utils.set_random_seed(seed)
    mean, variance = data.mean_and_variance()
    network = resnet(
        data.x_train.shape[1:],
        data.classes,
        stage_blocks=(1, 1, 1),
        width=width,
        order=order,
        activation=None,
        preprocessing=keras.layers.Normalization(mean=mean, variance=variance),
    )
    x, y = data.x_train[: -2 * LEFT_OUT], data.y_train[: -2 * LEFT_OUT]
    rate = keras.optimizers.schedules.CosineDecay(0.05, epochs * (len(x) // BATCH))
    network.compile(training.CoupledSGD(rate, l2=5e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(x.astype("float32"), y, batch_size=BATCH, epochs=epochs, verbose=0)
    return network


def of_tensorflow(version, calibration):
    """Returns the TFLite model in full int8 that TensorFlow makes itself."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(version), signature_keys=["lite"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    with contextlib.redirect_stdout(io.StringIO()):
        return converter.convert()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=5, help="how many seeds")
    parser.add_argument("--width", type=int, default=12, help="channels of the first stage")
    parser.add_argument("--epochs", type=int, default=8, help="of training")
    options = parser.parse_args()

    data = images.load("sample")
    left_out = data.x_train[-2 * LEFT_OUT :].astype("float32")
    test = data.x_test.astype("float32")
    print(f"width {options.width}, {options.epochs} epochs, {len(test)} test images; agreement (accuracy)")
    print("seed  order  float   TensorFlow int8  ours, integers  ours         kB, float and ours")
    for seed in range(options.networks):
        order = ORDERS[seed % len(ORDERS)]
        network = trained(data, seed, order, options.width, options.epochs)
        with tempfile.TemporaryDirectory() as folder:
            version = export_saved_model(network, folder, "network")
            exact, theirs = convert(version), of_tensorflow(version, left_out[:LEFT_OUT])
        ours, integers = (
            quantize_int8(exact, left_out[:LEFT_OUT], left_out[LEFT_OUT:], float_operators=floats)
            for floats in (True, False)
        )
        expected = answers(exact, test)
        row = [f"{seed:<5} {order:<6} {np.mean(expected.argmax(-1) == data.y_test):.3f} "]
        for content in (theirs, integers.content, ours.content):
            got = answers(content, test)
            row.append(f"{agreement(expected, got):.3f} ({np.mean(got.argmax(-1) == data.y_test):.3f})  ")
        print(" ".join(row), f"{len(exact) / 1000:.0f}, {len(ours.content) / 1000:.0f}")
        print(f"      {ours}", flush=True)


if __name__ == "__main__":
    main()
