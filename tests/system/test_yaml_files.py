"""YAML files of bounded size, depth and expansion, with unique text keys."""

import pytest

from torchlight.system.yaml_files import parse_yaml, read_yaml


def bomb(levels: int, width: int, open_: str = "[", close: str = "]", item: str = "{}") -> str:
    """Lists (or mappings) in which every level refers `width` times to the one before."""
    lines = ["a0: &a0 x"]
    for i in range(1, levels + 1):
        inner = ", ".join(item.format(f"*a{i - 1}", i=j) for j in range(width))
        lines.append(f"a{i}: &a{i} {open_}{inner}{close}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "the key a appears twice"),
        ("a: {1: 2}", "expected a name as key, got 1"),
        ("null: 2", "expected a name as key"),
        ("[a]: 2", "expected a name as key, got a collection"),
        ("a: &a {x: *a}", "contains itself"),
        ("[" * 20_000, "more than 32 levels"),
        ("{a: " * 3_000, "more than 32 levels"),
        ("[" * 40 + "]" * 40, "more than 32 levels"),
        (bomb(9, 9), "more than 20000 values"),
        (bomb(40, 1), "more than 32 levels"),
        ("a: [" + "1, " * 30_000 + "1]", "more than 20000 values"),
        (bomb(13, 4, "{", "}", "k{i}: {}"), "more than 20000 values"),
        ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("a: [1", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("x" * 2_000_000, "expected at most"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: 2026-99-99", "not valid YAML"),
    ],
)
def test_yaml_without_bounds_or_with_ambiguous_keys_is_refused(text, words):
    with pytest.raises(ValueError, match="^x.yaml: ") as error:
        parse_yaml(text, "x.yaml")
    assert words in str(error.value) and len(str(error.value)) < 500


def test_aliases_and_merge_keys_of_ordinary_files_are_read(tmp_path):
    (tmp_path / "x.yaml").write_text("base: &b {lr: 0.1, step: [1, 2]}\nrun: {<<: *b, lr: 0.2}\nsame: *b\nname: né\n")
    assert read_yaml(tmp_path / "x.yaml") == {
        "base": {"lr": 0.1, "step": [1, 2]},
        "run": {"lr": 0.2, "step": [1, 2]},
        "same": {"lr": 0.1, "step": [1, 2]},
        "name": "né",
    }
    assert parse_yaml("", "x") is None
