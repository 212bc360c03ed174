"""Whether a model can be computed on encrypted numbers: each of its steps a product or an affine map."""

import dataclasses
import functools
import math
from typing import NamedTuple

import keras

from pinets_tf.analysis.degree import degree, in_the_way
from pinets_tf.analysis.model_graph import has_graph, paths
from pinets_tf.analysis.reading import Reading

# What cannot be computed, why, and what stands for it.
_NO_FUNCTION = (
    "Leave it out, or take it after decryption if it is the last step; elsewhere a polynomial layer of a higher order "
    "stands for it"
)
_BY_STATISTICS = (
    "divides by statistics of the encrypted numbers",
    "Use BatchNormalization, or normalize='batch' in a polynomial layer, whose statistics are constants at inference",
)
_COMPARES = ("compares encrypted numbers", "Use average pooling")
_NOT_KNOWN = (
    "is not known to be a product or an affine map",
    "Replace it by layers that are; if it is one of yours, say with `analysis.register_layer` what it is",
)
_OBSTACLES = (
    (
        (
            keras.layers.MaxPooling1D,
            keras.layers.MaxPooling2D,
            keras.layers.MaxPooling3D,
            keras.layers.GlobalMaxPooling1D,
            keras.layers.GlobalMaxPooling2D,
            keras.layers.GlobalMaxPooling3D,
        ),
        _COMPARES,
    ),
    (
        (
            keras.layers.GroupNormalization,
            keras.layers.LayerNormalization,
            keras.layers.RMSNormalization,
            keras.layers.UnitNormalization,
        ),
        _BY_STATISTICS,
    ),
    (
        (keras.layers.ELU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ReLU, keras.layers.Softmax),
        ("is no polynomial", _NO_FUNCTION),
    ),
    (keras.layers.RNN, _NOT_KNOWN),
)


@dataclasses.dataclass(frozen=True)
class EncryptionObstacle:
    """A layer that cannot be computed on encrypted numbers; as a text, one sentence and what to do.

    Args:
        layer: its path within the model, such as `"stage_1_block_1/branch/activation"`.
        reason: what about it cannot be computed.
        remedy: what stands for it.
    """

    layer: str
    reason: str
    remedy: str

    def __str__(self):
        return f"{self.layer} {self.reason}. {self.remedy}."


@dataclasses.dataclass(frozen=True)
class EncryptionReport:
    """Whether a model can be computed on encrypted numbers, and how many multiplications follow each other.

    Each multiplication takes a level of CKKS. The depths are those of the model as it stands, with one multiplication
    for each affine map that has any, and `composed_levels` those where affine maps that follow each other are one, such
    as a convolution and the batch normalisation after it (`collapse_affine` makes some of these one). The depths of a
    model that is not ready are those of what remains without what is to be replaced.

    Args:
        model: its name.
        degree: the polynomial degree, the largest one of several outputs; `None` if the model is no polynomial.
        multiplicative_depth: the most products of two ciphertexts on one way from input to output.
        plaintext_depth: the most multiplications with plaintexts (weights, gates, normalisations) on one way.
        levels: the most multiplications of both kinds on one way, at most the sum of the two.
        composed_levels: the levels if chains of affine maps are composed, also those on both sides of a sum: a map of a
            sum is then applied to each term. Nothing is composed to count them.
        composed_levels_between_sums: the same if a sum ends a chain.
        obstacles: what has to be replaced, an `EncryptionObstacle` each.
    """

    model: str
    degree: int | None
    multiplicative_depth: int
    plaintext_depth: int
    levels: int
    composed_levels: int
    composed_levels_between_sums: int
    obstacles: tuple[EncryptionObstacle, ...]

    @property
    def ready(self):
        """Whether nothing has to be replaced."""
        return not self.obstacles

    def __str__(self):
        depths = (
            f"levels: {self.levels} (at most {self.multiplicative_depth} for products of ciphertexts, at most "
            f"{self.plaintext_depth} for multiplications with plaintexts), {self.composed_levels} with affine maps "
            "composed"
        )
        if self.ready:
            return f"{self.model} can be computed on encrypted numbers: degree {self.degree:,}, {depths}."
        lines = [f"{self.model} cannot be computed on encrypted numbers. To be replaced:"]
        return "\n".join([*lines, *(f"- {obstacle}" for obstacle in self.obstacles), f"Without these: {depths}."])


