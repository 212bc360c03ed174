"""No public layer is left out of the guarantees."""

import keras

from pinets_tf import layers
from tests.conformance.cases import CASES, of_ours


@of_ours
def test_every_public_layer_is_listed():
    # `Polynomial` is a base; tests/extension has layers made of it.
    public = {getattr(layers, name) for name in layers.__all__} - {layers.Polynomial}
    assert public == {case.cls for case in CASES.values()}
    assert all(issubclass(cls, keras.layers.Layer) for cls in public)


def test_every_public_layer_documents_itself():
    for name in layers.__all__:
        text = getattr(layers, name).__doc__
        for heading in ("Args:", "Input shape:", "Output shape:", "Raises:", "Example:", ">>>", "Source:", "loat16"):
            assert heading in text, f"{name} says nothing under {heading!r}"
