"""A polynomial layer of matrices that starts from a given polynomial."""

import math

import numpy as np
from keras import ops

from pinets_tf._keras import flatten_layers
from pinets_tf.analysis.coefficients import Coefficients, evaluate
from pinets_tf.layers import CCP, NCP, NCPSkip
from pinets_tf.layers.checks import positive_integer

# Entries of the matrix of derivatives, of 8 bytes each.
_MOST_ENTRIES = 2**26
_ITERATIONS = 100
# Relative to the mean square of the outputs; below is rounding.
_EXACT = 1e-24


def fit(layer, polynomial, *, starts=4, seed=0):
    """Sets the weights of a CCP, NCP or NCPSkip so that it approximates a given polynomial, as a start for training.

    The output x = C x_N + beta is linear in C and beta, which are solved for by least squares wherever they appear; the
    weights of the recursion (the U_n of Eq. 3; the A_n, S_n and b_n of Eq. 4 and 5) are found by damped Gauss-Newton
    steps (variable projection), from those that the layer has and from random ones, the best of which are kept.

    The problem is not convex, and the start decides. Twelve polynomials of order 3, which layers of the three kinds and
    of rank 3 gave, were approximated by each kind from one start: with twice that rank 24 of the 36 times to rounding,
    and always to 1 %; with rank 3 itself to between 0.3 and 40 %. It is for small layers: the memory is 8 bytes times
    samples * units * weights of the recursion, 0.5 GB at most, and as much again for work. A CP decomposition of the
    tensors by alternating least squares was no better a start for a CCP than random weights, so none is used.

    Args:
        layer: a `CCP`, `NCP` or `NCPSkip` with `units` and `rank`, without normalisation, `identity_factors`,
            `learn_skip` and LoRA adapters. One that is not built is built; gates are set to one.
        polynomial: what `coefficients` returns, of a symmetric form or not; or a pair of arrays (samples, d) and
            (samples, units), inputs and outputs. Coefficients are compared at inputs drawn from the standard normal
            distribution. Data should have more numbers of output than the layer has weights.
        starts: from how many weights it is tried, those of the layer first.
        seed: of the random weights and inputs.

    Returns:
        The relative error of the layer, as it is with its rounded weights: the root of the mean square of the error,
        over that of the deviation of the outputs from their mean. For coefficients, at fresh inputs.

    Raises:
        ValueError: if the layer is another one, if `polynomial` is neither of the two or of other sizes than the layer,
            if `starts` is not a positive integer, or if the problem is too large.

    Example:

    >>> from pinets_tf.analysis import coefficients, fit
    >>> from pinets_tf.layers import CCP, NCP
    >>> ncp = NCP(units=2, order=2, rank=3)
    >>> ncp.build((None, 4))
    >>> ccp = CCP(units=2, order=2, rank=8)
    >>> fit(ccp, coefficients(ncp)) < 1e-3
    True

    Source: ours; the recursion is that of Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Eq. 3.
    Variable projection: Golub and Pereyra, SIAM Journal on Numerical Analysis, 1973, in the form of Kaufman, 1975.
    """
    _check_layer(layer)
    starts = positive_integer("starts", starts, "Pass how many starts are tried, such as starts=4.")
    rng = np.random.default_rng(seed)
    (z, x), (fresh_z, fresh_x) = _samples(layer, polynomial, rng)
    size = z.shape[1]
    recursion = _Recursion(layer, size)
    entries = x.size * recursion.weights
    if entries > _MOST_ENTRIES:
        raise ValueError(
            f"A fit has at most {_MOST_ENTRIES:,} derivatives, of each output by each weight. Received: {x.size:,} "
            f"outputs and {recursion.weights:,} weights, which are {entries:,}. Pass fewer samples, a layer of a lower "
            "rank, or train the layer."
        )
    if not layer.built:
        layer.build((None, size))
    best, exact = math.inf, _EXACT * _deviation(x)
    for number in range(starts):
        start = recursion.random(rng) if number else recursion.of(layer)
        trial = _descend(recursion, z, x, start, layer.use_bias, exact)
        if trial[-1] < best:
            weights, C, beta, best = trial
        if best <= exact:
            break
    recursion.assign(layer, weights)
    layer.C.kernel.assign(C)
    if layer.use_bias:
        layer.C.bias.assign(beta)
    for gate in layer.gates:
        if gate is not None:
            gate.assign(1.0)
    found = ops.convert_to_numpy(layer(ops.convert_to_tensor(fresh_z, layer.compute_dtype))).astype("float64")
    return math.sqrt(np.mean((found - fresh_x) ** 2) / (_deviation(fresh_x) or 1.0))


