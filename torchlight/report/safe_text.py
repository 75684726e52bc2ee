"""Names that come from data, such as classes, clips and folders, as text for pictures, HTML and CSV.

A name may contain anything: control characters, lone surrogates, markup, formulas, thousands of characters.
"""

import csv
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from torchlight.system.files import atomic
from torchlight.system.text import printable

MAX_LENGTH = 120  # of a name on the page
FORMULA = ("=", "+", "-", "@")  # a spreadsheet evaluates text that begins with one of these


def shorten(text: str, length: int) -> str:
    """Printable text of at most `length` characters.

    >>> shorten("sit down\\nand stand up", 10)
    'sit down\\\\…'
    """
    text = printable(text[:length]) + printable(text[length : length + 1])
    return text if len(text) <= length else text[: length - 1] + "\u2026"


def to_html(text: Any, length: int = MAX_LENGTH) -> str:
    """Text for HTML, in an element or in a quoted attribute.

    >>> to_html("<b>")
    '&lt;b&gt;'
    """
    return escape(shorten(str(text), length))


def block_to_html(text: str) -> str:
    """Text of several lines for HTML."""
    return "\n".join(escape(printable(line)) for line in text.splitlines())


def to_cell(value: Any) -> Any:
    """A value for a CSV file: text that a spreadsheet would evaluate as a formula gets an apostrophe in front.

    >>> to_cell("=1+1"), to_cell(-1)
    ("'=1+1", -1)
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, completely or not at all; raises OSError."""
    with atomic(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(map(to_cell, head))
        writer.writerows(map(to_cell, row) for row in rows)
