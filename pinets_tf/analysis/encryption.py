"""Whether a model can be computed on encrypted numbers: each of its steps a product or an affine map."""

import dataclasses
import functools
from typing import NamedTuple

import keras

from pinets_tf.analysis.degree import degree
from pinets_tf.analysis.rules import NotPolynomial, kind_of
from pinets_tf.layers import (
    NCP,
    FeaStConv,
    GATConv,
    Injection,
    LogMelSpectrogram,
    PolynomialResidual,
    PooledProduct,
    ProdPoly,
    SpiralPolynomial,
)
from pinets_tf.layers.batch_normalization import ProductOffset
from pinets_tf.layers.kernel_wrapper import KernelWrapper
from pinets_tf.layers.minibatch_deviation import MinibatchDeviation
from pinets_tf.layers.noise_injection import NoiseInjection
from pinets_tf.layers.polynomial import Polynomial

# Affine maps that multiply with nothing: they move, copy, add or leave out numbers.
_WITHOUT_MULTIPLICATION = (
    keras.layers.Activation,
    keras.layers.ActivityRegularization,
    keras.layers.Add,
    keras.layers.AlphaDropout,
    keras.layers.Concatenate,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.InputLayer,
    keras.layers.Permute,
    keras.layers.RepeatVector,
    keras.layers.Reshape,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.Subtract,
    keras.layers.UpSampling1D,
    keras.layers.UpSampling3D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
    NoiseInjection,
    ProductOffset,
)
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
_BY_SOFTMAX = ("weights neighbours with a softmax of encrypted numbers", "Use SpiralConv or GMMConv, which are linear")
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
    ((FeaStConv, GATConv), _BY_SOFTMAX),
    (LogMelSpectrogram, ("takes logarithms", "Compute the spectrogram before encryption")),
    (keras.layers.RNN, _NOT_KNOWN),
    (MinibatchDeviation, ("takes square roots", "Leave it out")),
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
    for each affine map that has any; to merge neighbouring ones, such as a convolution and the batch normalisation
    after it, saves levels. Those of a model that is not ready are those of what remains without what is to be replaced.

    Args:
        model: its name.
        degree: the polynomial degree, the largest one of several outputs; `None` if the model is no polynomial.
        multiplicative_depth: the most products of two ciphertexts on one way from input to output.
        plaintext_depth: the most multiplications with plaintexts (weights, gates, normalisations) on one way.
        levels: the most multiplications of both kinds on one way, at most the sum of the two.
        obstacles: what has to be replaced, an `EncryptionObstacle` each.
    """

    model: str
    degree: int | None
    multiplicative_depth: int
    plaintext_depth: int
    levels: int
    obstacles: tuple[EncryptionObstacle, ...]

    @property
    def ready(self):
        """Whether nothing has to be replaced."""
        return not self.obstacles

    def __str__(self):
        depths = (
            f"levels: {self.levels} (at most {self.multiplicative_depth} for products of ciphertexts, at most "
            f"{self.plaintext_depth} for multiplications with plaintexts)"
        )
        if self.ready:
            return f"{self.model} can be computed on encrypted numbers: degree {self.degree:,}, {depths}."
        lines = [f"{self.model} cannot be computed on encrypted numbers. To be replaced:"]
        return "\n".join([*lines, *(f"- {obstacle}" for obstacle in self.obstacles), f"Without these: {depths}."])


def encrypted_ready(model):
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
    >>> from pinets_tf.analysis import encrypted_ready
    >>> from pinets_tf.layers import CCP
    >>> images, ccp = keras.Input((784,)), CCP(10, order=3, rank=16, name="ccp")
    >>> print(encrypted_ready(keras.Model(images, ccp(images), name="digits")))
    digits can be computed on encrypted numbers: degree 3, levels: 4 (at most 2 for products of ciphertexts, at most 2
    for multiplications with plaintexts).
    >>> scores = keras.layers.Softmax(name="softmax")(ccp(images))
    >>> print(encrypted_ready(keras.Model(images, scores, name="digits")).obstacles[0])
    softmax is no polynomial. Leave it out, or take it after decryption if it is the last step; elsewhere a polynomial
    layer of a higher order stands for it.

    Source: ours. CKKS: Cheon, Kim, Kim and Song, "Homomorphic Encryption for Arithmetic of Approximate Numbers",
    ASIACRYPT 2017.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            "The steps of a model are read off the graph of a functional or sequential model. "
            f"Received: {model!r}, which has none. Pass keras.Model(inputs, outputs)."
        )
    walk = _Walk()
    depth = _joined(*walk.through_graph(model, "", [_Depth()] * len(model.inputs))) or _Depth()
    whole = None if walk.obstacles else max(keras.tree.flatten(degree(model)))
    return EncryptionReport(model.name, whole, depth.products, depth.scalings, depth.levels, tuple(walk.obstacles))


class _Depth(NamedTuple):
    """The most multiplications on the ways to a ciphertext: of two ciphertexts, with a plaintext, and of both kinds.

    `None` stands for a plaintext.
    """

    products: int = 0
    scalings: int = 0
    levels: int = 0


def _joined(*depths):
    """Returns the depth of a sum."""
    encrypted = [depth for depth in depths if depth is not None]
    return _Depth(*map(max, zip(*encrypted))) if encrypted else None


def _scaled(*depths):
    """Returns the depth of an affine map with multiplications."""
    depth = _joined(*depths)
    return depth and _Depth(depth.products, depth.scalings + 1, depth.levels + 1)


def _multiplied(first, second):
    if first is None or second is None:
        return _scaled(first, second)
    depth = _joined(first, second)
    return _Depth(depth.products + 1, depth.scalings, depth.levels + 1)


class _Walk:
    """Follows depths through a model, past what cannot be computed, which it notes."""

    def __init__(self):
        self.obstacles = []

    def through_graph(self, model, prefix, depths):
        """Returns the depths of the outputs of a model."""
        graph = keras.Model(model.inputs, model.outputs) if isinstance(model, keras.Sequential) else model
        known = {id(x): depth for x, depth in zip(graph.inputs, depths)}
        by_depth = graph._nodes_by_depth
        for node in (node for level in sorted(by_depth, reverse=True) for node in by_depth[level]):
            if node.is_input:
                continue
            layer, given = node.operation, [known[id(x)] for x in node.input_tensors]
            path = f"{prefix}{layer.name}"
            if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
                results = self.through_graph(layer, f"{path}/", given)
            else:
                results = [self.through(layer, path, *given)] * len(node.outputs)
            known |= {id(x): depth for x, depth in zip(node.outputs, results)}
        return [known[id(x)] for x in graph.outputs]

    def through(self, layer, path, *depths):
        """Returns the depth of the one output of a layer."""
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            return self.through_graph(layer, f"{path}/", depths)[0]
        if isinstance(layer, KernelWrapper):
            return self.through(layer.layer, path, *depths)
        for layer_class, follow in _RECURSIONS.items():
            if isinstance(layer, layer_class):
                return follow(self, layer, path, *depths)
        try:
            kind = kind_of(layer)
        except NotPolynomial:
            self.obstacles.append(EncryptionObstacle(path, *_why(layer)))
            return _scaled(*depths) if hasattr(layer, "kernel") else _joined(*depths)
        if kind == "constant":
            return None
        if kind == "product":
            # Of one tensor in a graph, the other factor is a number.
            return functools.reduce(_multiplied, depths) if len(depths) > 1 else _scaled(*depths)
        if kind in ("linear", "sum"):
            return _joined(*depths) if _multiplies_nothing(layer) else _scaled(*depths)
        # Of a function of degrees only the degree d is known; a polynomial takes at least log2 d products.
        fewest = (kind(*[1] * len(depths)) - 1).bit_length()
        return functools.reduce(lambda depth, _: _multiplied(depth, depth), range(fewest), _joined(*depths))

    def step(self, layer, path, n, factor, state, carry=None, skip=None):
        """Follows `HornerLayer._step`."""
        if n - 1 > layer.computed_products:
            return _joined(state if carry is None else carry, skip)
        x = _multiplied(factor, state)
        if layer.normalize_at != "order":
            x = self._normalized(layer, path, n, x)
        if layer.gates[n - 2] is not None and not layer.GATES_THE_STATE:
            x = _scaled(x)
        x = _joined(x, carry)
        if layer.normalize_at == "order":
            x = self._normalized(layer, path, n, x)
        return _joined(x, skip)

    def _normalized(self, layer, path, n, x):
        normalizer = layer.normalizers[n - 2]
        return x if normalizer is None else self.through(normalizer, f"{path}/{normalizer.name}", x)


def _multiplies_nothing(layer):
    if isinstance(layer, keras.layers.UpSampling2D):
        return layer.interpolation == "nearest"
    if isinstance(layer, keras.layers.Layer):
        return isinstance(layer, _WITHOUT_MULTIPLICATION)
    # Of the operations that are known as sums and linear maps, none multiplies.
    return True


def _why(layer):
    """Returns why a layer cannot be computed and what stands for it."""
    for layer_class, explanation in _OBSTACLES:
        if isinstance(layer, layer_class):
            return explanation
    activation = getattr(layer, "activation", None)
    if callable(activation) and activation is not keras.activations.linear:
        name = getattr(activation, "__name__", type(activation).__name__)
        return f"has the activation {name}, which is no polynomial", _NO_FUNCTION
    return _NOT_KNOWN


def _gated_state(layer, n, x):
    return _scaled(x) if layer.GATES_THE_STATE and layer.gates[n - 2] is not None else x


def _polynomial(walk, layer, path, z):
    factors = [walk.through(factor, f"{path}/{factor.name}", z) for factor in layer.factors]
    # The vector b_1 multiplies.
    x = _scaled(factors[0]) if isinstance(layer, NCP) else factors[0]
    for n in range(2, layer.order + 1):
        state, carry = x, x if layer.CARRIES else None
        if isinstance(layer, NCP):
            S_n = layer.S[n - 2]
            state = _gated_state(layer, n, walk.through(S_n, f"{path}/{S_n.name}", x))
        if getattr(layer, "learn_skip", False):
            carry = _scaled(x)
        x = walk.step(layer, path, n, factors[n - 1], state, carry)
    return x if layer.C is None else _scaled(x)


def _residual(walk, layer, path, z):
    def part(name, z):
        inner = getattr(layer, name)
        return z if inner is None else walk.through(inner, f"{path}/{inner.name}", z)

    s, Cz = part("shortcut", z), part("branch", z)
    if layer.order == 1:
        return _joined(s, Cz)
    x, As = Cz, part("factor", s)
    for n in range(2, layer.order + 1):
        x = walk.step(layer, path, n, As, x, carry=Cz, skip=s if n == layer.order else None)
    return x


def _pooled_product(walk, layer, path, z):
    x, pooled = z, _scaled(z)
    for n, P_n in enumerate(layer.factors, start=2):
        factor = _gated_state(layer, n, walk.through(P_n, f"{path}/{P_n.name}", pooled))
        x = walk.step(layer, path, n, factor, x, carry=x)
    return x


def _injection(walk, layer, path, x, z):
    factor = walk.through(layer.A, f"{path}/A", z)
    offset = None if layer.B is None else walk.through(layer.B, f"{path}/B", z)
    return walk.step(layer, path, 2, factor, x, carry=x if layer.skip else None, skip=offset)


def _spiral_polynomial(walk, layer, path, z):
    x = h = _scaled(z)
    for n in range(2, layer.order + 1):
        state = _scaled(x) if layer.A and n > 2 else x
        carry = x if layer.residual and (not layer.A or n > 2) else None
        if layer.normalize_at == "order":
            x = walk.step(layer, path, n, h, state, carry=_joined(h, carry))
        else:
            x = walk.step(layer, path, n, h, state, carry=carry, skip=h)
    return x


def _prod_poly(walk, layer, path, z):
    return functools.reduce(lambda z, part: walk.through(part, f"{path}/{part.name}", z), layer.polynomials, z)


_RECURSIONS: dict = {
    Injection: _injection,
    Polynomial: _polynomial,
    PolynomialResidual: _residual,
    PooledProduct: _pooled_product,
    ProdPoly: _prod_poly,
    SpiralPolynomial: _spiral_polynomial,
}