def _check_layer(layer):
    trouble = None
    if type(layer) not in (CCP, NCP, NCPSkip):
        trouble = f"is of type {type(layer).__name__}"
    else:
        config = layer.get_config()
        wrong = [name for name in ("operator", "normalize", "products", "quantized") if config.get(name) is not None]
        wrong += [name for name in ("identity_factors", "learn_skip") if getattr(layer, name, False)]
        wrong += ["units=None"] if layer.units is None else []
        wrong += ["LoRA adapters"] if any(getattr(x, "lora_enabled", False) for x in flatten_layers(layer)) else []
        trouble = f"has {', '.join(wrong)}" if wrong else None
    if trouble is not None:
        raise ValueError(
            "What is fitted is a CCP, NCP or NCPSkip of matrices, C x_N + beta, without normalisation. "
            f"Received: {layer!r}, which {trouble}. Pass a layer such as CCP(units=10, order=3, rank=64)."
        )


def _samples(layer, polynomial, rng):
    """Returns inputs and outputs to fit, and others to measure the error with."""
    if isinstance(polynomial, Coefficients):
        size, units, order = polynomial.tensors[0].shape[1], len(polynomial.constant), len(polynomial.tensors)
        _check_sizes(layer, size, units)
        monomials = math.comb(size + max(order, layer.order), size)
        weights = _Recursion(layer, size).weights + layer.rank * units
        number = max(2 * monomials, math.ceil(3 * weights / units))
        if number * units * weights > 2 * _MOST_ENTRIES:
            # Too many to evaluate, and refused by their number.
            return ((np.zeros((number, size)), np.zeros((number, units))),) * 2
        inputs = rng.normal(size=(2, number, size))
        return tuple((z, evaluate(polynomial, z)) for z in inputs)
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
    z, x = (array.astype("float64") for array in arrays)
    _check_sizes(layer, z.shape[1], x.shape[1])
    return ((z, x),) * 2


def _check_sizes(layer, size, units):
    own = layer.factors[0].kernel.shape[0] if layer.built else size
    if (own, layer.units) != (size, units):
        raise ValueError(
            "A layer has as many inputs and outputs as the polynomial that it approximates. "
            f"Received: a polynomial from {size} to {units} numbers for {layer.name}, from {own} to {layer.units}. "
            f"Pass a layer with units={units}, not built or built for {size} inputs."
        )


