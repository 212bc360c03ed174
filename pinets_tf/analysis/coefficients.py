"""The coefficient tensors of Eq. 2, whole or entry by entry, and their evaluation."""

import dataclasses
import itertools
import math
import numbers

import keras
import numpy as np
from keras import ops

from pinets_tf import _keras
from pinets_tf.analysis.contributions import check_polynomial, computed_by, contributions
from pinets_tf.analysis.degree import degree
from pinets_tf.analysis.homogeneous_parts import HomogeneousParts
from pinets_tf.analysis.model_graph import input_shapes
from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.copying import copy_layer, copy_weights

# What is computed at once, and how many numbers go into a network at once.
_MOST_ENTRIES = 2**24
_MOST_INPUTS = 2**18


@dataclasses.dataclass(frozen=True)
class Coefficients:
    """A polynomial by its coefficients: x = beta + W^[1] z + W^[2] (z, z) + ... (Eq. 2).

    Args:
        constant: beta, an array (o,).
        tensors: W^[1] ... W^[N], arrays (o, d), (o, d, d) ...: the output comes first, then one axis for each z.
    """

    constant: np.ndarray
    tensors: tuple[np.ndarray, ...]


def coefficients(model, order=None, *, symmetric=True, entries=None):
    """Returns the coefficients of a polynomial network at inference, as float64 arrays.

        x_o = beta_o + sum_i W^[1]_oi z_i + sum_ij W^[2]_oij z_i z_j + ...    (Eq. 2)

    Inputs and outputs of any shape count as vectors z and x of d and o numbers, flattened in C order (the last axis
    changes fastest); several inputs lie one after another. They are those of a copy of the model with float64 layers:
    exact up to rounding, for any combination of layers of which `degree` knows the terms. (JAX has float64 where
    `JAX_ENABLE_X64` is set, and takes some means and roots in float32.)

    Many tensors give one polynomial. The symmetric one of them is the same for any order of its axes i, j, ..., and is
    computed from the homogeneous parts f_n of the network (`contributions`) by polarisation,

        n! W_{i1 ... in} = sum over non-empty subsets S of the n axes of (-1)^(n - |S|) f_n(sum of e_i for i in S),

    whose rounding grows with the order: about 1e-14 of the largest entry at order 5, 1e-12 at order 10. The one that
    the factors of the layers define has the axes in the order of the products: first those of the factor, then those of
    the state; W^[2] of a CCP is C (U_2 z * U_1 z), say. It is computed by multiplying these factors.

    Args:
        model: a built Keras layer, functional or sequential model of one output that is a polynomial at inference.
        order: the last order N whose tensor is returned; by default the degree of the model.
        symmetric: whether tensors are symmetric, or else as the factors define them.
        entries: `None` for all, or an index for each of the n input axes of W^[n], which says what is computed: an
            integer, a slice, or a list of integers, each axis by itself as with `numpy.ix_`. `(5, 9)` is W^[2]_{5 9},
            half of the weight of z_5 z_9, and `(5, slice(None))` is W^[2]_{5 j} for all j: for inputs that are too
            large for whole tensors.

    Returns:
        `Coefficients`; with `entries` the array W^[n][:, i1, ..., in], without the axes whose index is an integer.

    Raises:
        NotPolynomial: if a layer is no polynomial or not known, or quantised, or known by its degree alone.
        ValueError: if there are more than 2^24 entries, if an index is out of range or there are not `order` of them,
            if the sizes of the input are not known, if `order` is not a positive integer, if the model is not built,
            not functional, has several outputs, or has a layer that cannot be copied.

    Example:

    >>> from pinets_tf.analysis import coefficients
    >>> from pinets_tf.layers import CCP
    >>> ccp = CCP(3, order=2, rank=4)
    >>> ccp.build((None, 5))
    >>> [W.shape for W in coefficients(ccp).tensors]
    [(3, 5), (3, 5, 5)]
    >>> coefficients(ccp, entries=(4, slice(0, 2))).shape
    (3, 2)

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Eq. 2. The polarisation identity is
    classical.
    """
    check_polynomial(model)
    if len(getattr(model, "outputs", None) or (0,)) != 1:
        raise ValueError(
            "The coefficients are those of one output. "
            f"Received: {model.name}, with {len(model.outputs)} outputs. Pass keras.Model(inputs, output)."
        )
    if order is not None:
        positive_integer("order", order, "Pass the last order, such as order=2.")
    shapes = input_shapes(model)
    size = sum(map(_size, shapes))
    if entries is None:
        order = degree(model) if order is None else order
        number = sum(size**n for n in range(1, order + 1))
    else:
        indices = _indices(entries, order, size)
        number = math.prod(map(len, indices))
    number *= _size(_output_shape(model, shapes))
    if number > _MOST_ENTRIES:
        counted = f"{number:,}" if number < 10**15 else f"about 10^{math.floor(math.log10(number))}"
        raise ValueError(
            f"At most {_MOST_ENTRIES:,} entries of coefficient tensors are computed at once. Received: {model.name} "
            f"with {size:,} inputs and order={order!r}, which are {counted} entries. Pass a smaller `order`, or say "
            "with `entries` which of them, such as entries=(0, slice(None))."
        )
    exact = _in_float64(model)
    if entries is not None:
        dropped = [axis for axis, index in enumerate(entries, start=1) if isinstance(index, numbers.Integral)]
        return _tensor(exact, shapes, indices, symmetric).squeeze(tuple(dropped))
    constant = contributions(exact, [np.zeros((1, *shape[1:])) for shape in shapes], max_order=0)
    tensors = [_tensor(exact, shapes, [np.arange(size)] * n, symmetric) for n in range(1, order + 1)]
    return Coefficients(constant.reshape(-1).astype("float64"), tuple(tensors))


