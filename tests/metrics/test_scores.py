"""Inception Score, kernel distance, and the scores of images with their names and their statement."""

import re

import keras
import numpy as np
import pytest

from pinets_tf.metrics import (
    FeatureStatistics,
    InceptionScore,
    KernelInceptionDistance,
    Statement,
    frechet_distance,
    image_features,
    reference_statistics,
    score_images,
    to_uint8,
)

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (90, 4, 4, 3)).astype("uint8")
SEVEN = {
    "network": "a network",
    "resize": "none",
    "rounding": "uint8",
    "images": 50_000,
    "reference": "CIFAR-10 train",
    "splits": 10,
    "weights": "averaged",
}


class Stub:
    """Means of the three channels, and two logits."""

    suffix, network, resize = "-stub", "mean colour", "none"

    def __call__(self, images):
        features = np.asarray(images, "float64").mean((1, 2))
        return features, features[:, :2] / 10


def batches(images=PIXELS, size=20):
    return [images[first : first + size] for first in range(0, len(images), size)]


def scored(given=None, extractor=None, reference=None, **options):
    options = {"images": 90, "reference_split": "noise", "averaged_weights": True, **options}
    reference = reference_statistics(batches(), Stub()) if reference is None else reference
    return score_images(batches() if given is None else given, extractor or Stub(), reference, **options)