def encryption_report(model):
    """Says whether every step of a model is a product or an affine map, so that it runs under CKKS.

    Homomorphic encryption of the kind of CKKS adds and multiplies, and nothing else: it computes polynomials. Each
    multiplication takes one of the levels that the keys are made for.

    Args:
        model: a functional or sequential Keras model.

    Returns:
        An `EncryptionReport`: `ready`, the degree, the levels that it takes, and what would have to be replaced. It
        prints as a text.

    Raises:
        ValueError: if the model is not functional or sequential.

    Example:

    >>> import keras
    >>> from pinets_tf.analysis import encryption_report
    >>> from pinets_tf.layers import CCP
    >>> images, ccp = keras.Input((784,)), CCP(10, order=3, rank=16, name="ccp")
    >>> print(encryption_report(keras.Model(images, ccp(images), name="digits")))
    digits can be computed on encrypted numbers: degree 3, levels: 4 (at most 2 for products of ciphertexts, at most 2
    for multiplications with plaintexts), 4 with affine maps composed.
    >>> scores = keras.layers.Softmax(name="softmax")(ccp(images))
    >>> print(encryption_report(keras.Model(images, scores, name="digits")).obstacles[0])
    softmax is no polynomial. Leave it out, or take it after decryption if it is the last step; elsewhere a polynomial
    layer of a higher order stands for it.

    Source: ours. CKKS: Cheon, Kim, Kim and Song, "Homomorphic Encryption for Arithmetic of Approximate Numbers",
    ASIACRYPT 2017.
    """
    if not has_graph(model) or not getattr(model, "inputs", None):
        raise ValueError(
            "The steps of a model are read off the graph of a functional or sequential model. "
            f"Received: {model!r}, which has none. Pass keras.Model(inputs, outputs)."
        )
    depths = _Multiplications().outputs(model, [_Depth()] * len(model.inputs))
    depth = _joined(depths) or _Depth()
    composed, by_sums = (
        max(map(reading.level, reading.outputs(model, [(0, _NEVER)] * len(model.inputs))))
        for reading in (ComposedLevels(), _LevelsBetweenSums())
    )
    where, obstacles = paths(model), []
    for layer in in_the_way(model):
        obstacles.append(EncryptionObstacle(where.get(id(layer), layer.name), *_why(layer)))
    whole = None if obstacles else max(keras.tree.flatten(degree(model)))
    levels = depth.levels, max(composed, 0), max(by_sums, 0)
    return EncryptionReport(model.name, whole, depth.products, depth.scalings, *levels, tuple(obstacles))


class _Depth(NamedTuple):
    """The most multiplications on the ways to a ciphertext: of two ciphertexts, with a plaintext, and of both kinds.

    `None` stands for a plaintext.
    """

    products: int = 0
    scalings: int = 0
    levels: int = 0


def _joined(depths):
    """Returns the depth of a sum."""
    encrypted = [depth for depth in depths if depth is not None]
    return _Depth(*map(max, zip(*encrypted))) if encrypted else None


def _scaled(depths):
    """Returns the depth of an affine map with multiplications."""
    depth = _joined(depths)
    return depth and _Depth(depth.products, depth.scalings + 1, depth.levels + 1)


def _multiplied(first, second):
    if first is None or second is None:
        return _scaled([first, second])
    depth = _joined([first, second])
    return _Depth(depth.products + 1, depth.scalings, depth.levels + 1)


class _Multiplications(Reading):
    """How many multiplications stand behind one another?  It goes on behind what cannot be computed."""

    def affine(self, function, *values, multiplies=True):
        return _scaled(values) if multiplies else _joined(values)

    def cast(self, function, value):
        return value

    def add(self, *values):
        return _joined(values)

    def product(self, function, *values):
        # Of one tensor in a graph, the other factor is a number.
        return functools.reduce(_multiplied, values) if len(values) > 1 else _scaled(values)

    def constant(self, function, *values):
        return None

    def by_degree(self, layer, rule, *values):
        # A polynomial of degree d takes at least log2 d products.
        fewest = (rule(*[1] * len(values)) - 1).bit_length()
        return functools.reduce(lambda depth, _: _multiplied(depth, depth), range(fewest), _joined(values))

    def unknown(self, layer, error, function, *values):
        return _scaled(values) if hasattr(layer, "kernel") else _joined(values)


_NEVER = -math.inf


class ComposedLevels(Reading):
    """The same, if neighbouring affine maps are one and a map is applied to each term of a sum.

    A value is (a, b): the highest level among its terms without and with an affine map that is pending, which takes one
    level more and which a further one is part of.
    """

    def level(self, value):
        """Returns the level of a value whose pending maps are computed."""
        return max(value[0], value[1] + 1)

    def affine(self, function, *values, multiplies=True):
        without, pending = self.add(*values)
        return (_NEVER, max(without, pending)) if multiplies else (without, pending)

    def cast(self, function, value):
        return value

    def add(self, *values):
        return tuple(map(max, zip(*values)))

    def product(self, function, *values):
        levels = [self.level(value) for value in values if max(value) > _NEVER]
        if len(levels) < 2 or len(levels) < len(values):
            # One with a plaintext.
            return self.affine(function, *values)
        return functools.reduce(lambda one, other: 1 + max(one, other), levels), _NEVER

    def constant(self, function, *values):
        return _NEVER, _NEVER

    def by_degree(self, layer, rule, *values):
        fewest = (rule(*[1] * len(values)) - 1).bit_length()
        return max(map(self.level, values)) + fewest, _NEVER

    def unknown(self, layer, error, function, *values):
        return self.affine(function, *values, multiplies=hasattr(layer, "kernel"))


class _LevelsBetweenSums(ComposedLevels):
    """The same, if the pending maps of the terms of a sum are computed before it."""

    def add(self, *values):
        # What is added to a plaintext, or multiplied with one, is no sum of ciphertexts.
        encrypted = [value for value in values if max(value) > _NEVER]
        return (max(map(self.level, encrypted)), _NEVER) if len(encrypted) > 1 else super().add(*values)


def _why(layer):
    """Returns why a layer cannot be computed and what stands for it."""
    if hasattr(layer, "not_polynomial"):
        return layer.not_polynomial
    for layer_class, explanation in _OBSTACLES:
        if isinstance(layer, layer_class):
            return explanation
    activation = getattr(layer, "activation", None)
    if callable(activation) and activation is not keras.activations.linear:
        name = getattr(activation, "__name__", type(activation).__name__)
        return f"has the activation {name}, which is no polynomial", _NO_FUNCTION
    return _NOT_KNOWN
