"""The truth for small sizes: the full tensors of Eq. 2, built from the factors of a layer."""

import keras
import numpy as np


def expand(layer):
    """Returns beta and the tensors W^[1] ... W^[N] of Eq. 2, W^[n] of shape (o, d, ..., d), of a float64 layer.

    A state x_n is kept as a list of tensors, one for each degree; the tensor of degree j has shape (k, d, ..., d) and
    stands for the form that takes z in each of its j last axes.
    """
    get = keras.ops.convert_to_numpy
    size = len(get(layer.factors[0].kernel))
    factors = [get(factor.kernel).T if factor.weights else np.eye(size) for factor in layer.factors]
    kind = type(layer).__name__
    if kind == "CCP":
        x = [np.zeros(len(factors[0])), factors[0]]
        for U_n in factors[1:]:
            x = _add(_times_form(x, U_n), x)
    else:
        b = [get(b_n) for b_n in layer.b]
        x = _times_form([b[0]], factors[0])
        for n, A_n in enumerate(factors[1:], start=1):
            state = [np.tensordot(get(layer.S[n - 1].kernel).T, term, 1) for term in x]
            state[0] = state[0] + b[n]
            skip = x
            if kind == "NCPSkip" and layer.learn_skip:
                skip = [np.tensordot(get(layer.V[n - 1].kernel).T, term, 1) for term in x]
            product = _times_form(state, A_n)
            x = _add(product, skip) if kind == "NCPSkip" else product
    C = get(layer.C.kernel).T
    constant, *tensors = [np.tensordot(C, term, 1) for term in x]
    return constant + get(layer.C.bias), tensors


def evaluate(beta, tensors, z):
    """Returns Eq. 2 for a batch z of shape (batch, d): beta plus every W^[n] with z in all its input axes."""
    x = np.broadcast_to(beta, (len(z), len(beta))).copy()
    for W in tensors:
        for row, z_row in enumerate(z):
            term = W
            while term.ndim > 1:
                term = term @ z_row
            x[row] += term
    return x


def _times_form(x, form):
    """Multiplies a state elementwise with the linear forms (k, d): every degree rises by one."""
    rank, size = form.shape
    raised = [form.reshape(rank, size, *[1] * (term.ndim - 1)) * term[:, None] for term in x]
    return [np.zeros(rank), *raised]


def _add(x, y):
    longer, shorter = (x, y) if len(x) >= len(y) else (y, x)
    return [a + b for a, b in zip(longer, shorter)] + longer[len(shorter) :]
