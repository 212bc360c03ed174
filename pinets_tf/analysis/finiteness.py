"""Where in a model, at which layer and order, numbers stop being finite."""

import dataclasses

import keras
import numpy as np
from keras import ops

from pinets_tf.analysis.parts import Part, in_order, methods_hidden, parts_of
from pinets_tf.layers.generation.kernel_wrapper import KernelWrapper
from pinets_tf.layers.normalization.batch_normalization import ProductOffset
from pinets_tf.layers.polynomial.decomposition import Polynomial
from pinets_tf.layers.polynomial.horner import HornerLayer

_LARGEST_FLOAT16 = 65504.0


@dataclasses.dataclass(frozen=True)
class NotFinite:
    """The first number of a model that is not finite; as a text, one sentence for an error message.

    Args:
        layer: the path of the layer within the model, such as `"stage_1_block_0/second_order"`.
        what: `"input"`, `"weight NAME"`, `"output"`, or of one step of a polynomial: `"factor of order 3"`, `"state of
            order 3"`, `"carry of order 3"` (what the step multiplies and adds), `"product of order 3"`, `"normalisation
            of order 3"`, `"sum of order 3"`.
        dtype: the type in which it is not finite.
        order: the order that it belongs to, or `None` where the layer has no orders.
        largest: the largest magnitude of the finite numbers that it was computed from, or `None`.
    """

    layer: str
    what: str
    dtype: str
    order: int | None = None
    largest: float | None = None

    def __str__(self):
        about = [] if self.order is None or "order" in self.what else [f"order {self.order}"]
        about.append(self.dtype)
        if self.largest is not None:
            about.append(f"from numbers of at most {self.largest:.4g}")
        within = "in" if "order" in self.what else "of"
        return (
            f"the {self.what} {within} layer {self.layer} is the first number that is not finite ({', '.join(about)})"
        )


def first_not_finite(model, inputs, training=False):
    """Returns what is the first number, in the order of computation, that is not finite as a model is computed.

    Inputs and weights are looked at first. Then the model is computed once, layer after layer, in Python and not as one
    graph. Within a polynomial layer every step x_n = normalize(factor * state) + carry is looked at. A number that is
    not finite is found also where a later layer, such as one with tanh, makes a finite one of it.

    The weights, the moving statistics and the random states are afterwards what they were before. What a compiled
    function of the backend leaves out or keeps in float32 is computed here as the dtype policies say. A wrapper of a
    layer, such as `SpectralNormalization`, counts as one layer, and so does one whose parts the backend traces.

    Args:
        model: a built Keras model or layer, of other models and layers.
        inputs: what it is called with: arrays or tensors, alone or in a structure.
        training: whether it is computed as in training.

    Returns:
        A `NotFinite`, or `None` if every number is finite.

    Raises:
        ValueError: if `model` is not a Keras layer or has no weights yet, or if `inputs` have no values.

    Example:

    >>> import keras, numpy as np
    >>> from pinets_tf.analysis import first_not_finite
    >>> from pinets_tf.layers import CCP
    >>> ccp = CCP(1, order=3, rank=1, kernel_initializer="ones", dtype="mixed_float16", name="ccp")
    >>> model = keras.Sequential([keras.Input((1,)), ccp])
    >>> first_not_finite(model, np.full((1, 1), 30.0))
    >>> print(first_not_finite(model, np.full((1, 1), 40.0)))
    the product of order 3 in layer ccp is the first number that is not finite (float16, from numbers of at most 1640)

    Source: ours.
    """
    if not isinstance(model, keras.layers.Layer) or not model.built:
        raise ValueError(
            "The numbers of a model are looked at as it is computed with the weights that it has. "
            f"Received: {model!r}, which is not a Keras layer, or has no weights yet. Pass a model that was built."
        )
    parts = list(parts_of(model))
    found = _first_input(model, inputs) or _first_weight(parts)
    if found is not None:
        return found
    states = [(weight, ops.convert_to_numpy(weight)) for weight in model.variables if not weight.trainable]
    watch = _Watch(inputs)
    try:
        with watch.over(parts):
            model(inputs, training=training)
    finally:
        for weight, value in states:
            weight.assign(value)
    return watch.found


def _first_input(model, inputs):
    values = in_order(model, inputs)
    names = [x.name for x in getattr(model, "inputs", None) or ()]
    names = names if len(names) == len(values) else [model.name] * len(values)
    for name, value in zip(names, values):
        try:
            bad, _ = _look(value)
        except TypeError:
            raise ValueError(
                "The numbers of a model are looked at one after another, outside of compiled functions. "
                f"Received: inputs without values, {value!r}. Pass arrays or tensors that hold numbers."
            ) from None
        if bad is not None:
            return NotFinite(name, "input", _dtype(bad))
    return None


def _first_weight(parts):
    for part in parts:
        for weight in _own_weights(part.layer):
            if _look(weight)[0] is not None:
                return NotFinite(part.path, f"weight {weight.name}", _dtype(weight), part.order_of(weight.name))
    return None


def _own_weights(layer):
    """Returns the weights of a layer without those of the layers inside."""
    return [*getattr(layer, "_trainable_variables", ()), *getattr(layer, "_non_trainable_variables", ())]


