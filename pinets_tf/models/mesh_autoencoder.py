"""Autoencoders of meshes of one topology, with any first-order or polynomial operator (Sec. 5.3, Table 5)."""

import keras

from pinets_tf.layers import (
    FeaStConv,
    GATConv,
    GMMConv,
    SpiralConv,
    SpiralPolynomial,
    VertexResample,
    VertexStandardization,
)
from pinets_tf.layers.checks import one_of, positive_integer


def _spiral(filters, level, **options):
    return SpiralConv(filters, level.spirals, **options)


def _polynomial(filters, level, **options):
    return SpiralPolynomial(filters, level.spirals, **options)


OPERATORS = {
    "gat": lambda filters, level, **options: GATConv(filters, level.spirals, **options),
    "feast": lambda filters, level, **options: FeaStConv(filters, level.spirals, **options),
    "monet": lambda filters, level, **options: GMMConv(filters, level.spirals, level.coordinates, **options),
    "spiral": _spiral,
    "simple": lambda filters, level, **options: _polynomial(filters, level, variant="simple", **options),
    "full": lambda filters, level, **options: _polynomial(filters, level, variant="full", **options),
}
# Normalisations whose statistics include vertices that the next level has not.
OVER_VERTICES = ("batch", "instance")


def mesh_autoencoder(
    hierarchy,
    operator="spiral",
    *,
    activation="elu",
    widths=(16, 16, 16, 32),
    latent=16,
    mean=None,
    deviation=None,
    name="mesh_autoencoder",
    **options,
):
    """Returns an autoencoder of the shapes of one template (Sec. 5.3).

    The encoder applies an operator and an activation at every level, then takes the vertices of the next, coarser one;
    a linear map makes the latent vector of the coarsest. The decoder mirrors it, its last operator returning
    coordinates. The paper's baseline and its Π-nets differ in `operator` and `activation` alone.

    Args:
        hierarchy: the levels of a template as `pinets_tf.mesh.hierarchy` returns them: `levels` with `spirals` (and
            `coordinates` for MoNet), finest first, and the matrices `down` and `up` between them.
        operator: `"spiral"` (`SpiralConv`, the paper's SpiralGNN), `"simple"` or `"full"` (`SpiralPolynomial`, the
            paper's ProdPoly), `"feast"` (`FeaStConv`), `"gat"` (`GATConv`), `"monet"` (`GMMConv`), or a function of
            the filters, a level and the `options` that returns a layer.
        activation: the activation after every operator but the last; `None` makes the *linear* rows of Table 5, and a
            polynomial of the vertices where the operator is one.
        widths: filters of the encoder, one for every step down.
        latent: the size of the latent vector.
        mean: mean of the training shapes, (vertices, 3), or `None` for shapes that are standardised already.
        deviation: their deviation, of the same shape.
        name: name of the model.
        **options: passed to the operator, such as `order=2, normalize="vertex_batch"` or a `kernel_initializer`.

    Returns:
        A functional `keras.Model` from vertices `(batch, vertices, 3)` to vertices, in float32 under every policy of
        lower precision. It has two layers, the models `encoder` and `decoder`: `model.get_layer("encoder")` returns
        latent vectors and `model.get_layer("decoder")` takes them.

    Raises:
        ValueError: if `operator` is no function and not one of the names, if a width or `latent` is not a positive
            integer, if there are not as many widths as steps down, or if only one of `mean` and `deviation` is given.

    Example:

    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from pinets_tf.models import mesh_autoencoder
    >>> square = SimpleNamespace(spirals=np.array([[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]]))
    >>> segment = SimpleNamespace(spirals=np.array([[0, 1], [1, 0]]))
    >>> down, up = np.eye(4)[[0, 2]], np.array([[1, 0], [0.5, 0.5], [0, 1], [0.5, 0.5]])
    >>> hierarchy = SimpleNamespace(levels=[square, segment], down=[down], up=[up])
    >>> model = mesh_autoencoder(hierarchy, "full", activation=None, widths=(8,), latent=2, order=2)
    >>> model.output_shape, model.get_layer("encoder").output_shape
    ((None, 4, 3), (None, 2))

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 5.3; Bouritsas et al., "Neural 3D
    Morphable Models", ICCV 2019, whose architecture the paper keeps. The dummy vertex takes no part in the linear maps
    of the latent vector.
    """
    if not callable(operator):
        one_of("operator", operator, tuple(OPERATORS))
    make = operator if callable(operator) else OPERATORS[operator]
    for width in widths:
        positive_integer("widths", width, "Pass the filters of each level, such as (16, 16, 16, 32).")
    latent = positive_integer("latent", latent, "Pass the size of the latent vector, such as latent=16.")
    levels = list(hierarchy.levels)
    if not len(widths) == len(hierarchy.down) == len(levels) - 1:
        raise ValueError(
            "A mesh autoencoder has a width for every step down. "
            f"Received: widths={tuple(widths)} for {len(hierarchy.down)} steps. "
            "Pass as many, or a hierarchy with other factors."
        )
    if (mean is None) != (deviation is None):
        raise ValueError(
            "Shapes are standardised with `mean` and `deviation` together. Received: only one of them. "
            "Pass both, or neither for shapes that are standardised already."
        )
    standardized = mean is not None
    # Coordinates and latent vectors are not rounded to half precision.
    exact = keras.backend.result_type(keras.config.dtype_policy().variable_dtype, "float32")
    vertices, coarsest = len(levels[0].spirals), len(levels[-1].spirals)

    shapes = keras.Input((vertices, 3), name="vertices")
    x = shapes
    if standardized:
        x = VertexStandardization(mean, deviation, dtype=exact, name="standardize")(x)
    for number, (width, level, down) in enumerate(zip(widths, levels, hierarchy.down)):
        # A step down that selects vertices is taken by the operator, which then computes these alone.
        keep = None if callable(operator) or options.get("normalize") in OVER_VERTICES else _selection(down)
        chosen = {} if keep is None else {"keep": keep}
        x = make(width, level, name=f"encode_{number}", **chosen, **options)(x)
        x = _activated(x, activation, f"encode_{number}_activation")
        if keep is None:
            x = VertexResample(down, name=f"down_{number}")(x)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    code = keras.layers.Dense(latent, name="latent")(x)
    code = keras.layers.Activation("linear", dtype=exact, name="code")(code)
    encoder = keras.Model(shapes, code, name="encoder")

    codes = keras.Input((latent,), name="latents")
    x = keras.layers.Dense(coarsest * widths[-1], name="expand")(codes)
    x = keras.layers.Reshape((coarsest, widths[-1]), name="unflatten")(x)
    for number in reversed(range(len(widths))):
        x = VertexResample(hierarchy.up[number], name=f"up_{number}")(x)
        filters = widths[number] if number else shapes.shape[-1]
        x = make(filters, levels[number], name=f"decode_{number}", **options)(x)
        if number:
            x = _activated(x, activation, f"decode_{number}_activation")
    if standardized:
        x = VertexStandardization(mean, deviation, invert=True, dtype=exact, name="restore")(x)
    else:
        x = keras.layers.Activation("linear", dtype=exact, name="restore")(x)
    decoder = keras.Model(codes, x, name="decoder")
    return keras.Model(shapes, decoder(encoder(shapes)), name=name)


def _selection(matrix):
    """Returns the vertex that each row of a matrix selects, or `None` if one does anything else."""
    matrix = matrix.tocsr() if hasattr(matrix, "tocsr") else None
    if matrix is None or (matrix.indptr[1:] - matrix.indptr[:-1] != 1).any() or (matrix.data != 1).any():
        return None
    return matrix.indices


def _activated(x, activation, name):
    return x if activation is None else keras.layers.Activation(activation, name=name)(x)
