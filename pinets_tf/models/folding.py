"""Models made quicker for inference."""

import keras

from pinets_tf.layers.copying import copy_weights
from pinets_tf.layers.polynomial.horner import HornerLayer


def fold_normalization(model):
    """Returns a model that computes the same at inference with fewer operations; it is not for training.

    The batch normalisation of a product is at inference an affine map,

        gate * (gamma * (x - mean) / sqrt(variance + epsilon) + beta) = scale * x + offset,

    whose scale and offset a model computes from its weights at every call. Here they are computed once and stored. The
    scale becomes part of the linear map A_n or U_n of the product, and where an `NCP` is made of matrices the offset
    part of b_{n+1}, and the last one of beta:

        S^T (x + offset) + b = S^T x + (b + S^T offset).

    The polynomial layers of the new model then have `normalize=None` or `"offset"`. Where a factor is no matrix or
    convolution of its own, such as the identity of a residual block, they have `"affine"`, or `"vertex_affine"` for
    `"vertex_batch"`. Batch normalisations behind linear maps are left to TensorFlow and TFLite, which join them
    themselves, and so are polynomials inside of other layers, such as those of a `ProdPoly`. LoRA adapters are merged.

    Args:
        model: a built functional or sequential model, also one of nested models. It is left as it is.

    Returns:
        A model of the same names, inputs and outputs, not compiled.

    Raises:
        ValueError: if `model` is of another kind, or not built, or has LoRA adapters on quantised layers.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from pinets_tf.layers import NCP
    >>> from pinets_tf.models import fold_normalization
    >>> model = keras.Sequential([keras.Input((5,)), NCP(3, order=2, rank=4, normalize="batch")])
    >>> folded = fold_normalization(model)
    >>> folded.layers[0].normalize, np.allclose(folded(np.ones((2, 5))), model(np.ones((2, 5))), atol=1e-5)
    (None, True)

    Source: ours; what is folded is Ioffe and Szegedy, "Batch Normalization", ICML 2015, at inference.
    """
    if not isinstance(model, keras.Model) or getattr(model, "outputs", None) is None:
        raise ValueError(
            "Layers can be replaced in a built functional or sequential model. "
            f"Received: {model!r}. Pass one of the models of `pinets_tf.models`, or a model made of inputs and outputs."
        )
    copies = []

    def copied(layer):
        config = layer.folded_config() if isinstance(layer, HornerLayer) else None
        copies.append((type(layer).from_config(config or layer.get_config()), layer, config is not None))
        return copies[-1][0]

    folded = keras.models.clone_model(model, clone_function=copied, recursive=True)
    for new, old, is_folded in copies:
        if is_folded:
            new.load_folded(old)
        elif isinstance(old, keras.layers.Layer):
            copy_weights(new, old)
    return folded
