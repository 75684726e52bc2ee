"""Text for people: suggestions for misspelled words, values in messages, tables."""

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 3


def nearest(word: str, known: Iterable[str], limit: int = 12) -> str:
    """'did you mean ...?' with the nearest known word. If no word is near: all known words, or the three nearest ones
    if there are more than `limit`.

    >>> nearest("jont", ["joint", "bone"])
    'did you mean joint?'
    >>> nearest("x", ["joint", "bone"])
    'known: joint, bone'
    """
    known = list(known)
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    if len(known) > limit:
        return f"the nearest are {', '.join(difflib.get_close_matches(str(word), known, n=3, cutoff=0))}"
    return f"known: {', '.join(known)}" if known else "there is none"


def quote(value: Any) -> str:
    """A value in an error message: its repr, limited to about 80 characters.

    >>> quote("a" * 200)[:10], len(quote("a" * 200))
    ("'aaaaaaaaa", 80)
    """
    try:
        return printable(_SHORT.repr(value))
    except ValueError:  # an integer with more digits than Python converts to text
        return f"{type(value).__name__} with too many digits"


def shorten(text: str) -> str:
    """A name in an error message: unquoted, at most 80 printable characters.

    >>> shorten("base_rl"), len(shorten("a" * 200))
    ('base_rl', 80)
    """
    return printable(text if len(text) <= 80 else f"{text[:38]}...{text[-39:]}")


def printable(text: str) -> str:
    """Text without characters that control a terminal or cannot be encoded: each becomes its escape sequence.

    >>> printable("wave\\x1b[31m")
    'wave\\\\x1b[31m'
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in text
    )


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun.

    >>> counted(1, "clip"), counted(2, "clip")
    ('1 clip', '2 clips')
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, one line per row.

    >>> print(markdown_table(["a", "b"], [[1, 2]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])