def evaluate(coefficients, z):
    """Returns the value of a polynomial that is given by its coefficients.

    Args:
        coefficients: a `Coefficients`.
        z: an array (batch, ...), or a list of them where the coefficients are those of a model of several inputs. Each
            element is flattened in C order.

    Returns:
        A float64 array (batch, o).

    Raises:
        ValueError: if the elements of `z` are not of the size of the tensors.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.analysis import coefficients, evaluate
    >>> from pinets_tf.layers import CCP
    >>> ccp, z = CCP(3, order=2, rank=4), np.ones((7, 5), "float32")
    >>> np.allclose(ccp(z), evaluate(coefficients(ccp), z), atol=1e-5)
    True

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Eq. 2.
    """
    inputs = [np.asarray(x, "float64") for x in (z if isinstance(z, list) else [z])]
    rows = np.concatenate([x.reshape(len(x), -1) for x in inputs], axis=1)
    sizes = {size for W in coefficients.tensors for size in W.shape[1:]}
    if sizes - {rows.shape[1]}:
        raise ValueError(
            "A polynomial is evaluated at vectors of the size of its tensors. "
            f"Received: {rows.shape[1]} numbers for tensors of size {max(sizes)}. Pass what the model takes."
        )
    return np.array([_at(coefficients, row) for row in rows]).reshape(len(rows), -1)


def _at(coefficients, row):
    """Returns ((W^[N] z + W^[N-1]) z + ...) z + beta."""
    x = np.zeros(())
    for W in reversed(coefficients.tensors):
        x = (x + W) @ row
    return x + coefficients.constant


def _tensor(model, shapes, indices, symmetric):
    """Returns W^[n] (o, ...) at the grid of the indices of each of its n input axes."""
    rows = np.stack([axis.ravel() for axis in np.meshgrid(*indices, indexing="ij")], axis=-1)
    if symmetric:
        distinct, where = np.unique(np.sort(rows, axis=1), axis=0, return_inverse=True)
        values = _polarised(model, shapes, distinct)[where.reshape(-1)]
    else:
        values = _multiplied(model, shapes, rows)
    return np.moveaxis(values.reshape(*map(len, indices), -1), -1, 0)


def _polarised(model, shapes, rows):
    """Returns the entries of the symmetric W^[n] at rows of n indices."""
    n, zero = rows.shape[1], sum(map(_size, shapes))
    subsets = [np.array(subset) for subset in itertools.product([False, True], repeat=n) if any(subset)]
    # Entries share most of their points.
    points = np.concatenate([np.sort(np.where(subset, rows, zero), axis=1) for subset in subsets])
    points, where = np.unique(points, axis=0, return_inverse=True)
    f_n, values = _part(model, shapes, n, points, HomogeneousParts), 0.0
    for subset, at in zip(subsets, where.reshape(len(subsets), -1)):
        values = values + (-1) ** (n - subset.sum()) * f_n[at]
    return values / math.factorial(n)


def _multiplied(model, shapes, rows):
    """Returns the entries of W^[n] as the products define it, at rows of n indices."""
    return _part(model, shapes, rows.shape[1], rows, _Windows)


class _Windows(HomogeneousParts):
    """The interpreter of parts that take another vector in each of their axes.

    Of an entry (i_1, ..., i_n), the part of degree j holds the values at e_{i_a}, ..., e_{i_(a+j-1)} for each first
    axis a: the rows of all entries for the first a, then those for the next one, up to n - j + 1. A factor of a product
    takes the axes behind those of the factors before it.
    """

    def rows(self, degree):
        return (self.max_order - degree + 1) * self.batch

    def factor(self, part, degree, before, total):
        start = before * self.batch
        return part[start : start + self.rows(total)]


