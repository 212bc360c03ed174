"""The base of layers made of Horner steps."""

import keras
from keras import ops

from pinets_tf import _keras
from pinets_tf.layers import masks
from pinets_tf.layers.checkpointed import Checkpointed
from pinets_tf.layers.checks import one_of, positive_integer
from pinets_tf.layers.copying import copy_weights, deserialize_layers
from pinets_tf.layers.polynomial.interpreter import on_tensors
from pinets_tf.layers.polynomial.step import NORMALIZERS, OFFERED, PLACES, Step
from pinets_tf.layers.quantized_parts import policies_inside, restore_policies


class HornerLayer(Checkpointed):
    """A layer made of Horner steps: the order, its normalisation and its gates.

        x_n = gate_n * normalize(factor * state) + carry,    n = 2, ..., order

    A subclass states its whole computation once, in a method `recursion(on, *values)` in the words of an
    `Interpreter`, with one of `self.steps` for each order from 2 on. It calls `_build_steps` in `build`.

    Args:
        order: N, the number of steps and the degree of the polynomial, at least 1.
        normalize: what keeps the magnitude of the products in bounds (the paper: "certain normalization schemes",
            Sec. 3.1), from the second order on: `None`; `"batch"` (momentum 0.9, epsilon 1e-5); `"layer"`;
            `"instance"` (per sample and channel, over the spatial axes); `"tanh"`; or a Keras layer,
            copied for each order. With `None` and `"batch"` the layer is a polynomial at inference; with the others it
            is not.
        normalize_at: `"product"` normalises each Hadamard product, `"order"` each x_n (product and carry together),
            `"last"` the product of the last step alone.
        gate: whether each product is multiplied with a learned scalar that starts at zero, so that training starts at
            the first-order polynomial.
        **kwargs: those of `keras.layers.Layer`.

    Sources of the options: the authors' code has batch normalisation of products, and for meshes the three places, as
    "2nd", "all" and "final"; instance normalisation is that of Sec. 5.3, footnote 8, tanh that of Sec. 5.2, layer
    normalisation that of MONet (Cheng et al., ICLR 2024); the gate is the alpha of R-PolyNets (Chrysos et al., CVPR
    2023).
    """

    acts_as = "polynomial"
    # Whether a gate multiplies the state of a step, before the product, instead of the product.
    GATES_THE_STATE = False
    # Lists of layers or weights, the last of which serves the last order, if a layer of a higher order with gates of
    # zero starts as this one. It is stated beside the recursion that it holds for.
    BY_ORDER: tuple[str, ...] = ()
    # The axis of the features: -1, or 1 for maps with `data_format="channels_first"`.
    channel_axis = -1

    def __init__(self, order, *, normalize=None, normalize_at="product", gate=False, **kwargs):
        super().__init__(**kwargs)
        self.order = positive_integer("order", order, "Pass order=1 for a linear map, order=2 or more for products.")
        self.normalize_at = one_of("normalize_at", normalize_at, PLACES)
        self.gate = bool(gate)
        if not (normalize is None or normalize in NORMALIZERS or isinstance(normalize, keras.layers.Layer)):
            raise ValueError(
                f"`normalize` must be None, one of {', '.join(map(repr, OFFERED))}, or a Keras layer. "
                f"Received: normalize={normalize!r}. Pass one of those names, or an unbuilt layer to copy."
            )
        self._keep_untracked(normalize=normalize, policies_of_parts={})
        # How many products are computed, `None` for all: in files of version 0.1, whose later ones were left out.
        self.products = None
        self.normalizers = []
        self.gates = []
        self.steps = tuple(Step(self, n) for n in range(2, self.order + 1))

    def _keep_untracked(self, **attributes):
        """Sets attributes past Keras, which would track layers as parts: templates are copied, and never built."""
        self.__dict__.update(attributes)

    @property
    def _starts_as_identity(self):
        """Whether the normalisation changes nothing at the start, in training too."""
        return self.normalize in (None, "affine", "offset")

    def _say_whether_masks_are_supported(self, *layers):
        """Claims that padded steps change no other answer, if neither `layers` nor the normalisation let them."""
        template = self.normalize if isinstance(self.normalize, keras.layers.Layer) else None
        steps_apart = self.channel_axis == -1 and self.normalize != "instance"
        self.supports_masking = steps_apart and masks.supported(template, *layers)

    def _build_steps(self, shape):
        """Makes the normalisers and gates of orders 2 to N for states of shape `shape`."""
        self.normalizers = [step.build(shape) for step in self.steps]
        self.gates = [
            self.add_weight(shape=(), initializer="zeros", name=f"gate_{step.n}") if step.has_gate else None
            for step in self.steps
        ]

    def recursion(self, on, *values):
        """Returns the value of the output from those of the inputs, in the words of an `Interpreter`."""
        raise NotImplementedError

    def call(self, z, training=None, mask=None):
        # `training` reaches the sublayers through Keras's call context.
        return self.recursion(on_tensors(self, mask, self.compute_mask(z, mask)), z)

    def folded_config(self):
        """Returns the config of a layer that computes the same at inference, or `None` where nothing can be folded."""
        if self.normalize != "batch":
            return None
        return {**self.get_config(), "normalize": "affine", "gate": any(gate is not None for gate in self.gates)}

    def load_folded(self, source):
        """Takes the weights of the layer that `folded_config` came from."""
        copy_weights(self, source, leave=[*self._replaced_by_folding(), *source._replaced_by_folding()])
        for n, old in enumerate(source.normalizers, start=2):
            if old is not None:
                self._load_map(n, *old.affine(old.variable_dtype, source._bias_of(n)))

    def _load_map(self, n, scale, offset):
        """Takes the map that the normalisation of step n is at inference."""
        self.normalizers[n - 2].set_map(scale, offset)

    def grown_config(self, order):
        """Returns the config of a layer of a higher order that starts as this one, `None` if the order is not higher.

        It raises a `ValueError` that says what keeps the layer from growing.
        """
        if order <= self.order:
            return None
        for keeps, obstacle, remedy in self._obstacles():
            if keeps:
                raise ValueError(
                    "A layer grows where its new terms can be zero and everything else stays as it is. "
                    f"Received: the {type(self).__name__} {self.name} of order {self.order}, {obstacle}. {remedy}"
                )
        config = {**self.get_config(), "order": order, "gate": True}
        return config if self.products is None else {**config, "products": self.products + order - self.order}

    def load_grown(self, source):
        """Takes the weights of the layer that `grown_config` came from, behind new steps with gates of zero."""
        both, added = (self, source), self.order - source.order
        by_order = [[getattr(layer, name) for name in layer.BY_ORDER] for layer in both]
        lists = [*by_order[0], *by_order[1], *(parts for layer in both for parts in (layer.normalizers, layer.gates))]
        copy_weights(self, source, leave=[part for parts in lists for part in parts])
        for n in range(1, source.order + 1):
            place = source._grown_place(n, added)
            for new, old in zip(*by_order):
                if len(old) + n > source.order:
                    _assign(new[place - self.order - 1], old[n - source.order - 1])
            if n > 1:
                self.steps[place - 2].load(source.steps[n - 2])
        for step in self.steps[: max(source._grown_place(1, added) - 2, 0)]:
            # These make what the first order is multiplied with, whose gate alone keeps them out.
            step.weight_of_gate.assign(1.0)

    def _grown_place(self, n, added):
        """Returns the order that the parts of order n serve in a layer with `added` new steps."""
        # What is carried is x_1 first.
        return n if n == 1 else n + added

    def _obstacles(self):
        """Yields what may keep the layer from growing: whether it does, in words, and what to do instead."""
        stated = next(vars(x) for x in type(self).__mro__ if not {"recursion", "BY_ORDER"}.isdisjoint(vars(x)))
        yield (
            "BY_ORDER" not in stated,
            "which says not how it grows",
            "Name its lists of parts in `BY_ORDER` of its class, if a step of gate zero hands on x_{n-1}.",
        )
        yield not self.built, "which has no weights yet", "Call the layer once."
        yield "quantized" in self.get_config(), "which is quantised", "Raise the layer before it is quantised."
        yield (
            not self._starts_as_identity and self.normalize_at == "order",
            "whose sums are normalised (normalize_at='order')",
            "Train one with normalize_at='product'.",
        )

    def _replaced_by_folding(self):
        """Returns the layers and weights that a folded layer has others for."""
        return [normalizer for normalizer in self.normalizers if normalizer is not None]

    def _bias_of(self, n):
        """Returns a vector that step n adds, or `None`."""
        return None

    def get_config(self):
        changed = {"quantized": policies_inside(self), "products": self.products}
        return {
            **super().get_config(),
            "order": self.order,
            "normalize": keras.saving.serialize_keras_object(self.normalize),
            "normalize_at": self.normalize_at,
            "gate": self.gate,
            **{key: value for key, value in changed.items() if value not in ({}, None)},
        }

    @classmethod
    def from_config(cls, config):
        policies, products = config.get("quantized", {}), config.get("products")
        layer = super().from_config(
            deserialize_layers({key: value for key, value in config.items() if key not in ("quantized", "products")})
        )
        layer._keep_untracked(policies_of_parts=policies)
        restore_policies(_keras.own_layers(layer), policies)
        layer.products = products
        return layer

    def _restore_policies(self, maps):
        """Gives linear maps that are made as the layer is built the policies that they were saved with."""
        restore_policies(maps, self.policies_of_parts)


def _assign(new, old):
    """Gives a layer or weight what another one has."""
    if isinstance(new, keras.layers.Layer):
        copy_weights(new, old)
    else:
        # Of more channels, which are zero at the start.
        new.assign(ops.pad(old, [(0, more - fewer) for more, fewer in zip(new.shape, old.shape)]))