class _Recursion:
    """The recursion of a layer as a function of all its weights, in one vector.

        x_n = (A_n^T z) * s_n + x_{n-1}, without the last term in an NCP

    In a CCP s_n is x_{n-1}, and x_1 is A_1^T z; in the others s_n is S_n^T x_{n-1} + b_n, and x_1 is (A_1^T z) * b_1.
    """

    def __init__(self, layer, size):
        N, k = layer.order, layer.rank
        self.order, self.carries, self.has_states = N, layer.CARRIES, isinstance(layer, NCP)
        self.shapes = [(N, size, k), *([(N - 1, k, k), (N, k)] if self.has_states else [])]
        self.weights = sum(map(math.prod, self.shapes))

    def of(self, layer):
        """Returns the weights of a layer."""
        values = [[factor.kernel for factor in layer.factors]]
        values += [[S_n.kernel for S_n in layer.S], layer.b] if self.has_states else []
        return np.concatenate([np.ravel(ops.convert_to_numpy(x)) for group in values for x in group]).astype("float64")

    def assign(self, layer, weights):
        A, S, b = self._split(weights)
        for factor, A_n in zip(layer.factors, A):
            factor.kernel.assign(A_n)
        if self.has_states:
            for S_n, kernel in zip(layer.S, S):
                S_n.kernel.assign(kernel)
            for b_n, value in zip(layer.b, b):
                b_n.assign(value)

    def random(self, rng):
        """Returns weights that keep the size of z in every x_n."""
        scales = [math.sqrt(shape[-2]) for shape in self.shapes[:2]] + [1.0] * (len(self.shapes) - 2)
        return np.concatenate([rng.normal(size=shape).ravel() / scale for shape, scale in zip(self.shapes, scales)])

    def computed(self, z, weights):
        """Returns lists of A_n^T z, of s_n and of x_n."""
        A, S, b = self._split(weights)
        factors = np.einsum("bi,nir->nbr", z, A)
        states = [b[0] if self.has_states else np.ones(A.shape[-1])]
        x = [factors[0] * states[0]]
        for n in range(1, self.order):
            states.append(x[-1] @ S[n - 1] + b[n] if self.has_states else x[-1])
            x.append(factors[n] * states[-1] + (x[-1] if self.carries else 0))
        return factors, states, x

    def derivatives(self, z, weights, computed, C):
        """Returns those of the outputs by the weights, an array (samples * outputs, weights)."""
        _, S, _ = self._split(weights)
        factors, states, x = computed
        parts = [np.empty((len(z), C.shape[1], *shape)) for shape in self.shapes]
        # By x_n, an array (samples, outputs, rank).
        slope = np.broadcast_to(C.T, (len(z), *C.T.shape))
        for n in reversed(range(self.order)):
            parts[0][:, :, n] = z[:, None, :, None] * (slope * (states[n][:, None] if n else states[n]))[:, :, None]
            by_state = slope * factors[n][:, None]
            if self.has_states:
                parts[2][:, :, n] = by_state
                if n:
                    parts[1][:, :, n - 1] = x[n - 1][:, None, :, None] * by_state[:, :, None]
                    by_state = by_state @ S[n - 1].T
            slope = by_state + slope if self.carries else by_state
        return np.concatenate([part.reshape(part.shape[0] * part.shape[1], -1) for part in parts], axis=1)

    def _split(self, weights):
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
        parts = [part.reshape(shape) for part, shape in zip(np.split(weights, ends), self.shapes)]
        return parts if self.has_states else (*parts, None, None)


def _descend(recursion, z, x, weights, use_bias, exact):
    """Returns the weights, C, beta and the mean square error that damped Gauss-Newton steps lead to."""
    damping = 1e-2
    computed = recursion.computed(z, weights)
    basis, solution, rest = _solve(computed[-1][-1], x, use_bias)
    error, rank = np.mean(rest**2), computed[-1][-1].shape[1]
    for _ in range(_ITERATIONS):
        derivatives = recursion.derivatives(z, weights, computed, solution[:rank]).reshape(len(z), -1)
        # What C and beta can make up for is taken out (Kaufman).
        derivatives -= basis @ (basis.T @ derivatives)
        derivatives = derivatives.reshape(-1, weights.size)
        normal = derivatives.T @ derivatives
        slope, scale = derivatives.T @ rest.ravel(), normal.trace() / weights.size
        for _ in range(12):
            damped = normal + (damping * scale + np.finfo("float64").tiny) * np.eye(weights.size)
            tried = weights + np.linalg.solve(damped, slope)
            computed_there = recursion.computed(z, tried)
            trial = _solve(computed_there[-1][-1], x, use_bias)
            improved = np.mean(trial[2] ** 2) < error
            if improved:
                break
            damping *= 4
        if not improved:
            break
        weights, computed, (basis, solution, rest) = tried, computed_there, trial
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
