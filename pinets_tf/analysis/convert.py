"""A Keras network made a polynomial one by the rule of Sec. 5, with the weights that it has."""

import dataclasses

import keras

from pinets_tf._keras import flatten_layers, history
from pinets_tf.analysis.degree import in_the_way
from pinets_tf.analysis.grow import grow
from pinets_tf.analysis.model_graph import copy_of, has_graph, paths, rewritten_graph
from pinets_tf.layers import Injection, PolynomialResidual
from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.copying import copy_weights

# Layers that are an activation, of one number each, and layers that have one behind a linear map.
_ACTIVATIONS = (
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
)
_ACTIVATED = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.Dense,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.EinsumDense,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
# These are none, or take all numbers together.
_NOT_HIDDEN = (None, keras.activations.linear, keras.activations.softmax, keras.activations.log_softmax)


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What `convert` did to a model; its text is a report.

    Args:
        order: the order of the blocks.
        blocks: names of the residual sums that became polynomial, in the order of the graph.
        plain: names of the layers whose activation got a polynomial in front of it, in a network without such sums.
        activations: names of the layers whose activation was removed.
        unrecognised: names of the sums that stayed as they were, each with why.
        obstacles: paths of the layers for which the new model is no polynomial, each with its type.
    """

    order: int
    blocks: tuple[str, ...]
    plain: tuple[str, ...]
    activations: tuple[str, ...]
    unrecognised: dict[str, str]
    obstacles: dict[str, str]

    def __str__(self):
        because: dict[str, list[str]] = {}
        for name, kind in self.obstacles.items():
            because.setdefault(kind, []).append(name)
        lines = [
            _line(f"Residual blocks of order {self.order}", self.blocks),
            _line(f"Plain layers of order {self.order}", self.plain),
            _line("Activations removed", self.activations),
            _line("Sums left as they were", [f"{name} ({why})" for name, why in self.unrecognised.items()]),
            *(_line(f"No polynomial because of {kind}", names) for kind, names in because.items()),
        ]
        return "\n".join(lines if because else [*lines, "A polynomial"])


def _line(title, names):
    """Returns a title, how many names there are, and the names, of many the first ones and the last."""
    shown = [*names[:4], "...", names[-1]] if len(names) > 8 else names
    return f"{title}: {', '.join([str(len(names)), *shown])}"


def convert(model, order=2, *, remove_activations=False, normalize="batch"):
    """Returns a model whose residual blocks are polynomials of order `order`, and that computes the same at the start.

    Each sum of a shortcut s and a branch b, two ways of different length from one tensor, becomes

        x_1 = b
        x_n = gate_n * normalize(s * x_{n-1}) + b,    n = 2, ..., N
        y   = s + x_N

    as in `PolynomialResidual`, by which Sec. 4.2 and 5.2 convert ResNet. The shorter way is the shortcut. The gates are
    zero at the start; gate_N has a gradient then, and the others once it moves. Everything else is copied with its name
    and weights: there is no weight that does not fit. The products are `Injection` layers named after the sum, such as
    `conv2_block1_add_order_2`. A `PolynomialResidual` of a lower order is raised by `grow`. What lies inside of other
    layers (a branch of it, a recurrent layer, a wrapper) stays as it is.

    In a network without residual blocks, each hidden activation f gets the polynomial h + h*h + ... of Sec. 5.3
    ("ProdPoly simple", a learnable activation) in front of it: f(x_N) with x_1 = h and x_n = gate_n * normalize(h *
    x_{n-1}) + h. Sec. 5.1 makes plain networks an NCP instead, whose factors are new layers of the input.

    Args:
        model: a built functional or sequential model, such as one of `keras.applications`, also one of nested models.
            It is left as it is.
        order: N, from 2 on.
        remove_activations: whether hidden activations are left out (softmax is not, nor is one at an output, which
            belongs to the task). The function is then another one at once.
        normalize: what normalises each product, as in `PolynomialResidual`. With "batch" the moving statistics of the
            products start at zero and one, and follow within some 50 steps of training.

    Returns:
        The new model, functional and not compiled, and a `ConversionReport` that says what was changed, which sums were
        not recognised, and which layers still make the model no polynomial.

    Raises:
        ValueError: if `order` is not an integer above 1, or if the model is of another kind, has a layer that cannot be
            copied, or nothing to convert.

    Example:

    >>> import keras
    >>> from pinets_tf.analysis import convert, degree
    >>> z = keras.Input((8, 8, 3))
    >>> stem = keras.layers.Conv2D(4, 3, activation="relu", name="stem")(z)
    >>> branch = keras.layers.Conv2D(4, 3, padding="same", name="branch")(stem)
    >>> model = keras.Model(z, keras.layers.Add(name="block")([stem, branch]))
    >>> converted, report = convert(model, order=3, remove_activations=True)
    >>> degree(converted)
    3
    >>> print(report)
    Residual blocks of order 3: 1, block
    Plain layers of order 3: 0
    Activations removed: 1, stem
    Sums left as they were: 0
    A polynomial

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 4.2, 5.2 and 5.3. To start at the
    given network is ours.
    """
    if positive_integer("order", order, "Pass order=2 or more.") == 1:
        raise ValueError("A network of order 1 has no products. Received: order=1. Pass order=2 or more.")
    if not has_graph(model) or not getattr(model, "outputs", None):
        raise ValueError(
            "What is converted is the graph of a model. "
            f"Received: {model!r}. Pass a built functional or sequential model, such as one of keras.applications."
        )
    for at_activations in (False, True):
        rewriting = _Rewriting(order, remove_activations, normalize, at_activations, _channels_first(model))
        converted = rewriting.rewrite(model, _at_output(model))
        if rewriting.blocks:
            break
    if not rewriting.blocks and not rewriting.plain:
        raise ValueError(
            "A network is converted at its residual sums or, without any, at its hidden activations. "
            f"Received: the model {model.name}, which has neither. Build it of the layers of `pinets_tf.layers`."
        )
    for new, old in rewriting.copies:
        # A removed activation is not built.
        if new.built:
            copy_weights(new, old)
    # A layer that is called twice is named once.
    blocks, plain, removed = (
        tuple(dict.fromkeys(names)) for names in (rewriting.blocks, rewriting.plain, rewriting.removed)
    )
    return converted, ConversionReport(order, blocks, plain, removed, rewriting.unrecognised, _obstacles(converted))


class _Rewriting:
    """A walk through the graph of a model that copies it, with products where its blocks end."""

    def __init__(self, order, remove_activations, normalize, plain, channels_first):
        self.order, self.remove, self.rewrites_plain = order, remove_activations, plain
        self.options = {
            "normalize": normalize,
            "gate": True,
            "data_format": "channels_first" if channels_first else "channels_last",
        }
        self.blocks: list[str] = []
        self.plain: list[str] = []
        self.removed: list[str] = []
        self.unrecognised: dict[str, str] = {}
        # The copies by the identity of what they were made from, and the reverse.
        self.made: dict[int, keras.Operation] = {}
        self.origins: dict[int, keras.Operation] = {}
        # Each copy that needs weights, with the layer that has them.
        self.copies: list[tuple] = []
        self.names: set[str] = set()

    def rewrite(self, model, at_output):
        """Returns the new model; the activations of the layers `at_output` stay."""
        self.names |= {layer.name for layer in model.layers}

        def copied(layer):
            if id(layer) not in self.made:
                self.made[id(layer)] = self.copied(layer, at_output)
                self.origins[id(self.made[id(layer)])] = layer
            return self.made[id(layer)]

        def called(new, *args, **kwargs):
            return self.called(new, self.origins[id(new)], at_output, args, kwargs)

        return rewritten_graph(model, copied, called)

    def copied(self, layer, at_output):
        if has_graph(layer):
            inner = _at_output(layer) if id(layer) in at_output else set()
            return self.rewrite(layer, inner)
        if type(layer) is PolynomialResidual and layer.order < self.order:
            self.blocks.append(layer.name)
            return grow(layer, self.order)
        if getattr(layer, "quantization_mode", None):
            raise ValueError(
                "A network is converted to be trained. "
                f"Received: the layer {layer.name} with quantization_mode={layer.quantization_mode!r}. "
                "Pass the model as it was before it was quantised."
            )
        takes_out = self.is_hidden(layer, at_output) and not isinstance(layer, _ACTIVATIONS)
        new = copy_of(layer, **({"activation": "linear"} if takes_out and (self.remove or self.rewrites_plain) else {}))
        if isinstance(layer, keras.layers.Layer):
            self.copies.append((new, layer))
        return new

    def is_hidden(self, layer, at_output):
        """Returns whether a layer has an activation that may be changed."""
        if id(layer) in at_output or not isinstance(layer, (*_ACTIVATIONS, *_ACTIVATED)):
            return False
        activation = getattr(layer, "activation", None)
        return isinstance(layer, _ACTIVATIONS[1:]) or activation not in _NOT_HIDDEN

    def called(self, new, layer, at_output, args, kwargs):
        """Calls the copy of a layer, with what the conversion adds around it."""
        if type(layer) is keras.layers.Add or _is_plus(layer):
            return self.sum(new, layer, args, kwargs)
        if not self.is_hidden(layer, at_output) or not (self.remove or self.rewrites_plain):
            return new(*args, **kwargs)
        is_activation = isinstance(layer, _ACTIVATIONS)
        h = _first(args, kwargs) if is_activation else new(*args, **kwargs)
        if self.rewrites_plain:
            self.plain.append(layer.name)
            h = self.polynomial(layer.name, h, h, layer.dtype_policy)
        if self.remove:
            self.removed.append(layer.name)
            return h
        if is_activation:
            return new(h, **{name: value for name, value in kwargs.items() if name != "inputs"})
        name, policy = self.unique(f"{layer.name}_activation"), layer.dtype_policy
        return keras.layers.Activation(layer.activation, name=name, dtype=policy)(h)

    def sum(self, new, layer, args, kwargs):
        is_layer = isinstance(layer, keras.layers.Layer)
        terms = _first(args, kwargs) if is_layer else [*args, *kwargs.values()]
        if not all(isinstance(term, keras.KerasTensor) for term in terms):
            return new(*args, **kwargs)
        shortcut, branch, trouble = _ways(terms)
        if trouble is not None:
            self.unrecognised[layer.name] = trouble
            return new(*args, **kwargs)
        self.blocks.append(layer.name)
        policy = layer.dtype_policy if is_layer else _policy(branch.dtype)
        product = self.last_product(layer.name, shortcut, branch, policy)
        if is_layer:
            return new([*terms, product])
        total = new(*args, **kwargs)
        return keras.layers.Add(name=self.unique(f"{layer.name}_sum"), dtype=policy)([total, product])

    def polynomial(self, name, factor, first, policy):
        """Returns x_N = gate_N * normalize(factor * x_{N-1}) + first."""
        product = self.last_product(name, factor, first, policy)
        return keras.layers.Add(name=self.unique(f"{name}_sum_{self.order}"), dtype=policy)([first, product])

    def last_product(self, name, factor, first, policy):
        """Returns gate_N * normalize(factor * x_{N-1})."""
        x = first
        for n in range(2, self.order + 1):
            identity = keras.layers.Identity()
            named = self.unique(f"{name}_order_{n}")
            product = Injection(identity, name=named, dtype=policy, **self.options)([x, factor])
            if n < self.order:
                x = keras.layers.Add(name=self.unique(f"{name}_sum_{n}"), dtype=policy)([first, product])
        return product

    def unique(self, name):
        """Returns the name, or one like it that no layer has, such as for a layer that is called twice."""
        number, wanted = 1, name
        while name in self.names:
            name, number = f"{wanted}_{number}", number + 1
        self.names.add(name)
        return name


def _first(args, kwargs):
    """Returns what a layer is called with."""
    return args[0] if args else kwargs["inputs"]


def _policy(dtype):
    """Returns the policy whose layers compute in that type, with weights of at least 32 bits."""
    return f"mixed_{dtype}" if dtype in ("float16", "bfloat16") else dtype


def _is_plus(operation):
    """Returns whether an operation is the sum of two symbolic tensors, whose class Keras does not export."""
    kind = type(operation)
    return kind.__name__ == "Add" and kind.__module__.startswith("keras.") and not isinstance(operation, keras.Layer)


def _ways(terms):
    """Returns the shortcut and the branch of a sum, and why it is none of a residual block, or `None`."""
    if len(terms) != 2:
        return None, None, f"of {len(terms)} terms"
    first, second = terms
    if tuple(first.shape) != tuple(second.shape):
        return None, None, "of terms of different shapes"
    distances = _distances(first), _distances(second)
    common = distances[0].keys() & distances[1].keys()
    if not common:
        return None, None, "of terms that come from different inputs"
    origin = min(common, key=lambda key: distances[0][key] + distances[1][key])
    one, other = (found[origin] for found in distances)
    if one == other:
        return None, None, "of two ways of one length"
    return (first, second, None) if one < other else (second, first, None)


def _distances(tensor):
    """Returns by how many layers each tensor is before `tensor`, by the identity of the tensor."""
    found, left = {id(tensor): 0}, [tensor]
    for later in left:
        for earlier in history(later).node.input_tensors:
            if id(earlier) not in found:
                found[id(earlier)] = found[id(later)] + 1
                left.append(earlier)
    return found


def _at_output(model):
    """Returns the layers that make the outputs of a model."""
    return {id(history(tensor).operation) for tensor in model.outputs}


def _channels_first(model):
    return any(getattr(layer, "data_format", None) == "channels_first" for layer in flatten_layers(model))


def _obstacles(model):
    """Returns the paths and types of the layers that make a model no polynomial."""
    where, found = paths(model), {}
    for layer in in_the_way(model):
        activation = getattr(layer, "activation", None)
        name = [] if activation is None else [getattr(activation, "__name__", type(activation).__name__)]
        found[where.get(id(layer), layer.name)] = " ".join([type(layer).__name__, *name])
    return found
