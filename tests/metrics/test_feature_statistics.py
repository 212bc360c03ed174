"""Mean, covariance and the distance of two of them, against NumPy, SciPy and closed forms."""

import warnings

import numpy as np
import pytest
from scipy import linalg

from pinets_tf.metrics import FeatureStatistics, frechet_distance

RNG = np.random.default_rng(0)


def statistics_of(features):
    statistics = FeatureStatistics()
    statistics.update(features)
    return statistics


def by_square_root(first, second):
    root = linalg.sqrtm(first.covariance @ second.covariance).real
    trace = np.trace(first.covariance + second.covariance - 2 * root)
    return np.square(first.mean - second.mean).sum() + trace


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_odd_batches_are_one_set(offset):
    features = RNG.normal(size=(2500, 7)) @ RNG.normal(size=(7, 7)) + offset * np.arange(7)
    statistics = FeatureStatistics()
    for part in np.split(features, [1, 1, 4, 1100, 2499]):
        statistics.update(part)
    assert statistics.count == 2500 and statistics.covariance.dtype == np.float64
    np.testing.assert_allclose(statistics.mean, features.mean(0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(statistics.covariance, np.cov(features, rowvar=False), rtol=1e-9, atol=1e-9)


def test_reading_in_between_changes_nothing():
    features = RNG.normal(size=(60, 4))
    looked_at = FeatureStatistics()
    for part in np.split(features, 6):
        looked_at.update(part)
        before = looked_at.covariance
    assert not np.array_equal(before[:2], features[:2])
    np.testing.assert_allclose(looked_at.covariance, np.cov(features, rowvar=False), rtol=1e-12)


@pytest.mark.parametrize("size", [1, 6, 40])
def test_distance_is_that_of_the_matrix_square_root(size):
    first, second = (statistics_of(RNG.normal(size=(200, size)) @ RNG.normal(size=(size, size))) for _ in range(2))
    assert frechet_distance(first, second) == pytest.approx(by_square_root(first, second), rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(by_square_root(first, second), rel=1e-9)


def test_distance_of_gaussians_with_common_axes():
    axes = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    first, second = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0.1, 2.0, 9.0, 1.0, 0.5])
    pair = [FeatureStatistics.of(mean, axes * values @ axes.T) for mean, values in zip(axes[:2], (first, second))]
    assert frechet_distance(*pair) == pytest.approx(2 + np.square(np.sqrt(first) - np.sqrt(second)).sum(), rel=1e-12)


def test_equal_sets_have_no_distance():
    # Variances over twelve orders of magnitude, as features of networks have.
    features = RNG.normal(size=(400, 100)) * np.logspace(0, -6, 100) @ np.linalg.qr(RNG.normal(size=(100, 100)))[0]
    first, second = statistics_of(features), statistics_of(features[::-1])
    assert frechet_distance(first, second) < 1e-10 * np.trace(first.covariance)


def test_more_noise_is_farther():
    features = RNG.normal(size=(500, 20)) @ RNG.normal(size=(20, 20))
    reference, noise = statistics_of(features), RNG.normal(size=features.shape)
    distances = [frechet_distance(statistics_of(features + level * noise), reference) for level in (0.5, 1.0, 2.0)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_fewer_images_than_features_warns_and_is_right():
    # Of n images the nonzero eigenvalues of S_1 S_2 are those of a matrix (n, n), whose root SciPy takes exactly.
    few, many = RNG.normal(size=(12, 30)), RNG.normal(size=(300, 30)) + 0.5
    first, second = statistics_of(few), statistics_of(many)
    centred = (few - few.mean(0)) / np.sqrt(11)
    small = centred @ second.covariance @ centred.T
    shared = np.sqrt(np.clip(linalg.eigvalsh(small), 0, None)).sum()
    truth = np.square(first.mean - second.mean).sum() + np.trace(first.covariance + second.covariance) - 2 * shared
    with pytest.warns(
        UserWarning, match=r"of 30 features needs at least 31 images. Received: 12 in the first .*take more.*\(KID\)"
    ):
        assert frechet_distance(first, second) == pytest.approx(truth, rel=1e-7)
    with pytest.warns(UserWarning, match="needs at least 31 images"):
        assert frechet_distance(first, first) < 1e-9


def test_singular_covariance_warns_and_is_right():
    narrow = RNG.normal(size=(300, 4)) * [1.0, 2.0, 3.0, 0.0]
    first, second = statistics_of(narrow), FeatureStatistics.of(np.zeros(4), np.diag([4.0, 1.0, 1.0, 9.0]))
    # Beside a diagonal covariance that is singular as well: the closed form, on three axes.
    third = FeatureStatistics.of(np.ones(4), np.diag([1.0, 1.0, 0.0, 0.0]))
    with pytest.warns(UserWarning, match=r"has the rank 4. Received: rank 3 in the first .*The distance is right"):
        distance = frechet_distance(first, second)
    regular = FeatureStatistics.of(first.mean, first.covariance + 1e-14 * np.eye(4))
    assert distance == pytest.approx(by_square_root(regular, second), abs=1e-5)
    with pytest.warns(UserWarning, match="rank 2 in the first"):
        assert frechet_distance(third, second) == pytest.approx(4 + 1 + 0 + 1 + 9, rel=1e-12)
    with pytest.warns(UserWarning, match="rank 0 in the first"):
        assert frechet_distance(FeatureStatistics.of(np.zeros(2), np.zeros((2, 2))), third_of(2)) == pytest.approx(2.0)


def third_of(size):
    return FeatureStatistics.of(np.zeros(size), np.eye(size))


def test_no_warning_where_there_are_enough():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(statistics_of(RNG.normal(size=(6, 5))), statistics_of(RNG.normal(size=(60, 5))))


def test_saved_statistics_go_on_where_they_were(tmp_path):
    features, path = RNG.normal(size=(50, 3)), tmp_path / "new" / "statistics.npz"
    first = FeatureStatistics("a network")
    first.update(features[:20])
    first.save(path)
    first.save(path)
    assert [file.name for file in path.parent.iterdir()] == ["statistics.npz"]
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["mu"], first.mean)
        np.testing.assert_array_equal(file["sigma"], first.covariance)
    again = FeatureStatistics.load(path)
    assert again.source == "a network" and again.count == 20 and again.features == 3
    again.update(features[20:])
    np.testing.assert_allclose(again.covariance, np.cov(features, rowvar=False), rtol=1e-12)
    with pytest.raises(ValueError, match=r"saved as an \.npz file.*statistics\.pickle.*end in \.npz"):
        first.save(tmp_path / "statistics.pickle")


def test_file_of_another_tool(tmp_path):
    features = RNG.normal(size=(40, 3)).astype("float32")
    np.savez(tmp_path / "other.npz", mu=features.mean(0), sigma=np.cov(features, rowvar=False).astype("float32"))
    other = FeatureStatistics.load(str(tmp_path / "other.npz"))
    assert other.count is None and other.source is None and other.mean.dtype == np.float64
    assert frechet_distance(other, statistics_of(features)) < 1e-6
    other.save(tmp_path / "copy.npz")
    with np.load(tmp_path / "copy.npz") as file:
        assert sorted(file.files) == ["mu", "sigma"]
    with pytest.raises(ValueError, match=r"number of their features is known.*without `count`.*Begin anew"):
        other.update(features)


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"mu": np.zeros(3)}, ("arrays mu (d,) and sigma", "without sigma", "not features or images")),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, ("one of (d, d)", "(3,) and (4, 4)", "again")),
        ({"mu": np.zeros(3, int), "sigma": np.eye(3)}, ("floating point", "types int64 and float64", "again")),
        ({"mu": np.zeros(2), "sigma": np.diag([1, np.nan])}, ("finite", "numbers that are not finite", "again")),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 0.5], [0.0, 1.0]])}, ("is symmetric", "by 0.5", "again")),
        ({"mu": np.zeros(2), "sigma": np.eye(2), "count": 1}, ("at least two features", "count=1", "or None")),
        ({"mu": np.array([None]), "sigma": np.eye(1)}, ("sigma (d, d)", "cannot be read", "Python objects")),
    ],
)
def test_wrong_files(tmp_path, arrays, words):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError) as caught:
        FeatureStatistics.load(tmp_path / "wrong.npz")
    for word in (*words, "wrong.npz"):
        assert word in str(caught.value)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'none.npz', which is not in .*or make it with reference_statistics"):
        FeatureStatistics.load(tmp_path / "none.npz")
    path = tmp_path / "broken.npz"
    third_of(5).save(path)
    content = path.read_bytes()
    for wrong in (b"", content[:40], content[: len(content) // 2], content[:-3], b"no archive"):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=rf"{len(wrong):,} bytes\), which cannot be read .*copy it again"):
            FeatureStatistics.load(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"which cannot be read .*not an \.npz"):
        FeatureStatistics.load(path)


def test_errors_of_features():
    statistics = statistics_of(RNG.normal(size=(1, 3)))
    with pytest.raises(ValueError, match=r"of shape \(n, 3\).*shape \(2, 4\).*one network"):
        statistics.update(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"of shape \(n, d\).*shape \(2, 7, 7, 4\).*Pool over positions"):
        FeatureStatistics().update(np.zeros((2, 7, 7, 4)))
    with pytest.raises(ValueError, match=r"are finite numbers.*1 of 2 rows.*weights of the network"):
        statistics.update(np.array([[0.0, 1.0, 2.0], [0.0, np.inf, 2.0]]))
    with pytest.raises(ValueError, match=r"covariance is of at least 2 features. Received: 1\. Pass features"):
        _ = statistics.covariance
    with pytest.raises(ValueError, match=r"mean is of at least 1 feature. Received: 0\. Pass features"):
        _ = FeatureStatistics().mean
    with pytest.raises(ValueError, match=r"of one network.*3 and 2 features.*same extractor"):
        frechet_distance(statistics, third_of(2))
    with pytest.raises(ValueError, match=r"covariance is of at least 2 features. Received: 1. Pass features"):
        frechet_distance(statistics, statistics_of(RNG.normal(size=(9, 3))))
    with pytest.raises(ValueError, match=r"mean is of at least 1 feature. Received: 0. Pass features"):
        FeatureStatistics().save("statistics.npz")
