"""A CCP that starts from a given polynomial."""

import math

import numpy as np
from keras import ops

from pinets_tf.analysis.coefficients import Coefficients, evaluate
from pinets_tf.layers import CCP
from pinets_tf.layers.checks import positive_integer

# Entries of the matrix of derivatives, of 8 bytes each.
_MOST_ENTRIES = 2**26
_ITERATIONS = 100
# Relative to the mean square of the outputs; below is rounding.
_EXACT = 1e-24


def fit(layer, polynomial, *, starts=4, seed=0):
    """Sets the weights of a CCP so that it approximates a given polynomial, as a start for training.

    The CCP of Eq. 3, x = C ((U_1^T z) * (1 + U_2^T z) * ... * (1 + U_N^T z)) + beta, is linear in C and beta, which are
    solved for by least squares wherever they appear; the U_n are found by damped Gauss-Newton steps (variable
    projection), from the weights that the layer has and from random ones, the best of which is kept.

    The problem is not convex, and the start decides. Polynomials that a CCP of rank k gave were found again to
    rounding from nearly every start with twice that rank, and to between 0.01 and 30 % with rank k itself. It is for
    small layers: the memory is 8 bytes times samples * units * order * d * rank, 0.5 GB at most, and as much again for
    work. A CP decomposition of the tensors by alternating least squares was no better a start than random weights, so
    none is used.

    Args:
        layer: a `CCP` with `units` and `rank`, without normalisation and without `identity_factors`. One that is not
            built is built; gates are set to one.
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
    entries = x.size * layer.order * size * layer.rank
    if entries > _MOST_ENTRIES:
        raise ValueError(
            f"A fit has at most {_MOST_ENTRIES:,} derivatives, of each output by each weight. Received: {x.size:,} "
            f"outputs and {layer.order * size * layer.rank:,} weights, which are {entries:,}. Pass fewer samples, a "
            "layer of a lower rank, or train the layer."
        )
    if not layer.built:
        layer.build((None, size))
    best, exact = math.inf, _EXACT * _deviation(x)
    for start in _starts(layer, size, starts, rng):
        trial = _descend(z, x, start, layer.use_bias, exact)
        if trial[-1] < best:
            U, C, beta, best = trial
        if best <= exact:
            break
    for factor, kernel in zip(layer.factors, U):
        factor.kernel.assign(kernel)
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
    if type(layer) is not CCP:
        trouble = f"is of type {type(layer).__name__}"
    else:
        config = layer.get_config()
        wrong = [name for name in ("operator", "normalize", "products", "quantized") if config.get(name) is not None]
        wrong += ["identity_factors"] if layer.identity_factors else []
        wrong += ["units=None"] if layer.units is None else []
        trouble = f"has {', '.join(wrong)}" if wrong else None
    if trouble is not None:
        raise ValueError(
            "What is fitted is a CCP of matrices, C x_N + beta, without normalisation. "
            f"Received: {layer!r}, which {trouble}. Pass a layer such as CCP(units=10, order=3, rank=64)."
        )


def _samples(layer, polynomial, rng):
    """Returns inputs and outputs to fit, and others to measure the error with."""
    if isinstance(polynomial, Coefficients):
        size, units, order = polynomial.tensors[0].shape[1], len(polynomial.constant), len(polynomial.tensors)
        _check_sizes(layer, size, units)
        monomials = math.comb(size + max(order, layer.order), size)
        weights = layer.rank * (layer.order * size + units)
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


def _starts(layer, size, starts, rng):
    """Yields arrays (order, d, rank), the weights of the layer and random ones."""
    yield np.array([ops.convert_to_numpy(factor.kernel) for factor in layer.factors], "float64")
    for _ in range(starts - 1):
        yield rng.normal(size=(layer.order, size, layer.rank)) / math.sqrt(size)


def _descend(z, x, U, use_bias, exact):
    """Returns U, C, beta and the mean square error that damped Gauss-Newton steps from U lead to."""
    damping = 1e-2
    factors = _factors(z, U)
    basis, solution, rest = _solve(factors, x, use_bias)
    error = np.mean(rest**2)
    for _ in range(_ITERATIONS):
        derivatives = _derivatives(z, factors, solution[: U.shape[2]])
        # What C and beta can make up for is taken out (Kaufman).
        derivatives -= basis @ (basis.T @ derivatives)
        derivatives = derivatives.reshape(-1, U.size)
        normal = derivatives.T @ derivatives
        slope, scale = derivatives.T @ rest.ravel(), normal.trace() / U.size
        for _ in range(12):
            step = np.linalg.solve(normal + (damping * scale + np.finfo("float64").tiny) * np.eye(U.size), slope)
            tried = _factors(z, U + step.reshape(U.shape))
            trial = _solve(tried, x, use_bias)
            improved = np.mean(trial[2] ** 2) < error
            if improved:
                break
            damping *= 4
        if not improved:
            break
        U, factors, (basis, solution, rest) = U + step.reshape(U.shape), tried, trial
        error, damping = np.mean(rest**2), max(damping / 4, 1e-14)
        if error <= exact:
            break
    return U, solution[: U.shape[2]], solution[-1], error


def _factors(z, U):
    """Returns U_1^T z and every 1 + U_n^T z, an array (order, samples, rank)."""
    factors = np.einsum("bi,nir->nbr", z, U)
    factors[1:] += 1
    return factors


def _solve(factors, x, use_bias):
    """Returns an orthonormal basis of the outputs that C and beta can give, the best C and beta, and what is left."""
    features = np.prod(factors, axis=0)
    if use_bias:
        features = np.column_stack([features, np.ones(len(features))])
    left, sizes, right = np.linalg.svd(features, full_matrices=False)
    kept = sizes > 1e-10 * sizes[0]
    left, projected = left[:, kept], left[:, kept].T @ x
    return left, (right[kept].T / sizes[kept]) @ projected, x - left @ projected


def _derivatives(z, factors, C):
    """Returns those of the outputs by U, an array (samples, outputs * order * d * rank)."""
    others = [np.prod(np.delete(factors, n, axis=0), axis=0) for n in range(len(factors))]
    parts = [np.einsum("bi,br,ro->boir", z, other, C, optimize=True) for other in others]
    return np.stack(parts, axis=2).reshape(len(z), -1)


def _deviation(x):
    return np.mean((x - x.mean(axis=0)) ** 2)
