"""The report of a classifier: its numbers against counts by hand, its pictures, and what bad input says."""

import numpy as np
import pytest
from matplotlib.image import imread

from pinets_tf.training.report import write_report

NAMES = ("cat", "dog", "cow", "hen", "pig", "bat", "emu")


def scored(predictions, classes):
    """Returns scores whose highest is that of the prediction, all others falling with the class number."""
    scores = np.tile(-np.arange(classes, dtype="float32"), (len(predictions), 1))
    scores[np.arange(len(predictions)), predictions] = 1
    return scores


def test_numbers(tmp_path):
    labels = np.array([0] * 8 + [1] * 4 + [2] * 4 + [6] * 4)
    predictions = np.array([0] * 5 + [2, 2, 1] + [1] * 4 + [2] * 4 + [6, 6, 0, 3])
    text = write_report(labels, scored(predictions, 7), NAMES, tmp_path / "new" / "folder")
    # Of the wrong answers, those for class 0 have it among the five highest, and those for class 6 have it last.
    assert text.splitlines() == [
        "top-1 0.750, top-5 0.900 of 20 samples",
        "lowest recall: emu 0.500 (taken for cat 0.250, hen 0.250)",
        "lowest recall: cat 0.625 (taken for cow 0.250, dog 0.125)",
        "without samples: 3 of 7 classes (hen, pig, bat)",
    ]
    report = (tmp_path / "new" / "folder" / "report.txt").read_text(encoding="utf-8")
    assert report.startswith(text + "\n\n")
    rows = {row.split()[0]: row.split()[1:] for row in report.splitlines() if row.split()[0:1]}
    assert rows["cat"] == ["0.833", "0.625", "0.714", "8"]
    assert rows["cow"] == ["0.667", "1.000", "0.800", "4"]
    assert rows["macro"][-4:] == ["0.825", "0.781", "0.767", "20"]
    assert "pig" not in rows and "nan" not in report


def test_never_answered_class_counts_as_zero(tmp_path):
    write_report([0, 0, 1], scored([0, 0, 0], 2), NAMES[:2], tmp_path)
    assert "dog      0.000     0.000     0.000         1" in (tmp_path / "report.txt").read_text(encoding="utf-8")


def test_all_right(tmp_path):
    assert write_report([0, 1], scored([0, 1], 2), NAMES[:2], tmp_path) == "top-1 1.000 of 2 samples"


def test_equal_scores_are_one_answer_and_no_number_is_none(tmp_path):
    text = write_report([0, 1, 1], [[0.0, 0.0], [0.0, 0.0], [np.nan, -np.inf]], NAMES[:2], tmp_path)
    assert text.splitlines() == [
        "top-1 0.333 of 3 samples",
        "scores that are not numbers: in 1 samples",
        "lowest recall: dog 0.000 (taken for cat 1.000)",
    ]


@pytest.mark.parametrize("classes", [2, 10, 35, 100, 1000])
def test_picture(classes, tmp_path):
    labels = np.repeat(np.arange(classes), 2)
    write_report(labels, scored(np.where(labels % 3, labels, 0), classes), range(classes), tmp_path)
    picture = imread(tmp_path / "confusion.png")
    assert 400 < picture.shape[0] < 2000 and 400 < picture.shape[1] < 2000
    red, blue = picture[..., 0], picture[..., 2]
    # Dark blue where a class is right: one pixel of each row at least, also with a thousand classes.
    dark = (red < 0.2) & (blue > red + 0.2)
    inside = dark[:, : int(picture.shape[1] * 0.85)]
    assert inside.any(1).sum() >= 0.6 * min(classes, 600)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion.png", "report.txt"]


def test_a_class_without_samples_is_grey(tmp_path):
    def grey(labels):
        write_report(labels, scored([0, 1, 1], 3), NAMES[:3], tmp_path)
        picture = imread(tmp_path / "confusion.png")[..., :3]
        return (np.abs(picture - 0.9).max(-1) < 0.01).mean()

    assert grey([0, 1, 2]) < 0.02 and grey([0, 1, 1]) > 0.1


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"scores": np.zeros(3)}, ("of shape (n, classes), n > 0", "scores of shape (3,) and type float64", "output")),
        ({"scores": np.zeros((3, 2), int)}, ("floating-point", "type int64", "Pass the output of the network")),
        ({"scores": np.zeros((0, 2)), "labels": np.zeros(0, int)}, ("n > 0", "scores of shape (0, 2)", "Pass the")),
        ({"labels": [0, 1]}, ("one integer for each sample", "labels of shape (2,)", "for 3 samples", "not one-hot")),
        ({"labels": np.eye(3, 2)}, ("one integer for each sample", "shape (3, 2) and type float64", "class numbers")),
        ({"labels": [0, 1, 2]}, ("must lie in 0 to 1 for 2 classes", "labels from 0 to 2", "from 0 without gaps")),
        ({"labels": [0, 1, -1]}, ("must lie in 0 to 1", "labels from -1 to 1", "Number the classes")),
        ({"class_names": ("cat",)}, ("one name", "1 names for 2 scores a sample", "Pass a name for each score")),
    ],
)
def test_bad_input(tmp_path, changes, words):
    good = {"labels": [0, 1, 1], "scores": np.zeros((3, 2)), "class_names": ("cat", "dog")}
    with pytest.raises(ValueError) as caught:
        write_report(**{**good, **changes}, folder=tmp_path / "report")
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    "module, words",
    [
        (
            "sklearn.metrics",
            r"compared with scikit-learn\. Received: it is not installed.*pip install 'pinets_tf\[examples\]'",
        ),
        (
            "matplotlib.figure",
            r"drawn with matplotlib\. Received: it is not installed.*pip install 'pinets_tf\[examples\]'",
        ),
    ],
)
def test_missing_extra(tmp_path, monkeypatch, module, words):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=words):
        write_report([0, 1], scored([0, 1], 2), NAMES[:2], tmp_path)
