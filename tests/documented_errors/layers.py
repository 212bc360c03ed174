"""The tests of the errors that docstrings of `pinets_tf.layers` document."""

import keras

from pinets_tf.layers.copying import copy_layer
from tests.documented_errors.provoking import STYLEGAN, Case

LAYERS = "tests/layers/test_errors.py::test_error_says_rule_received_remedy"


POLYNOMIALS = "tests/layers/test_errors.py::test_every_polynomial"


GRAPHS = "tests/layers/test_graph_convolutions.py::test_error_says_rule_received_remedy"


WRAPPERS = "tests/layers/test_kernel_wrappers.py::test_error_says_rule_received_remedy"


INSIDE = "tests/conformance/test_shapes.py::test_layers_that_cannot_be_inside_of_another_are_refused"


OF_SPIRALS = [
    "tests/layers/test_meshes.py::test_errors",
    "tests/layers/test_meshes.py::test_errors_of_another_topology",
]


TESTED: dict[str, dict[str, list[str | Case]]] = {
    "layers.normalization.batch_normalization.BatchNormalization": {
        "ValueError": ["tests/layers/test_batch_normalization.py::test_the_size_of_the_axis_is_known"],
    },
    "layers.polynomial.ccp.CCP": {"ValueError": [POLYNOMIALS, f"{INSIDE}[operator of CCP]"]},
    "layers.copying.copy_layer": {
        "ValueError": [
            Case(
                lambda path: copy_layer(keras.layers.Lambda(lambda x: x), "copy", "float32"),
                "must be made again by `from_config`",
                "of type Lambda, which cannot be made again",
                "Give it a complete `get_config`",
            )
        ],
    },
    "layers.generation.equalized_learning_rate.EqualizedLearningRate": {
        "ValueError": [
            f"{WRAPPERS}[{case}]"
            for case in ("no layer, equalised", "no kernel, equalised", "no initializer", "gain", "multiplier")
        ],
    },
    "layers.mesh.feast_conv.FeaStConv": {
        "ValueError": [
            f"{GRAPHS}[{case}]"
            for case in ("filters", "heads", "neighbors of floats", "keep", "another mesh for FeaSt")
        ],
    },
    "layers.mesh.gat_conv.GATConv": {
        "ValueError": [
            f"{GRAPHS}[{case}]"
            for case in (
                "filters of GAT",
                "attentions",
                "combine",
                "division",
                "neighbors out of range",
                "keep of GAT",
                "another mesh for GAT",
            )
        ],
    },
    "layers.mesh.gmm_conv.GMMConv": {
        "ValueError": [
            f"{GRAPHS}[{case}]"
            for case in (
                "filters of GMM",
                "kernels",
                "neighbors of GMM",
                "keep of GMM",
                "coordinates of another table",
                "coordinates not finite",
                "another mesh",
            )
        ],
    },
    "layers.polynomial.decomposition.Polynomial": {
        "ValueError": ["tests/extension/test_analysis.py::test_a_gate_that_would_start_at_zero_is_refused"]
    },
    "layers.polynomial.injection.Injection": {
        "ValueError": [
            f"{LAYERS}[{case}]"
            for case in (
                "injection of one input",
                "injection of a map",
                "injection factor no layer",
                "injection factor width",
            )
        ]
        + [f"{INSIDE}[factor of an injection]"],
    },
    "layers.audio.log_mel_spectrogram.LogMelSpectrogram": {
        "ValueError": [
            "tests/models/test_mel_front_end.py::test_errors_of_the_layer",
            "tests/conformance/test_shapes.py::test_waveforms",
        ],
    },
    "layers.generation.minibatch_deviation.MinibatchDeviation": {"ValueError": [f"{STYLEGAN}[group]"]},
    "layers.polynomial.ncp.NCP": {
        "ValueError": [POLYNOMIALS, f"{LAYERS}[operator changes the size]", f"{INSIDE}[operator of NCP]"]
    },
    "layers.polynomial.ncp_skip.NCPSkip": {
        "ValueError": [POLYNOMIALS, f"{LAYERS}[operator changes an unknown size]", f"{INSIDE}[operator of NCPSkip]"]
    },
    "layers.generation.noise_injection.NoiseInjection": {"ValueError": [f"{STYLEGAN}[noise]"]},
    "layers.polynomial.polynomial_residual.PolynomialResidual": {
        "ValueError": [
            f"{LAYERS}[{case}]"
            for case in (
                "residual order",
                "branch no layer",
                "shortcut no layer",
                "residual factor no layer",
                "shapes differ",
                "residual factor shape",
            )
        ]
        + [f"{INSIDE}[{place}]" for place in ("branch", "shortcut", "factor")],
    },
    "layers.polynomial.pooled_product.PooledProduct": {
        "ValueError": [
            f"{LAYERS}[{case}]"
            for case in ("pooled order", "pooled factor no layer", "pooled factor width", "pooled vector")
        ]
        + [f"{INSIDE}[factor of a pooled product]"],
    },
    "layers.polynomial.prod_poly.ProdPoly": {
        "ValueError": [f"{LAYERS}[{case}]" for case in ("no polynomials", "the same layer twice")]
        + [f"{INSIDE}[{place}]" for place in ("first polynomial", "second polynomial")],
    },
    "layers.generation.spectral_normalization.SpectralNormalization": {
        "ValueError": [f"{WRAPPERS}[{case}]" for case in ("no layer", "no kernel", "iterations")],
    },
    "layers.mesh.spiral_conv.SpiralConv": {"ValueError": [*OF_SPIRALS]},
    "layers.mesh.spiral_polynomial.SpiralPolynomial": {"ValueError": [*OF_SPIRALS]},
    "layers.generation.style_mixing.StyleMixing": {
        "ValueError": [f"{STYLEGAN}[{case}]" for case in ("styles", "numbers of the styles")],
    },
    "layers.mesh.vertex_resample.VertexResample": {"ValueError": [*OF_SPIRALS]},
    "layers.normalization.vertex_standardization.VertexStandardization": {"ValueError": [*OF_SPIRALS]},
}
