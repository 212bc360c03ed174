"""The polynomial degree of a model, from its graph."""

from pinets_tf.analysis.propagation import as_outputs, through
from pinets_tf.layers import Injection


def degree(model):
    """Returns the polynomial degree of a model's outputs in its inputs at inference, read off its graph.

    Affine layers keep the degree, sums take the larger one, products add, the layers of `pinets_tf` multiply it with
    their order. The degree is that of generic weights: special values, such as gates that are still zero, can lower it.
    `register_layer` makes layers of your own known.

    Args:
        model: a functional or sequential Keras model, or a layer.

    Returns:
        An integer; 1 for a linear model. For a model of several outputs, one for each, in the structure of the outputs.

    Raises:
        NotPolynomial: if a layer makes an output no polynomial, such as ReLU or instance normalisation, or is not
            known to this function. It names the first such layer.
        ValueError: if a model is not functional.

    Example:

    >>> from pinets_tf.analysis import degree
    >>> from pinets_tf.models import resnet
    >>> degree(resnet((32, 32, 3), classes=10, stage_blocks=(2, 2, 2, 2), order=3, width=4)) == 3**8
    True
    """
    inputs = 2 if isinstance(model, Injection) else len(getattr(model, "inputs", None) or (0,))
    return as_outputs(model, through(Degrees(), model, [1] * inputs))


class Degrees:
    """The algebra of degrees."""

    def affine(self, function, values):
        return max(values)

    def add(self, values):
        return max(values)

    def multiply(self, function, values):
        return sum(values)

    def constant(self, function, values):
        return 0

    def by_degree(self, layer, rule, values):
        return rule(*values)
