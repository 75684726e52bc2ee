"""Simulated runs on several cameras: intervals and tests with performances as groups have the stated coverage."""

import pytest

from benchmarks import coverage


@pytest.fixture(scope="module")
def rates():
    return {grouped: coverage.simulate(grouped, repeats=1000, seed=1) for grouped in (False, True)}


def test_grouped_intervals_cover_the_truth_in_93_to_97_percent(rates):
    assert 93 <= rates[True].accuracy <= 97 and 93 <= rates[True].difference <= 97


def test_the_grouped_test_rejects_equal_runs_in_3_to_7_percent(rates):
    assert 3 <= rates[True].rejection <= 7


def test_intervals_of_clips_taken_as_independent_are_too_narrow(rates):
    assert rates[False].accuracy < 91 and rates[False].difference < 91 and rates[False].rejection > 9


def test_the_command_prints_both(capsys):
    coverage.act(["--repeats", "3"])
    assert "| clips |" in (out := capsys.readouterr().out) and "| performances |" in out
