"""Writes the saved models of this folder; the tests only read them.

The files stand for those of users: a layer may change inside, but has to load what it wrote before. They were written
by this script with pinets_tf 0.1.0, Keras 3.15.1 and TensorFlow 2.21.0 on a CPU, and packed with
deflate, which Keras's own files are not:

    TF_CPP_MIN_LOG_LEVEL=2 python -m tests.saved_files.write tests/saved_files

Do not write an existing file again. What is new in a layer gets a file of its own: pass its name after the folder.
`expected.npz` has NAME-input-N and NAME-output-N for the model of each file, in float32, at inference.
"""

import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
from keras.layers import BatchNormalization, Conv2D, Dense, LayerNormalization

from pinets_tf.analysis import truncate, without_products
from pinets_tf.layers import CCP, NCP, Injection, NCPSkip, PolynomialResidual, PooledProduct, ProdPoly, SpiralPolynomial
from pinets_tf.models import fold_normalization, mesh_autoencoder
from tests.conformance.cases import SPIRALS, numpy, randomise


def beside(inputs, *layers):
    """Returns a model of layers beside each other, with an output for each."""
    return keras.Model(inputs, [layer(inputs) for layer in layers])


def vectors():
    return beside(
        keras.Input((4,)),
        CCP(3, 3, rank=4),
        CCP(3, 3, rank=4, identity_factors=True, normalize="layer", normalize_at="order", gate=True),
        CCP(None, 3, operator=keras.Sequential([Dense(5), Dense(3)]), normalize=LayerNormalization(epsilon=0.01)),
        NCP(3, 3, rank=4, normalize="batch", gate=True),
        NCP(3, 4, rank=4, normalize="tanh", normalize_at="last", use_bias=False),
        NCP(3, 3, rank=4, normalize="batch", normalize_at="order"),
        NCPSkip(3, 3, rank=4, learn_skip=True, normalize="batch"),
        NCPSkip(3, 2, rank=4, normalize="layer", normalize_at="order"),
        NCPSkip(3, 1, rank=4),
        ProdPoly([NCP(3, 2, rank=3), BatchNormalization(), CCP(2, 2, rank=3)]),
        PolynomialResidual(Dense(4), 3, gate=True, normalize="tanh", normalize_at="last"),
    )


def convolution(filters=3, size=3, **options):
    return Conv2D(filters, size, padding="same", **options)


def images():
    return beside(
        keras.Input((4, 4, 3)),
        CCP(2, 3, operator=convolution(), normalize="instance", gate=True),
        NCP(None, 2, operator=keras.Sequential([convolution(2, 1), convolution()]), normalize="layer"),
        NCPSkip(2, 3, operator=convolution(), learn_skip=True, normalize="batch", normalize_at="last"),
        PolynomialResidual(
            keras.Sequential([convolution(2, strides=2), BatchNormalization()]),
            3,
            shortcut=Conv2D(2, 1, strides=2),
            factor=convolution(2, 1),
            normalize="batch",
            gate=True,
        ),
        PolynomialResidual(
            convolution(),
            2,
            normalize=keras.Sequential([convolution(3, 1), BatchNormalization()]),
            normalize_at="order",
        ),
        PooledProduct(CCP(3, 2, rank=2), 3, normalize="batch", gate=True),
        PooledProduct(Dense(3), 2, normalize="tanh", normalize_at="order"),
    )


def injections():
    image, code, vector = keras.Input((4, 4, 3)), keras.Input((5,)), keras.Input((3,))
    outputs = [
        Injection()([image, code]),
        Injection(normalize="batch", skip=True, offset=True, gate=True, factor=Dense(3))([image, code]),
        Injection(normalize="instance", normalize_at="order", skip=True)([image, code]),
        Injection(offset=True)([vector, code]),
    ]
    return keras.Model([image, code, vector], outputs)


def spirals():
    return beside(
        keras.Input((5, 3)),
        SpiralPolynomial(3, SPIRALS, 2),
        SpiralPolynomial(3, SPIRALS, 3, keep=[3, 0], residual=True, normalize="vertex_batch", gate=True),
        SpiralPolynomial(3, SPIRALS, 3, variant="simple", normalize="vertex_batch", normalize_at="order"),
        SpiralPolynomial(3, SPIRALS, 3, variant="simple", residual=True, normalize="batch", normalize_at="last"),
        SpiralPolynomial(3, SPIRALS, 2, normalize="instance", use_bias=False, gate=True),
        NCP(3, 2, operator=keras.layers.Conv1D(3, 2, padding="same"), normalize="batch"),
    )


