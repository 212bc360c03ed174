"""The tests of the errors that docstrings of `pinets_tf.models` document."""

from tests.documented_errors.provoking import STYLEGAN, Case

TESTED: dict[str, dict[str, list[str | Case]]] = {
    "models.folding.fold_normalization": {
        "ValueError": [
            "tests/models/test_folding.py::test_errors",
            "tests/models/test_changed_weights.py::test_adapters_on_quantised_layers_are_merged_by_saving",
        ]
    },
    "models.linear_generator.linear_generator": {"ValueError": ["tests/models/test_generators.py::test_errors"]},
    "models.mel_front_end.mel_front_end": {"ValueError": ["tests/models/test_mel_front_end.py::test_errors"]},
    "models.mel_front_end.mel_mean_and_variance": {
        "ValueError": ["tests/models/test_mel_front_end.py::test_errors_of_the_statistics"],
    },
    "models.mesh_autoencoder.mesh_autoencoder": {"ValueError": ["tests/models/test_mesh_autoencoder.py::test_errors"]},
    "models.resnet.resnet": {"ValueError": ["tests/models/test_resnet.py::test_errors"]},
    "models.sngan.sngan_generator": {"ValueError": ["tests/models/test_generators.py::test_errors"]},
    "models.sngan.sngan_discriminator": {"ValueError": ["tests/models/test_generators.py::test_errors"]},
    "models.stylegan.stylegan_mapping": {"ValueError": [f"{STYLEGAN}[{case}]" for case in ("width", "layers")]},
    "models.stylegan.stylegan_synthesis": {
        "ValueError": [f"{STYLEGAN}[{case}]" for case in ("base channels", "size", "fade of the generator")],
    },
    "models.stylegan.stylegan_discriminator": {
        "ValueError": [
            f"{STYLEGAN}[{case}]" for case in ("group of the discriminator", "size of the discriminator", "fade")
        ],
    },
    "models.stylegan.stylegan_generator": {"ValueError": [f"{STYLEGAN}[{case}]" for case in ("sizes of w", "mixing")]},
    "models.stylegan.carry_weights": {
        "ValueError": ["tests/models/test_stylegan.py::test_carried_generator_has_its_average"],
    },
}
