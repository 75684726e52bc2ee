"""Score files: written and read unchanged, joined by name, and refused if they are invalid."""

import logging
import os
import pickle

import numpy as np
import pytest

from torchlight.training.scores import align, is_correct, read_scores, top_k, write_scores

NAMES = np.array(["b", "a", "c"])
ROWS = np.arange(12.0).reshape(3, 4)


def as_dict(keys, rows=ROWS):
    return dict(zip(keys, rows, strict=True))


def test_written_scores_are_read_again_under_their_names(tmp_path):
    write_scores(tmp_path / "s.pkl", NAMES, ROWS)
    assert np.array_equal(align(read_scores(tmp_path / "s.pkl"), NAMES, 4, "s.pkl"), ROWS)
    plain = pickle.loads((tmp_path / "s.pkl").read_bytes())
    assert list(plain) == ["b", "a", "c"] and plain["a"].dtype == np.float32


@pytest.mark.parametrize(
    ("names", "value", "message"),
    [(["b", "a", "b"], 0, "unique sample names, got 'b' twice"), (NAMES, np.nan, "finite"), (NAMES, 1e39, "finite")],
)
def test_scores_that_a_reader_would_refuse_are_not_written(names, value, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_scores(tmp_path / "s.pkl", np.array(names), ROWS + value)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "s.pkl", "wb") as file:
        file.truncate(5 * 2**30)
    with pytest.raises(ValueError, match="s.pkl: expected at most 4294967296 bytes of scores, got 5368709120"):
        read_scores(tmp_path / "s.pkl")


def test_shuffled_samples_are_joined_by_name():
    shuffled = as_dict(NAMES[[2, 0, 1]].tolist(), ROWS[[2, 0, 1]])
    assert np.array_equal(align(shuffled, NAMES, 4, "s"), ROWS)


@pytest.mark.parametrize("keys", [[2, 0, 1], ["test_2", "test_0", "test_1"], ["test_2", 0, "test_1"]])
def test_numbers_are_positions_with_a_warning(keys, caplog):
    with caplog.at_level(logging.WARNING, "torchlight"):
        logging.getLogger("torchlight").propagate = True
        aligned = align(as_dict(keys, ROWS[[2, 0, 1]]), NAMES, 4, "s.pkl")
    assert np.array_equal(aligned, ROWS)
    assert "s.pkl: the keys are positions" in caplog.text


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (as_dict(["b", "a"], ROWS[:2]), r"the 3 samples of the test part, got 1 missing \(first: 'c'\)"),
        (as_dict(["b", "a", "c", "d"], ROWS[[0, 1, 2, 0]]), r"1 not in the test part \(first: 'd'\)"),
        (as_dict(["b", "A", "c"]), r"1 missing \(first: 'a'\) and 1 not in the test part \(first: 'A'\)"),
        (as_dict([0, 1, 3]), "1 missing .* and 1 not in the test part"),
        (as_dict([0, 1, -1]), "1 missing .* and 1 not in the test part"),
        (as_dict([0, 1, "test_1"]), "each position once, got one of them under two keys"),
        (as_dict(NAMES.tolist(), ROWS[:, :3]), "expected scores of 4 classes, got 3"),
        (as_dict(["b", "a"], ROWS[:2, :3]), r"scores of 4 classes, got 3(.|\n)*1 missing"),
    ],
)
def test_scores_of_another_test_set_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        align(scores, NAMES, 4, "s.pkl")


def test_a_name_that_occurs_twice_in_the_data_is_refused():
    with pytest.raises(ValueError, match=r"1 twice in the data \(first: 'a'\)"):
        align(as_dict(["a", "c"], ROWS[:2]), np.array(["a", "a", "c"]), 4, "s.pkl")


class Evil:
    """A pickle that runs a command when it is read."""

    def __reduce__(self):
        return os.mkdir, ("pwned",)


def object_array() -> np.ndarray:
    array = np.empty(1, object)
    array[0] = Evil()
    return array


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "content", [Evil(), {"a": Evil()}, {"a": [(1, {"b": Evil()})]}, {"a": object_array()}, {Evil: ROWS[0]}]
)
def test_a_malicious_pickle_is_refused_and_no_code_in_it_runs(content, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(ValueError, match="evil.pkl: not a pickle of plain data .*; nothing in it was run"):
        read_scores("evil.pkl")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], r"expected a non-empty dict .*, got \[1, 2\]"),
        ({}, r"expected a non-empty dict .*, got \{\}"),
        ({"a": "text"}, "sample 'a': expected a vector of numbers, got 'text'"),
        ({"a": ROWS}, r"sample 'a': expected a vector of numbers, got float64 of shape \(3, 4\)"),
        ({"a": np.array([1, np.nan])}, "sample 'a': expected finite float32 numbers"),
        ({"a": np.array([1, -1e39])}, "sample 'a': expected finite float32 numbers"),
        ({"a": [1, [2]]}, r"sample 'a': expected a vector of numbers, got \[1, \[2\]\]"),
        ({"a": [1, 10**30]}, "sample 'a': expected a vector of numbers"),
        ({"a": np.zeros(2, complex)}, "sample 'a': expected a vector of numbers, got complex128"),
        ({"a": np.zeros(0)}, "sample 'a': expected 1 to 100000 numbers, got 0"),
        ({"a": np.zeros(10**7, np.int8)}, "sample 'a': expected 1 to 100000 numbers, got 10000000"),
        ({"a" * 500: np.array([np.nan])}, r"sample 'a{20,50}\.\.\.a{20,50}': expected finite"),
        ({5: ROWS[0], "5": ROWS[0]}, "expected each sample once, got 5 and '5'"),
        ({10**30: ROWS[0]}, "expected sample names or positions as keys"),
        (dict.fromkeys(range(3000), np.zeros(100_000, np.int8)), "expected at most 268435456 scores, got 3000 samples"),
        ({"a": np.array([{}], object)}, "expected a numeric or string array"),
        ({"a": ROWS[0], "b": ROWS[0, :2]}, "sample 'b': expected 4 scores as in the first, got 2"),
        ({True: ROWS[0]}, r"as keys, got True \(bool\)"),
        ({1.5: ROWS[0]}, r"as keys, got 1.5 \(float\)"),
    ],
)
def test_anything_but_equally_long_finite_vectors_is_refused(content, message, tmp_path):
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_scores(tmp_path / "s.pkl")


def test_a_missing_or_damaged_file_is_an_error_with_its_name(tmp_path):
    with pytest.raises(ValueError, match="s.pkl: cannot be read"):
        read_scores(tmp_path / "s.pkl")
    write_scores(tmp_path / "s.pkl", NAMES, ROWS)
    (tmp_path / "s.pkl").write_bytes((tmp_path / "s.pkl").read_bytes()[:-20])
    with pytest.raises(ValueError, match="s.pkl: not a pickle of plain data"):
        read_scores(tmp_path / "s.pkl")


def test_top_k_counts_labels_among_the_k_highest_and_ties_against_them():
    scores = np.array([[3, 2, 1], [1, 3, 2], [1, 1, 1], [0, 1, 1]])
    label = np.array([0, 2, 0, 1])
    assert is_correct(scores, label).tolist() == [True, False, False, False]
    assert [top_k(scores, label, k) for k in (1, 2, 3)] == [25.0, 75.0, 100.0]


def test_nan_is_never_correct():
    values = np.array([[np.nan, np.nan, np.nan], [0.0, np.nan, 1.0], [0.0, 1.0, 2.0]])
    assert is_correct(values, np.array([0, 2, 2])).tolist() == [False, False, True]
