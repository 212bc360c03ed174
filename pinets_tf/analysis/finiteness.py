"""Where in a model, at which layer and order, numbers stop being finite."""

import dataclasses

import keras
import numpy as np
from keras import ops

from pinets_tf import _keras
from pinets_tf.analysis.model_graph import Part, in_order, parts_of
from pinets_tf.layers.polynomial.interpreter import Tensors, reader
from pinets_tf.layers.polynomial.step import Step

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
    watch = _Watch(parts, inputs)
    before = reader.set(watch.reading)
    try:
        with _keras.calls_seen_by(watch.call):
            model(inputs, training=training)
    finally:
        reader.reset(before)
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
        for weight in _keras.own_variables(part.layer):
            if _look(weight)[0] is not None:
                return NotFinite(part.path, f"weight {weight.name}", _dtype(weight), part.order_of(weight.name))
    return None


class _Watch:
    """Looks at what goes into and out of each layer and each step, and keeps the first number that is not finite."""

    def __init__(self, parts, inputs):
        self.found: NotFinite | None = None
        self.parts = {id(part.layer): part for part in parts}
        # The largest magnitude that an output of each shape had: where a cast overflows, what it came from.
        self._largest: dict[tuple, float] = {}
        # The steps that are computed now, by the layer.
        self.steps: dict[int, _Step] = {}
        self._keep_largest(inputs)

    def reading(self, layer, *of_masks):
        """Returns what reads the recursion of a layer that is called."""
        return (
            _WatchedTensors(self, self.parts[id(layer)], *of_masks) if id(layer) in self.parts else Tensors(*of_masks)
        )

    def call(self, layer, compute, args, kwargs):
        """Computes a call of a layer or operation; a wrapper computes with a view of its layer, which is no part."""
        part = self.parts.get(id(layer))
        if part is None:
            return compute(*args, **kwargs)
        order = layer.order if hasattr(layer, "steps") else part.order
        # What goes into a normalisation within a step is its product, and what comes out is part of the step.
        step = self.steps.get(id(part.parent))
        self.check([args, kwargs], *(step.about("sum") if step else (part, "input", part.order)))
        outputs = compute(*args, **kwargs)
        about = step.about("normalisation") if step else (part, "output", order, [args, kwargs])
        self.check(outputs, *about)
        self._keep_largest(outputs)
        return outputs

    def check(self, values, part, what, order, origin=None):
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


class _WatchedTensors(Tensors):
    """What is the value, and is it finite?"""

    def __init__(self, watch, part, *of_masks):
        super().__init__(*of_masks)
        self.watch, self.part, self.n = watch, part, 1

    def scale(self, weight, value):
        x = super().scale(weight, value)
        if self.n == 1 and not isinstance(weight, (int, float)):
            self.watch.check(x, self.part, "product of order 1", 1)
        return x

    def step(self, step, factor, state, **added):
        self.n = step.n
        for what, values in (("factor", factor), ("state", state), ("carry", added)):
            self.watch.check(values, self.part, f"{what} of order {step.n}", step.n)
        now = self.watch.steps[id(step.layer)] = _Step(self.part, step, factor, state, added)
        x = super().step(step, factor, state, **added)
        del self.watch.steps[id(step.layer)]
        self.watch.check(x, *now.about("sum"))
        return x


@dataclasses.dataclass(frozen=True)
class _Step:
    """A step n of a polynomial layer as it is computed."""

    part: Part
    step: Step
    factor: object
    state: object
    added: object

    def about(self, otherwise):
        """Returns what `_Watch.check` says about a number of this step, which is `otherwise` if not the product."""
        origin = [self.factor, self.state, self.added]
        return self.part, lambda: f"{self._product_or(otherwise)} of order {self.step.n}", self.step.n, origin

    def _product_or(self, otherwise):
        if self.step.is_left_out:
            return otherwise
        factor, state = (ops.convert_to_numpy(x).astype("float64") for x in (self.factor, self.state))
        dtype = self.step.dtype_of_products
        limit = _LARGEST_FLOAT16 if dtype == "float16" else float(np.finfo(dtype).max)
        with np.errstate(over="ignore"):
            return "product" if np.abs(factor * state).max() > limit else otherwise


def _first_cast(part):
    """Returns the weight of a layer that is too large for the type in which it is used, or `None`."""
    layer = part.layer
    for weight in _keras.own_variables(layer) if getattr(layer, "autocast", False) else ():
        if _is_float(weight) and _keras.is_cast(weight):
            # As it is stored: within a call its `value` has been cast.
            stored = ops.convert_to_tensor(_keras.stored_value(weight))
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