def _part(model, shapes, n, rows, reading):
    """Returns part n of a float64 model, an array (rows, o), for rows of indices.

    By `HomogeneousParts` it is that at the sum of the unit vectors of each row, where the size of the input stands for
    zero; by `_Windows` that at these vectors one after another.
    """
    size = sum(map(_size, shapes))
    ends = np.cumsum([_size(shape) for shape in shapes])[:-1]

    def inputs(chunk):
        # The axes of `_Windows` come one after another, each with all entries.
        chunk = chunk.T.reshape(-1, 1) if reading is _Windows else chunk
        z = np.zeros((len(chunk), size + 1))
        np.add.at(z, (np.arange(len(chunk))[:, None], chunk), 1.0)
        parts = zip(np.split(z[:, :-1], ends, axis=1), shapes)
        return [ops.convert_to_tensor(x.reshape(-1, *shape[1:]), "float64") for x, shape in parts]

    def part(tensors):
        batch = tensors[0].shape[0]
        on = reading(batch // n if reading is _Windows else batch, n)
        (value,) = on.outputs(model, [on.start(x) for x in tensors])
        return [value[n] if n in value else ops.zeros((on.batch, *value[0].shape[1:]), "float64")]

    compute = computed_by(model, part)
    chunks = np.array_split(rows, -(-rows.size * size // _MOST_INPUTS))
    found = np.concatenate([compute(inputs(chunk))[0] for chunk in chunks if len(chunk)])
    return found.reshape(len(rows), -1).astype("float64")


def _indices(entries, order, size):
    """Returns the indices of each axis as an array."""
    order = len(entries) if order is None and isinstance(entries, tuple) else order
    if not isinstance(entries, tuple) or len(entries) != order or not entries:
        raise ValueError(
            "`entries` are a tuple of one index for each input axis of W^[n], n being the order. "
            f"Received: entries={entries!r} with order={order!r}. Pass for example entries=(0, slice(None)) at order 2."
        )
    indices = []
    for index in entries:
        chosen = np.arange(size)[index] if isinstance(index, slice) else np.atleast_1d(np.asarray(index))
        integers = chosen.ndim == 1 and np.issubdtype(chosen.dtype, np.integer)
        if not integers or not chosen.size or chosen.min() < -size or chosen.max() >= size:
            raise ValueError(
                f"An index of `entries` is an integer from 0 to {size - 1}, a list of them, or a slice. "
                f"Received: {index!r}. Pass numbers of inputs, counted in C order."
            )
        indices.append(chosen % size)
    return indices


def _size(shape):
    """Returns how many numbers an element of a batch has."""
    if None in shape[1:]:
        raise ValueError(
            "Coefficient tensors have an axis as long as the input, whose size must be known. "
            f"Received: {tuple(shape)}. Build the model for one size, such as keras.Input((8, 8, 3))."
        )
    return math.prod(shape[1:])


def _output_shape(model, shapes):
    if getattr(model, "outputs", None):
        return model.outputs[0].shape
    inputs = [keras.KerasTensor(shape, model.compute_dtype) for shape in shapes]
    return keras.tree.flatten(model.compute_output_spec(inputs if len(inputs) > 1 else inputs[0]))[0].shape


def _in_float64(model):
    """Returns a copy of a model of which every layer is of float64, or the model where it is one."""
    computing = [x for x in _keras.flatten_layers(model) if not isinstance(x, (keras.Model, keras.layers.InputLayer))]
    if all(layer.dtype_policy.name == "float64" for layer in computing):
        return model
    try:
        copy = _copied(model)
    except Exception as error:  # Whatever a layer raises that is made from a config which lacks something.
        raise ValueError(
            "Coefficients are those of a copy of the model with float64 layers, made from their configs. "
            f"Received: {model.name}, of which none can be made ({error}). Give its layers a complete `get_config`, or "
            "make it with dtype='float64'."
        ) from error
    copy_weights(copy, model)
    return copy


def _copied(layer):
    if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
        return keras.models.clone_model(layer, clone_function=_copied, recursive=True)
    if not isinstance(layer, keras.layers.Layer):
        # An operation, such as the sum of two tensors.
        config = layer.get_config()
        to_floats = "dtype" in config and keras.backend.is_float_dtype(config["dtype"] or "float32")
        return type(layer).from_config({**config, "dtype": "float64"} if to_floats else config)
    copy = copy_layer(layer, layer.name, "float64")
    if layer.built and not copy.built:
        copy.build_from_config(layer.get_build_config())
    return copy
