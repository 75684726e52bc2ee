"""A few of the many broken files that `python -m tests.data.fuzz` makes."""

from tests.data.fuzz import fuzz


def test_every_damaged_raw_file_is_refused_with_a_reason_or_becomes_a_valid_clip(tmp_path):
    for name, counts in fuzz(tmp_path, 25).items():
        assert set(counts) <= {"clip", "refused"}, (name, counts)
        assert counts["refused"] > 5, (name, counts)