class _Watch:
    """Looks at what goes into and out of each layer and each step, and keeps the first number that is not finite."""

    def __init__(self, inputs):
        self.found: NotFinite | None = None
        # The largest magnitude that an output of each shape had: where a cast overflows, what it came from.
        self._largest: dict[tuple, float] = {}
        self._steps: dict[int, _Step] = {}
        self._keep_largest(inputs)

    def over(self, parts):
        """Returns a context that looks on as the layers are called."""
        return methods_hidden([(part.layer, self._watched(part)) for part in parts])

    def _watched(self, part):
        layer = part.layer
        if isinstance(part.parent, KernelWrapper):
            # The wrapper computes with a view of the layer inside, which must keep its own methods.
            return {}
        name = "quantized_call" if getattr(layer, "quantization_mode", None) else "call"
        watched = {name: self._watched_call(getattr(layer, name), part)}
        if isinstance(layer, HornerLayer):
            watched["_step"] = self._watched_step(layer._step, part)
        if isinstance(layer, Polynomial):
            watched["_first"] = self._watched_first(layer._first, part)
        return watched

    def _watched_call(self, call, part):
        order = part.layer.order if isinstance(part.layer, HornerLayer) else part.order

        def watched(*args, **kwargs):
            # What goes into a normalisation within a step is its product, and what comes out is part of the step.
            step = self._steps.get(id(part.parent))
            self._check([args, kwargs], *(step.about("sum") if step else (part, "input", part.order)))
            outputs = call(*args, **kwargs)
            about = step.about("normalisation") if step else (part, "output", order, [args, kwargs])
            self._check(outputs, *about)
            self._keep_largest(outputs)
            return outputs

        return watched

    def _watched_first(self, first, part):
        def watched(z):
            x = first(z)
            self._check(x, part, "product of order 1", 1)
            return x

        return watched

    def _watched_step(self, step, part):
        def watched(n, factor, state, *others, **named_others):
            added = [others, named_others]
            for what, values in (("factor", factor), ("state", state), ("carry", added)):
                self._check(values, part, f"{what} of order {n}", n)
            now = self._steps[id(part.layer)] = _Step(part, n, factor, state, added)
            x = step(n, factor, state, *others, **named_others)
            del self._steps[id(part.layer)]
            self._check(x, *now.about("sum"))
            return x

        return watched

    def _check(self, values, part, what, order, origin=None):
        """Keeps what the first number that is not finite in `values` is, which were computed from `origin`."""
        if self.found is not None:
            return
        bad, _ = _look_if_computed(values)
        if bad is None:
            return
        largest = self._largest.get(tuple(bad.shape)) if origin is None else _look_if_computed(origin)[1]
        self.found = _first_cast(part) or NotFinite(
            part.path, what if isinstance(what, str) else what(), _dtype(bad), order, largest
        )

    def _keep_largest(self, values):
        for value in keras.tree.flatten(values) if self.found is None else ():
            if _is_float(value):
                shape = tuple(value.shape)
                self._largest[shape] = max(self._largest.get(shape, 0.0), _look_if_computed(value)[1])


@dataclasses.dataclass(frozen=True)
class _Step:
    """A step n of a polynomial layer as it is computed."""

    part: Part
    n: int
    factor: object
    state: object
    added: object

    def about(self, otherwise):
        """Returns what `_Watch._check` says about a number of this step, which is `otherwise` if not the product."""
        origin = [self.factor, self.state, self.added]
        return self.part, lambda: f"{self._product_or(otherwise)} of order {self.n}", self.n, origin

    def _product_or(self, otherwise):
        layer = self.part.layer
        if self.n - 1 > layer.computed_products:
            return otherwise
        factor, state = (ops.convert_to_numpy(x).astype("float64") for x in (self.factor, self.state))
        normalizer = layer.normalizers[self.n - 2]
        # In float16 the product is formed in float32, and as large as it is rounded where nothing normalises it so.
        rounded = normalizer is None or normalizer.autocast or isinstance(normalizer, ProductOffset)
        if layer.compute_dtype == "float16" and rounded:
            limit = _LARGEST_FLOAT16
        else:
            limit = float(np.finfo("float64" if layer.compute_dtype == "float64" else "float32").max)
        with np.errstate(over="ignore"):
            return "product" if np.abs(factor * state).max() > limit else otherwise


def _first_cast(part):
    """Returns the weight of a layer that is too large for the type in which it is used, or `None`."""
    layer = part.layer
    for weight in _own_weights(layer) if getattr(layer, "autocast", False) else ():
        if _is_float(weight) and weight._autocast:
            # As it is stored: within a call its `value` has been cast.
            stored = ops.convert_to_tensor(weight._value)
            bad, _ = _look(ops.cast(stored, layer.compute_dtype))
            if bad is not None:
                order = part.order_of(weight.name)
                return NotFinite(part.path, f"weight {weight.name}", _dtype(bad), order, _look(stored)[1])
    return None


def _look(values):
    """Returns the first array of floats with a number that is not finite, or `None`, and the largest finite number."""
    first, largest = None, 0.0
    for x in map(ops.convert_to_tensor, filter(_is_float, keras.tree.flatten(values))):
        finite = ops.isfinite(x)
        if first is None and not bool(ops.all(finite)):
            first = x
        largest = max(largest, float(ops.max(ops.where(finite, ops.abs(x), ops.zeros_like(x)), initial=0)))
    return first, largest


def _look_if_computed(values):
    try:
        return _look(values)
    except TypeError:
        # Within what a backend traces, such as a loop of JAX, nothing has a value.
        return None, 0.0


def _is_float(x):
    return hasattr(x, "dtype") and hasattr(x, "shape") and keras.backend.is_float_dtype(_dtype(x))


def _dtype(x):
    return keras.backend.standardize_dtype(x.dtype)
