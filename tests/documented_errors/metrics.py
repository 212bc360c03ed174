"""The tests of the errors that docstrings of `pinets_tf.metrics` document."""

from tests.documented_errors.provoking import Case

TESTED: dict[str, dict[str, list[str | Case]]] = {
    "metrics.efficientnet_lite0.EfficientNetLite0": {
        "FileNotFoundError": ["tests/metrics/test_extractors.py::test_wrong_files_of_efficientnet"],
        "ValueError": ["tests/metrics/test_extractors.py::test_wrong_files_of_efficientnet"],
    },
    "metrics.feature_statistics.FeatureStatistics": {
        "ValueError": ["tests/metrics/test_feature_statistics.py::test_errors_of_features"],
    },
    "metrics.feature_statistics.FeatureStatistics.save": {
        "ValueError": [
            "tests/metrics/test_feature_statistics.py::test_saved_statistics_go_on_where_they_were",
            "tests/metrics/test_feature_statistics.py::test_errors_of_features",
        ],
    },
    "metrics.feature_statistics.FeatureStatistics.load": {
        "FileNotFoundError": ["tests/metrics/test_feature_statistics.py::test_missing_and_broken_files"],
        "ValueError": [
            "tests/metrics/test_feature_statistics.py::test_missing_and_broken_files",
            "tests/metrics/test_feature_statistics.py::test_wrong_files",
        ],
    },
    "metrics.frechet_distance.frechet_distance": {
        "ValueError": ["tests/metrics/test_feature_statistics.py::test_errors_of_features"],
    },
    "metrics.inception_2015.Inception2015": {
        "FileNotFoundError": ["tests/metrics/test_extractors.py::test_wrong_files_of_inception"],
        "ImportError": ["tests/metrics/test_extractors.py::test_inception_without_tensorflow"],
        "ValueError": ["tests/metrics/test_extractors.py::test_wrong_files_of_inception"],
    },
    "metrics.inception_score.InceptionScore": {
        "ValueError": ["tests/metrics/test_scores.py::test_errors_of_the_inception_score"],
    },
    "metrics.keras_extractor.KerasExtractor": {
        "ValueError": [
            "tests/metrics/test_extractors.py::test_errors_of_a_keras_extractor",
            "tests/metrics/test_extractors.py::test_errors_of_images",
        ],
    },
    "metrics.kernel_distance.KernelInceptionDistance": {
        "ValueError": [
            "tests/metrics/test_scores.py::test_errors_of_the_kernel_distance",
            "tests/metrics/test_scores.py::test_few_images_for_the_kernel_distance",
        ],
    },
    "metrics.pixels.to_uint8": {"ValueError": ["tests/metrics/test_scores.py::test_rounding"]},
    "metrics.scores.score_images": {
        "FileNotFoundError": ["tests/metrics/test_scores.py::test_errors_of_images_and_files"],
        "ValueError": [
            "tests/metrics/test_scores.py::test_errors_of_scores",
            "tests/metrics/test_scores.py::test_errors_of_images_and_files",
            "tests/metrics/test_scores.py::test_no_inception_score_without_logits",
            "tests/metrics/test_scores.py::test_reference_from_a_file_and_of_another_network",
            "tests/training/test_gan_report.py::test_copies_of_a_batch_are_not_scored",
        ],
    },
    "metrics.scores.image_features": {"ValueError": ["tests/metrics/test_scores.py::test_errors_of_images_and_files"]},
    "metrics.statement.Statement": {"ValueError": ["tests/metrics/test_scores.py::test_statement_has_seven_things"]},
}
