"""How long the statistics of FID take, from features to the distance, and what streaming costs.

    python benchmarks/metrics.py

10,000 rows of features in batches of 100, as float32, with the decaying variances that features of networks have:
1,280 of EfficientNet-Lite0 and 2,048 of the 2015 Inception. *FID* is `FeatureStatistics` over all batches and
`frechet_distance` to a reference whose root is not known yet, as in a first evaluation. The ratio is the updates and
the covariance alone over `numpy.cov` of all rows at once, in float64.

Beside other work on the same cores LAPACK with a thread for each of them is several times slower than with one; set
OPENBLAS_NUM_THREADS=1 there.
"""

import argparse

import numpy as np
from timing import Claim, Ratio, interleave, machine, print_table

from pinets_tf.metrics import FeatureStatistics, frechet_distance

IMAGES, BATCH = 10_000, 100
SIZES = {"1,280 features": 1280, "2,048 features": 2048}
SECONDS, STREAMING = Claim("<=", 20.0), Claim("<=", 1.50)


def drawn(size, seed):
    random = np.random.default_rng(seed)
    mix = np.linalg.qr(random.standard_normal((size, size)))[0].astype("float32")
    deviations = np.exp(-np.linspace(0, 8, size, dtype="float32"))
    return random.standard_normal((IMAGES, size), "float32") * deviations @ mix + 1


def streamed(features):
    result = FeatureStatistics()
    for first in range(0, len(features), BATCH):
        result.update(features[first : first + BATCH])
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timings of each function")
    rounds = parser.parse_args().rounds

    rows, lines = [], []
    for name, size in SIZES.items():
        features, reference = drawn(size, 0), drawn(size, 1)
        moments = streamed(reference)
        mean, covariance = moments.mean, moments.covariance
        functions = {
            "streaming": lambda features=features: streamed(features).covariance,
            "at once": lambda features=features: np.cov(features, rowvar=False, dtype=np.float64),
            "FID": lambda features=features, mean=mean, covariance=covariance: frechet_distance(
                streamed(features), FeatureStatistics.of(mean, covariance, IMAGES)
            ),
        }
        times = interleave(functions, rounds)
        rows.append((f"streaming / numpy.cov, {name}", times.ratio("streaming", to="at once"), STREAMING))
        seconds = Ratio.of(times.seconds["FID"])
        lines.append(
            f"FID of {name}: {seconds.median:.1f} s ({seconds.low:.1f}-{seconds.high:.1f}), "
            f"claim {SECONDS} s, {SECONDS.verdict(seconds)}"
        )
    print_table(rows, f"{machine()}; {IMAGES:,} images, batches of {BATCH}, {rounds} rounds")
    for line in lines:
        print(line)


if __name__ == "__main__":
    main()