def folded():
    """The resnet has "affine" and the layers behind it "offset", "affine", None and "vertex_affine"."""
    image, shape = keras.Input((4, 4, 2)), keras.Input((5, 3))
    x = keras.Sequential([convolution(2), BatchNormalization()])(image)
    for filters, strides in ((2, 1), (3, 2)):
        shortcut = None if strides == 1 else Conv2D(filters, 1, strides=2)
        branch = keras.Sequential([convolution(filters, strides=strides), BatchNormalization()])
        x = PolynomialResidual(branch, 2, shortcut, normalize="batch", gate=True)(x)
    x = CCP(3, 2, operator=convolution(), normalize="batch")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = [
        NCPSkip(2, 3, rank=3, normalize="batch")(x),
        CCP(2, 3, rank=3, normalize="batch", normalize_at="last", gate=True)(x),
        NCP(2, 3, rank=3, normalize="batch", gate=True)(x),
        PooledProduct(Dense(2), 2, normalize="batch")(convolution(2)(image)),
        SpiralPolynomial(3, SPIRALS, 2, normalize="vertex_batch")(shape),
    ]
    model = keras.Model([image, shape], outputs)
    randomise(model)
    return fold_normalization(model)


def quantised():
    inputs = keras.Input((4,))
    x = PolynomialResidual(keras.Sequential([NCP(4, 2, rank=3)]), 2, normalize="batch", gate=True)(inputs)
    outputs = [CCP(3, 3, rank=4)(x), NCP(3, 2, rank=4, normalize="batch")(x), Dense(2)(x)]
    model = keras.Model(inputs, outputs)
    randomise(model)
    model.quantize("int8")
    return model


def with_some_products():
    x = inputs = keras.Input((4, 4, 2))
    x = PolynomialResidual(convolution(2), 3, normalize="batch", gate=True)(x)
    x = CCP(2, 3, operator=convolution(2), normalize="batch")(x)
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, [NCP(3, 3, rank=3)(x), NCPSkip(2, 3, rank=3, learn_skip=True)(x)])
    randomise(model)
    return without_products(model, 3)


def truncated():
    x = inputs = keras.Input((4, 4, 2))
    x = PolynomialResidual(convolution(2), 2, normalize="batch", gate=True)(x)
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, NCPSkip(2, 3, rank=3, learn_skip=True)(x))
    randomise(model)
    return truncate(model, 3)


def autoencoder():
    levels = [SimpleNamespace(spirals=np.array(rows)) for rows in (SPIRALS, [[0, 1], [1, 0]])]
    down, up = np.eye(5)[[0, 2]], np.array([[1, 0], [0.5, 0.5], [0, 1], [0.5, 0.5], [0, 0]])
    hierarchy = SimpleNamespace(levels=levels, down=[down], up=[up])
    mean, deviation = np.arange(15.0).reshape(5, 3), np.arange(15.0).reshape(5, 3) % 4
    settings = {"order": 2, "normalize": "vertex_batch", "mean": mean, "deviation": deviation}
    model = mesh_autoencoder(hierarchy, "full", activation=None, widths=(3,), latent=2, **settings)
    for layer in (*model.get_layer("encoder").layers, *model.get_layer("decoder").layers):
        if isinstance(layer, (SpiralPolynomial, Dense)):
            randomise(layer)
    return model


# Their values were random before something was computed of them, or stored beside them.
MADE_WITH_VALUES = (autoencoder, folded, quantised, with_some_products, truncated)
MODELS = {function.__name__: function for function in (vectors, images, injections, spirals, *MADE_WITH_VALUES)}


def main(folder, *names):
    """Writes the models of `names`, or all, into `folder`, and adds what is expected of them to `expected.npz`."""
    path = Path(folder) / "expected.npz"
    arrays = dict(np.load(path)) if path.exists() else {}
    rng = np.random.default_rng(0)
    for name in names or MODELS:
        file = Path(folder) / f"{name}.keras"
        if file.exists():
            raise ValueError(f"A saved file is written once. Received: {file}, which exists. Pass another name.")
        keras.utils.set_random_seed(0)
        model = MODELS[name]()
        if MODELS[name] not in MADE_WITH_VALUES:
            randomise(model)
        inputs = [rng.normal(size=(3, *tensor.shape[1:])).astype("float32") for tensor in model.inputs]
        outputs = keras.tree.flatten(model(inputs if len(inputs) > 1 else inputs[0], training=False))
        arrays.update({f"{name}-input-{number}": x for number, x in enumerate(inputs)})
        arrays.update({f"{name}-output-{number}": numpy(y) for number, y in enumerate(outputs)})
        model.save(file)
        _pack(file)
    np.savez_compressed(path, **arrays)


def _pack(file):
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


if __name__ == "__main__":
    main(*sys.argv[1:])
