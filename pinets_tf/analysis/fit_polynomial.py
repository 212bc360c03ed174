"""A polynomial layer of matrices that starts from a given polynomial."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from pinets_tf.analysis.coefficients import Coefficients, evaluate
from pinets_tf.analysis.model_graph import input_shapes
from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.polynomial.interpreter import Interpreter

# Entries of the matrix of derivatives, of 8 bytes each.
_MOST_ENTRIES = 2**26
_ITERATIONS = 100
# Relative to the mean square of the outputs; below is rounding.
_EXACT = 1e-24


def fit_polynomial(layer, polynomial, *, starts=4, seed=0):
    """Sets the weights of a layer such as a CCP so that it approximates a given polynomial, as a start for training.

    The output x = C x_N + beta is linear in C and beta, which are solved for by least squares wherever they appear; the
    weights of the recursion (the U_n of Eq. 3; the A_n, S_n and b_n of Eq. 4 and 5) are found by damped Gauss-Newton
    steps (variable projection), from those that the layer has and from random ones, the best of which are kept.

    The problem is not convex, and the start decides. Twelve polynomials of order 3, which a CCP, NCP and NCPSkip
    of rank 3 gave, were approximated by each kind from one start: with twice that rank 24 of the 36 times to rounding,
    and always to 1 %; with rank 3 itself to between 0.3 and 40 %. It is for small layers: the memory is 8 bytes times
    samples * units * weights of the recursion, 0.5 GB at most, and as much again for work. A CP decomposition of the
    tensors by alternating least squares was no better a start for a CCP than random weights, so none is used.

    Args:
        layer: a `CCP`, `NCP` or `NCPSkip` with `units` and `rank`, without normalisation, `identity_factors` and LoRA
            adapters; or a layer of yours derived from `Polynomial`, whose `recursion` has x_N from plain `Dense`
            layers, weights that are vectors, elementwise products and sums, and returns `read_out(on, x_N)`. One that
            is not built is built; gates are set to one.
        polynomial: what `coefficients` returns, of a symmetric form or not; or a pair of arrays (samples, d) and
            (samples, units), inputs and outputs. Coefficients are compared at inputs drawn from the standard normal
            distribution. Data should have more numbers of output than the layer has weights.
        starts: from how many weights it is tried, those of the layer first.
        seed: of the random weights and inputs.

    Returns:
        The relative error of the layer, as it is with its rounded weights: the root of the mean square of the error,
        over that of the deviation of the outputs from their mean. For coefficients, at fresh inputs.

    Raises:
        ValueError: if the layer computes something else, if `polynomial` is neither of the two or of other sizes than
            the layer, if `starts` is not a positive integer, or if the problem is too large.

    Example:

    >>> from pinets_tf.analysis import coefficients, fit_polynomial
    >>> from pinets_tf.layers import CCP, NCP
    >>> ncp = NCP(units=2, order=2, rank=3)
    >>> ncp.build((None, 4))
    >>> ccp = CCP(units=2, order=2, rank=8)
    >>> fit_polynomial(ccp, coefficients(ncp)) < 1e-3
    True

    Source: ours; the recursion is that of Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Eq. 3.
    Variable projection: Golub and Pereyra, SIAM Journal on Numerical Analysis, 1973, in the form of Kaufman, 1975.
    """
    _require(
        hasattr(layer, "gates") and getattr(layer, "C", None) is not None,
        layer,
        f"is of type {type(layer).__name__} and has no C",
    )
    starts = positive_integer("starts", starts, "Pass how many starts are tried, such as starts=4.")
    arrays = None if isinstance(polynomial, Coefficients) else _arrays(polynomial)
    size, units = [x.shape[-1] for x in arrays or (polynomial.tensors[0], polynomial.constant)]
    own = input_shapes(layer)[0][-1] if layer.built else size
    if (own, layer.C.units) != (size, units):
        raise ValueError(
            "A layer has as many inputs and outputs as the polynomial that it approximates. "
            f"Received: a polynomial from {size} to {units} numbers for {layer.name}, from {own} to {layer.C.units}. "
            f"Pass a layer with units={units}, not built or built for {size} inputs."
        )
    if not layer.built:
        layer.build((None, size))
    rng, tape = np.random.default_rng(seed), _Tape(layer, size)
    (z, x), (fresh_z, fresh_x) = (arrays, arrays) if arrays else _samples(tape, polynomial, rng)
    entries = x.size * tape.start.size
    if entries > _MOST_ENTRIES:
        raise ValueError(
            f"A fit has at most {_MOST_ENTRIES:,} derivatives, of each output by each weight. Received: {x.size:,} "
            f"outputs and {tape.start.size:,} weights, which are {entries:,}. Pass fewer samples, a layer of a lower "
            "rank, or train the layer."
        )
    best, exact = math.inf, _EXACT * _deviation(x)
    for number in range(starts):
        trial = _descend(tape, z, x, tape.random(rng) if number else tape.start, exact)
        if trial[-1] < best:
            weights, C, beta, best = trial
        if best <= exact:
            break
    # Where there is no beta, C has one weight.
    for variable, value in zip((*tape.variables, *layer.C.weights), (*tape.split(weights), C, beta)):
        variable.assign(value.reshape(variable.shape))
    for gate in (gate for gate in layer.gates if gate is not None):
        gate.assign(1.0)
    found = ops.convert_to_numpy(layer(ops.convert_to_tensor(fresh_z, layer.compute_dtype))).astype("float64")
    return math.sqrt(np.mean((found - fresh_x) ** 2) / (_deviation(fresh_x) or 1.0))


def _require(holds, layer, trouble):
    if not holds:
        raise ValueError(
            "What is fitted is C x_N + beta, where x_N is made of matrices, vectors, products and sums alone. "
            f"Received: {layer!r}, which {trouble}. Pass a layer such as CCP(units=10, order=3, rank=64)."
        )


def _arrays(polynomial):
    """Returns inputs and outputs that are given as a pair."""
    pair = polynomial if isinstance(polynomial, (tuple, list)) and len(polynomial) == 2 else (polynomial, None)
    arrays = [np.asarray(array) for array in pair]
    usable = all(array.ndim == 2 and array.dtype.kind in "fiu" and np.isfinite(array).all() for array in arrays)
    if not usable or len(arrays[0]) != len(arrays[1]):
        shapes = ", ".join(f"{array.dtype} {array.shape}" for array in arrays)
        raise ValueError(
            "A polynomial is given by its coefficients, or by two arrays of finite numbers, (samples, d) and (samples, "
            f"units). Received: {type(polynomial).__name__}, as arrays {shapes}. Pass what `coefficients` returns, or "
            "(z, x)."
        )
    return [array.astype("float64") for array in arrays]


def _samples(tape, polynomial, rng):
    """Returns inputs and outputs of given coefficients to fit, and others to measure the error with."""
    size, units, order = polynomial.tensors[0].shape[1], len(polynomial.constant), len(polynomial.tensors)
    monomials = math.comb(size + max(order, tape.layer.order), size)
    weights = tape.start.size + tape.layer.C.kernel.shape[0] * units
    number = max(2 * monomials, math.ceil(3 * weights / units))
    if number * units * weights > 2 * _MOST_ENTRIES:
        # Too many to evaluate, and refused by their number.
        return ((np.zeros((number, size)), np.zeros((number, units))),) * 2
    return tuple((z, evaluate(polynomial, z)) for z in rng.normal(size=(2, number, size)))


@dataclasses.dataclass(eq=False)
class _Value:
    """A float64 array (samples, numbers), a kernel or a vector (1, numbers), and what it was computed from.

    Each of these comes with a function from the derivatives of the outputs by `x` to those by it. A derivative has an
    axis of samples and one of outputs, then those of a kernel or of the numbers.
    """

    x: np.ndarray
    sources: tuple = ()


class _Tape(Interpreter):
    """What is x_N, and what are the derivatives of C x_N by all weights? Values are kept as they are computed.

    Gates count as one.

    Args:
        layer: a built layer.
        size: the number of its inputs.
    """

    def __init__(self, layer, size):
        self.layer, self.variables = layer, []
        self.weights: dict = {}
        # The first time, they are found.
        self.computed(np.zeros((1, size)), np.zeros(0))
        self.start = np.concatenate([value.x.ravel() for value in self.weights.values()])

    def split(self, weights):
        """Returns the parts of all weights in one vector."""
        return np.split(weights, np.cumsum([value.x.size for value in self.weights.values()], dtype=int)[:-1])

    def random(self, rng):
        """Returns weights that keep the size of z in every x_n."""
        weights = [value.x for value in self.weights.values()]
        return np.concatenate([rng.normal(size=x.size) / math.sqrt(len(x)) for x in weights])

    def computed(self, z, weights):
        """Returns x_N."""
        parts = zip(self.weights.items(), self.split(weights))
        self.weights = {key: _Value(part.reshape(value.x.shape)) for (key, value), part in parts}
        self.tape, self.x_N = [], _Value(z)
        output = self.layer.recursion(self, self.x_N)
        _require(output is self.x_N, self.layer, "returns something else than C x_N + beta")
        return self.x_N.x

    def derivatives(self, C):
        """Returns those of the outputs by the weights, an array (samples * outputs, weights)."""
        slopes = {self.x_N: np.broadcast_to(C.T, (len(self.x_N.x), *C.T.shape))}
        for value in (value for value in reversed(self.tape) if value in slopes):
            for source, hand_back in value.sources:
                part = hand_back(slopes[value])
                # Of a single number, which is multiplied with all.
                part = part.sum(axis=-1, keepdims=True) if source.x.shape[-1] == 1 else part
                slopes[source] = slopes[source] + part if source in slopes else part
        number = len(self.x_N.x) * C.shape[1]
        parts = [slopes.get(value, np.zeros((number, value.x.size))) for value in self.weights.values()]
        return np.concatenate([part.reshape(number, -1) for part in parts], axis=1)

    def apply(self, layer, *values):
        _require(not getattr(layer, "lora_enabled", False), self.layer, "has LoRA adapters")
        is_matrix = type(layer) is keras.layers.Dense and layer.activation is keras.activations.linear
        _require(
            is_matrix and not layer.quantization_mode,
            self.layer,
            f"applies {layer.name} of type {type(layer).__name__}, which is no plain matrix",
        )
        (z,) = values
        if layer is self.layer.C:
            self.x_N = z
            return z
        A = self._weight(layer.kernel)
        x = self._keep(
            z.x @ A.x,
            (z, lambda slope: slope @ A.x.T),
            (A, lambda slope: z.x[:, None, :, None] * slope[:, :, None]),
        )
        return self.shift(x, layer.bias) if layer.use_bias else x

    def affine(self, function, *values, multiplies=True):
        _require(False, self.layer, "has an affine map that is no matrix")

    def product(self, function, *values):
        _require(function is ops.multiply, self.layer, "has a product that is not elementwise")
        x, y = values
        return self._keep(x.x * y.x, (x, lambda slope: slope * y.x[:, None]), (y, lambda slope: slope * x.x[:, None]))

    def add(self, *values):
        return self._keep(sum(value.x for value in values), *((value, lambda slope: slope) for value in values))

    def cast(self, function, value):
        return value

    def scale(self, weight, value):
        return self.product(ops.multiply, value, self._weight(weight))

    def shift(self, value, weight):
        return self.add(value, self._weight(weight))

    def _keep(self, x, *sources):
        self.tape.append(_Value(x, sources))
        return self.tape[-1]

    def _weight(self, weight):
        number = 1.0 if any(weight is gate for gate in self.layer.gates) else weight
        if isinstance(number, (int, float)):
            return _Value(np.full((1, 1), number))
        _require(isinstance(weight, keras.Variable), self.layer, "computes a vector from its weights")
        if id(weight) not in self.weights:
            self.variables.append(weight)
            self.weights[id(weight)] = _Value(np.atleast_2d(ops.convert_to_numpy(weight).astype("float64")))
        return self.weights[id(weight)]


def _descend(tape, z, x, weights, exact):
    """Returns the weights, C, beta and the mean square error that damped Gauss-Newton steps lead to."""
    damping, use_bias = 1e-2, tape.layer.C.use_bias
    x_N = tape.computed(z, weights)
    basis, solution, rest = _solve(x_N, x, use_bias)
    error, rank = np.mean(rest**2), x_N.shape[1]
    for _ in range(_ITERATIONS):
        derivatives = tape.derivatives(solution[:rank]).reshape(len(z), -1)
        # What C and beta can make up for is taken out (Kaufman).
        derivatives -= basis @ (basis.T @ derivatives)
        derivatives = derivatives.reshape(-1, weights.size)
        normal = derivatives.T @ derivatives
        slope, scale = derivatives.T @ rest.ravel(), normal.trace() / weights.size
        for _ in range(12):
            damped = normal + (damping * scale + np.finfo("float64").tiny) * np.eye(weights.size)
            tried = weights + np.linalg.solve(damped, slope)
            trial = _solve(tape.computed(z, tried), x, use_bias)
            if np.mean(trial[2] ** 2) < error:
                break
            damping *= 4
        else:
            break
        weights, (basis, solution, rest) = tried, trial
        error, damping = np.mean(rest**2), max(damping / 4, 1e-14)
        if error <= exact:
            break
    return weights, solution[:rank], solution[-1], error


def _solve(features, x, use_bias):
    """Returns an orthonormal basis of the outputs that C and beta can give, the best C and beta, and what is left.

    The features are x_N.
    """
    if use_bias:
        features = np.column_stack([features, np.ones(len(features))])
    left, sizes, right = np.linalg.svd(features, full_matrices=False)
    kept = sizes > 1e-10 * sizes[0]
    left, projected = left[:, kept], left[:, kept].T @ x
    return left, (right[kept].T / sizes[kept]) @ projected, x - left @ projected


def _deviation(x):
    return np.mean((x - x.mean(axis=0)) ** 2)
