"""A polynomial network on encrypted images: it never sees a picture, nor its own answer.

    pip install 'pinets_tf[encrypted]'
    python examples/encrypted_images.py

Homomorphic encryption such as CKKS adds and multiplies encrypted numbers and can do nothing else, so that it computes
polynomials, which is what a network without activation functions is. Trains a CCP (Eq. 3 of the paper) on the images of
Fashion-MNIST that come with the package, averaged to 14 x 14 pixels, and classifies test images twice: in the clear,
and on ciphertexts by functions that have the public keys alone. Prints accuracy and time of both and the largest
difference of their class scores. Expected: about 0.85 with both, and differences below 0.01.

Each ciphertext holds one pixel of all images, up to 4,096 of them, as in CryptoNets (Gilad-Bachrach et al., ICML 2016):
one image takes as long as all of them. The keys are for security of 128 bits. Run again, it reuses the trained network.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import functools
import operator
import time

import keras
import numpy as np
from absl import app, flags

from pinets_tf import script, training
from pinets_tf.analysis import encryption_report
from pinets_tf.data import images
from pinets_tf.layers import CCP

FLAGS = flags.FLAGS
script.define_workdir("runs/encrypted_images", "Folder for the trained network.")
flags.DEFINE_integer("images", 1000, "Test images to classify.", lower_bound=1)
flags.DEFINE_integer("order", 2, "Order of the polynomial: each above the first takes one product.", lower_bound=1)
flags.DEFINE_integer("rank", 16, "Rank of the polynomial.", lower_bound=1)
flags.DEFINE_integer("epochs", 15, "Epochs of training.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of initial values and order. Keys and ciphertexts are random.", lower_bound=0)

BATCH_SIZE = 50
POOL = 2
# Bits of a number after the point, and of the largest prime of the keys, which leaves 15 for those before it.
SCALE_BITS, END_BITS = 35, 50
# Bits of the modulus for security of 128 bits, by the degree of the ring: homomorphicencryption.org, Table 1 of 2018.
MOST_BITS = {8192: 218, 16384: 438, 32768: 881}


def tenseal_module():
    try:
        import tenseal
    except ImportError as error:
        raise ImportError(
            f"Images are encrypted with TenSEAL. Received: it is not installed ({error}). "
            "Install it with: pip install 'pinets_tf[encrypted]'."
        ) from error
    return tenseal


def pooled(pixels):
    """Returns images as vectors in [0, 1] of the means of 2 x 2 pixels: what a client sends."""
    count, height, width, channels = pixels.shape
    means = pixels.reshape(count, height // POOL, POOL, width // POOL, POOL, channels).mean((2, 4))
    return means.reshape(count, -1) / 255


def build(features, classes):
    """Makes the network of the flags, which takes vectors."""
    ccp = CCP(classes, FLAGS.order, FLAGS.rank, kernel_regularizer=keras.regularizers.L2(1e-3), name="ccp")
    return keras.Sequential([keras.Input((features,)), ccp], name="encrypted_images")


def trained(network, x, y, folder):
    """Returns the network, trained or loaded."""
    file = folder / "model.keras"
    if file.exists():
        print(f"reusing {file}")
        return keras.models.load_model(file)
    rates = keras.optimizers.schedules.CosineDecay(3e-3, FLAGS.epochs * (len(x) // BATCH_SIZE))
    network.compile(keras.optimizers.Adam(rates), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(x, y, BATCH_SIZE, FLAGS.epochs, verbose=0)
    partial = folder / "partial.keras"
    network.save(partial)
    return keras.models.load_model(partial.replace(file))


def make_keys(levels):
    """Returns keys for as many multiplications one after another."""
    bits = [END_BITS, *[SCALE_BITS] * levels, END_BITS]
    degrees = [degree for degree, most in MOST_BITS.items() if sum(bits) <= most]
    if not degrees:
        most = (max(MOST_BITS.values()) - 2 * END_BITS) // SCALE_BITS
        raise ValueError(
            f"Keys are made for at most {most} multiplications one after another. "
            f"Received: --order={FLAGS.order}, which takes {levels}. Pass a lower --order."
        )
    tenseal = tenseal_module()
    keys = tenseal.context(tenseal.SCHEME_TYPE.CKKS, degrees[0], coeff_mod_bit_sizes=bits)
    keys.global_scale = 2**SCALE_BITS
    return keys


def matrix_product(x, kernel):
    """Returns kernel^T x for ciphertexts x."""

    def weighted_sum(weights):
        # A weight that is rounded to zero would leave nothing that is encrypted.
        terms = [number * float(weight) for number, weight in zip(x, weights) if abs(weight) * 2**SCALE_BITS >= 1]
        return functools.reduce(operator.add, terms)

    return [weighted_sum(weights) for weights in kernel.T]


def serve(ccp, z):
    """Computes a CCP on ciphertexts, one for each input, and returns those of its outputs."""
    factors = [keras.ops.convert_to_numpy(U_n.kernel) for U_n in ccp.factors]
    x = matrix_product(z, factors[0])
    for U_n in factors[1:]:
        x = [factor * state + state for factor, state in zip(matrix_product(z, U_n), x)]
    C, beta = map(keras.ops.convert_to_numpy, (ccp.C.kernel, ccp.C.bias))
    return [score + float(bias) for score, bias in zip(matrix_product(x, C), beta)]


def encrypted_scores(network, x, keys):
    """Has encrypted images classified by a server without the secret key, and returns the decrypted class scores."""
    public = keys.copy()
    public.make_context_public()
    # Server and client are one process: to serialise a ciphertext crashes where TensorFlow was loaded before TenSEAL
    # (0.3.18), which both bring a protobuf library.
    answers = serve(network.get_layer("ccp"), [tenseal_module().ckks_vector(public, pixel) for pixel in x.T])
    return np.stack([answer.decrypt(keys.secret_key()) for answer in answers], axis=-1)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --order=2. Received: {argv[1]!r}.")
    data = images.load(images.SAMPLE)
    x_train, x_test, y_test = pooled(data.x_train), pooled(data.x_test[: FLAGS.images]), data.y_test[: FLAGS.images]
    mean, deviation = x_train.mean(), x_train.std()
    x_train, x_test = (((x - mean) / deviation).astype("float32") for x in (x_train, x_test))
    training.set_up("none", seed=FLAGS.seed)
    network = build(x_train.shape[-1], data.classes)
    report = encryption_report(network)
    with training.exit_on_bad_input():
        if FLAGS.images > len(data.x_test):
            raise ValueError(
                f"There are {len(data.x_test):,} test images. Received: --images={FLAGS.images}. Pass at most as many."
            )
        keys = make_keys(report.levels)
        config = {name: FLAGS[name].value for name in ("order", "rank", "epochs", "seed")}
        folder = training.open_workdir(FLAGS.workdir, config)
    network = trained(network, x_train, data.y_train, folder)
    print(report)

    network.predict(x_test, verbose=0)
    started = time.perf_counter()
    plain = network.predict(x_test, verbose=0)
    plain_seconds, started = time.perf_counter() - started, time.perf_counter()
    scores = encrypted_scores(network, x_test, keys)
    seconds = time.perf_counter() - started
    training.print_table(
        [
            ["inference", "accuracy", "seconds", "ms/image"],
            *(
                [
                    name,
                    f"{(values.argmax(-1) == y_test).mean():.3f}",
                    f"{taken:.2f}",
                    f"{taken / len(x_test) * 1e3:.3f}",
                ]
                for name, values, taken in (("plain", plain, plain_seconds), ("encrypted", scores, seconds))
            ),
        ]
    )
    print(
        f"largest difference of the scores: {np.abs(scores - plain).max():.1e}, of scores up to {abs(plain).max():.0f}"
    )
    same = (scores.argmax(-1) == plain.argmax(-1)).mean()
    print(f"the same answer for {same:.1%} of {len(x_test):,} images")


if __name__ == "__main__":
    script.start()
    app.run(main)