def inception_score_at_once(p, splits):
    scores = []
    for part in (p[i * len(p) // splits : (i + 1) * len(p) // splits] for i in range(splits)):
        scores.append(np.exp((part * (np.log(part) - np.log(part.mean(0)))).sum(1).mean()))
    return np.mean(scores), np.std(scores)


@pytest.mark.parametrize("splits", [1, 10])
def test_inception_score_of_odd_batches(splits):
    logits = RNG.normal(size=(97, 5)) * 3 + 1000
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    by_logits, by_probabilities = InceptionScore(97, splits), InceptionScore(97, splits)
    for first, last in ((0, 1), (1, 40), (40, 40), (40, 97)):
        by_logits.update(logits[first:last])
        by_probabilities.update(p[first:last], probabilities=True)
    for score in (by_logits, by_probabilities):
        np.testing.assert_allclose(score.result(), inception_score_at_once(p, splits), rtol=1e-12)


def test_inception_score_at_its_bounds():
    certain, undecided, hidden = InceptionScore(70), InceptionScore(70), InceptionScore(70)
    certain.update(np.tile(np.eye(7), (10, 1)), probabilities=True)
    undecided.update(np.full((70, 7), 3.5))
    with np.errstate(divide="ignore"):
        hidden.update(np.log(np.tile(np.eye(7), (10, 1))))
    np.testing.assert_allclose(certain.result(), (7, 0), atol=1e-12)
    np.testing.assert_allclose(undecided.result(), (1, 0), atol=1e-12)
    np.testing.assert_allclose(hidden.result(), (7, 0), atol=1e-12)


def test_errors_of_the_inception_score():
    with pytest.raises(ValueError, match=r"`images` must be a positive integer. Received: images=0. Pass how many"):
        InceptionScore(0)
    with pytest.raises(ValueError, match=r"split has an image. Received: images=9 for splits=10.*fewer splits"):
        InceptionScore(9)
    score = InceptionScore(20)
    score.update(np.zeros((15, 4)))
    for wrong, words in (
        (np.zeros((2, 3)), r"of shape \(n, 4\). Received: shape \(2, 3\).*one network"),
        (np.zeros((6, 4)), r"made for 20 images. Received: 21. Pass images=21"),
        (np.full((2, 4), np.nan), r"numbers below infinity. Received: 2 of 2 rows.*weights of the network"),
    ):
        with pytest.raises(ValueError, match=words):
            score.update(wrong)
    with pytest.raises(ValueError, match=r"not negative and sum to 1.*from -2 to 3.*without probabilities=True"):
        score.update(np.array([[-2.0, 3.0, 0.0, 0.0]]), probabilities=True)
    with pytest.raises(ValueError, match=r"that of all 20 images. Received: 15 so far.*images=15"):
        score.result()


def squared_mmd_by_pairs(x, y):
    def mean(a, b, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return np.mean([(a[i] @ b[j] / len(a[i]) + 1) ** 3 for i, j in pairs])

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


def test_kernel_distance_of_all_is_that_of_the_pairs():
    x, y = RNG.normal(size=(12, 5)), RNG.normal(size=(12, 5)) + 1
    distance = KernelInceptionDistance(y, subsets=3, subset_size=12)
    distance.update(x[:5])
    distance.update(x[5:])
    mean, deviation = distance.result()
    assert mean == pytest.approx(squared_mmd_by_pairs(x, y), rel=1e-5) and deviation < 1e-6


def test_kernel_distance_of_one_distribution_is_unbiased():
    distances = []
    for _ in range(40):
        x, y = RNG.normal(size=(2, 60, 4))
        distance = KernelInceptionDistance(y, subsets=1, subset_size=50)
        distance.update(x)
        distances.append(distance.result()[0])
    # The biased estimator, with pairs of a vector with itself, is 0.44 here.
    assert min(distances) < 0 < max(distances)
    assert abs(np.mean(distances)) < 4 * np.std(distances) / np.sqrt(40) < 0.1


def test_kernel_distance_follows_from_its_seed():
    x, y = RNG.normal(size=(2, 60, 4))
    results = []
    for seed in (1, 1, 2):
        distance = KernelInceptionDistance(y, subsets=5, subset_size=20, seed=seed)
        for part in np.split(x, 1 + len(results)):
            distance.update(part)
        results.append(distance.result())
    assert results[0] == results[1] != results[2]


def test_few_images_for_the_kernel_distance():
    distance = KernelInceptionDistance(RNG.normal(size=(9, 4)))
    with pytest.raises(ValueError, match=r"two images or more. Received: 0 for a reference of 9\. Pass features"):
        distance.result()
    distance.update(RNG.normal(size=(30, 4)))
    with pytest.warns(
        UserWarning, match=r"has 1000 images of each side. Received: 30 for a reference of 9\..* 9 here.*subset_size=9"
    ):
        assert distance.result()[1] > 0


def test_rounding():
    x = np.array([-1.0, -1 / 255, 1 / 255, 0.999, 1.0, 1.5, -7.0], "float32")
    np.testing.assert_array_equal(to_uint8(x), [0, 127, 128, 255, 255, 255, 0])
    every = np.arange(256, dtype="uint8")
    np.testing.assert_array_equal(to_uint8(keras.ops.convert_to_tensor(every / 127.5 - 1, "float32")), every)
    np.testing.assert_array_equal(to_uint8(keras.ops.convert_to_tensor([-1.0, 1.0], "bfloat16")), [0, 255])
    with pytest.raises(ValueError, match=r"floating point numbers in \[-1, 1\].*type uint8.*as they are"):
        to_uint8(every)
    with pytest.raises(ValueError, match=r"finite numbers. Received: 1 of 2 numbers.*earlier checkpoint"):
        to_uint8(np.array([0.0, np.nan]))


def test_scores_have_the_names_of_their_network():
    scores = scored(reference_features=RNG.normal(size=(50, 3)), kernel_options={"subset_size": 50, "subsets": 4})
    names = ["FID-stub", "IS-stub", "IS-stub deviation", "KID-stub", "KID-stub deviation"]
    assert list(scores.values) == names and all(isinstance(value, float) for value in scores.values.values())
    assert scores.values["FID-stub"] < 1e-9
    lines = str(scores).splitlines()
    assert len(lines) == 6 and lines[-1] == str(scores.statement)
    stub = Stub()
    stub.suffix = ""
    with pytest.raises(ValueError, match=r"scores of the 2015 Inception graph.*Stub with suffix=''.*names its network"):
        scored(extractor=stub)


def test_scores_are_of_the_first_images_whatever_the_batches():
    reference = reference_statistics(batches(PIXELS[45:], 7), Stub())
    first = FeatureStatistics()
    first.update(Stub()(PIXELS[:33])[0])
    score = InceptionScore(33)
    score.update(Stub()(PIXELS[:33])[1])

    def endless():
        while True:
            yield from batches(size=15)

    values = scored(endless(), reference=reference, images=33).values
    assert values["FID-stub"] == pytest.approx(frechet_distance(first, reference), rel=1e-9)
    assert values["IS-stub"] == pytest.approx(score.result()[0], rel=1e-12)


def test_reference_from_a_file_and_of_another_network(tmp_path):
    reference_statistics(batches(), Stub(), images=60).save(tmp_path / "reference.npz")
    scores = scored(reference=str(tmp_path / "reference.npz"))
    assert "reference: noise (60 images)" in str(scores) and scores.values["FID-stub"] > 0
    other = Stub()
    other.resize = "to 8x8"
    words = r"the same extractor. Received: a reference of 'mean colour; none' for 'mean colour; to 8x8'. Make"
    with pytest.raises(ValueError, match=words):
        scored(extractor=other, reference=tmp_path / "reference.npz")


def test_statement_has_seven_things():
    line = str(scored(splits=5).statement)
    assert line == (
        "network: mean colour; resize: none; rounding: uint8, before the network; images: 90; "
        "reference: noise (90 images); IS splits: 5; weights: averaged"
    )
    assert str(Statement(**SEVEN)).count(":") == 7
    for name in SEVEN:
        for blank in (None, " "):
            with pytest.raises(ValueError, match=rf"are stated. Received: a statement without {name}. State it"):
                Statement(**{**SEVEN, name: blank})
        with pytest.raises(TypeError, match=name):
            Statement(**{key: value for key, value in SEVEN.items() if key != name})


@pytest.mark.parametrize(
    "options, words",
    [
        ({"averaged_weights": None}, r"weights of the generator are averaged.*averaged_weights=None.*True or False"),
        ({"reference_split": ""}, r"are stated. Received: a statement without reference\. State it"),
        ({"images": 91}, r"as many images as are scored. Received: 90 in `batches` for images=91.*images=90"),
        ({"images": 0}, r"`images` must be a positive integer"),
        ({"reference": PIXELS}, r"is a FeatureStatistics, or the path.*a ndarray.*reference_statistics"),
    ],
)
def test_errors_of_scores(options, words):
    with pytest.raises(ValueError, match=words):
        scored(**options)


def test_errors_of_the_kernel_distance():
    features = RNG.normal(size=(9, 4))
    for options in ({"subsets": 0}, {"subset_size": 1.5}):
        name, value = next(iter(options.items()))
        with pytest.raises(
            ValueError, match=rf"`{name}` must be a positive integer. Received: {name}={value}. Pass 10"
        ):
            KernelInceptionDistance(features, **options)
    with pytest.raises(ValueError, match=r"of shape \(n, d\). Received: shape \(4,\). Pool over positions"):
        KernelInceptionDistance(features[0])
    with pytest.raises(ValueError, match=r"are finite numbers. Received: 9 of 9 rows with others. Look at the images"):
        KernelInceptionDistance(features * np.nan)
    distance = KernelInceptionDistance(features[:1])
    distance.update(features)
    with pytest.raises(ValueError, match=r"two images or more. Received: 9 for a reference of 1. Pass features"):
        distance.result()


def test_errors_of_images_and_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Statistics are .* Received: 'none.npz', which is not in .* Pass the"):
        scored(reference=tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"scored as uint8.* Received: images of type float64. Round them first"):
        scored(batches(PIXELS / 255))
    with pytest.raises(ValueError, match=r"as many images .* Received: 90 in `batches` for images=91. Generate more"):
        list(image_features(batches(), Stub(), 91))
    with pytest.raises(ValueError, match=r"different images.* Received: a batch of 20 .* came before.* Draw new"):
        list(image_features(batches(np.concatenate([PIXELS[:20]] * 2)), Stub(), 40))


def test_no_inception_score_without_logits():
    stub = Stub()
    stub_call = Stub.__call__

    class NoLogits(Stub):
        def __call__(self, images):
            return stub_call(stub, images)[0], None

    with pytest.raises(ValueError, match=r"of class predictions.*without logits, mean colour.*splits=None"):
        scored(extractor=NoLogits())
    scores = scored(extractor=NoLogits(), splits=None)
    assert list(scores.values) == ["FID-stub"] and re.search("IS splits: no IS", str(scores))
