"""The view of moving skeletons: embedded numbers, text that stays text, and a self-contained page."""

import base64
import hashlib
import html
import json
import re

import numpy as np
import pytest

from torchlight.system import clip_view
from torchlight.system.clip_view import ClipView, render, to_viewer, without_empty, write_page

BONES = ((1, 0), (2, 1))
ODD = '</script><b>"&\x1b[31m\ud800\u2028' + "x" * 500


def clips_of(text: str) -> list[dict]:
    """What a page embeds."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)[1])["clips"]


def points_of(clip: dict) -> np.ndarray:
    """The points (T, M, V, D) that a page embeds, as the browser decodes them."""
    numbers = np.frombuffer(base64.b64decode(clip["points"]), "<i2").reshape(clip["shape"]).astype(float)
    return np.where(numbers == -32768, np.nan, numbers * clip["scale"] + clip["center"])


def test_the_embedded_numbers_are_those_of_the_clip():
    points = np.random.default_rng(0).normal(size=(12, 3, 3, 3)) * [1, 2, 0.1] + [0, 1, 3]
    points[4, 0, 1] = points[:, 1] = np.nan  # a joint that was not seen, and an empty person slot
    segments, curves = [(0.0, 0.25, "wave 90 %", "1")], [("wave", [0.9, np.nan])]
    view = ClipView("a", points, BONES, 30.0, (1,), (2,), ("1", "2", "3"), segments, [0.0, 0.2], curves)
    (clip,) = clips_of(render([view]))
    np.testing.assert_allclose(points_of(clip), points[:, [0, 2]], atol=np.nanmax(np.abs(points)) / 30_000)
    assert (clip["bones"], clip["sides"], clip["persons"]) == ([[1, 0], [2, 1]], [0, 1, 2], ["1", "3"])
    assert clip["segments"] == [[0.0, 0.25, "wave 90 %", "1"]] and clip["rate"] == 30
    assert (clip["times"], clip["curves"]) == ([0.0, 0.2], [["wave", [0.9, None]]])


def test_a_long_clip_keeps_its_duration_with_fewer_frames():
    (clip,) = clips_of(render([ClipView("a", np.ones((7000, 1, 3, 2)), BONES, 30.0)]))
    assert clip["shape"] == [2334, 1, 3, 2] and clip["rate"] == 10


def test_any_text_stays_text_and_only_the_script_of_the_view_may_run(tmp_path):
    view = ClipView(ODD, np.zeros((2, 1, 3, 3)), BONES, None, (), (), (ODD,), [(0, 1, ODD, ODD)], [0], [(ODD, [1])])
    write_page(tmp_path / "x.html", ODD, render([view, view]))
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script>") == 2 and "<b>" not in text and "\x1b" not in text
    names = [clip["name"] for clip in clips_of(text)]
    assert names == 2 * [html.unescape(re.search("<title>(.*)</title>", text)[1])] and len(names[0]) == 120
    assert names[0].startswith('</script><b>"&\\x1b[31m\\ud800\\u2028xxx')
    code = re.search("<script>(.*)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = re.search('Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none';") and policy.endswith(f"script-src 'sha256-{digest}'")
    assert "innerHTML" not in code and not re.search(
        r"https?:|//[a-z]|\bsrc=|\bhref=|@import|url\(|fetch|import\(", text
    )


def test_a_page_without_a_view_may_run_no_script(tmp_path):
    write_page(tmp_path / "x.html", "title", "<p>text</p>")
    assert "script" not in (tmp_path / "x.html").read_text()


def test_a_view_is_small(tmp_path):
    view = ClipView("a", np.random.default_rng(0).normal(size=(300, 2, 25, 3)), BONES)
    write_page(tmp_path / "x.html", "a", render([view]))
    assert (tmp_path / "x.html").stat().st_size < 280_000  # ten seconds of two persons


@pytest.mark.parametrize("up", clip_view.VIEWER)
def test_a_body_is_rotated_upright_and_never_mirrored(up):
    axes = to_viewer(np.eye(3), up, 3)
    assert np.linalg.det(axes) == pytest.approx(1)
    assert axes["xyz".index(up[-1])].tolist() == [0, -1 if up.startswith("-") else 1, 0]


def test_empty_persons_are_not_seen_and_a_joint_at_the_origin_is():
    body, picture = np.ones((2, 2, 3, 3)), np.ones((2, 1, 3, 2))
    body[:, 1] = body[0, 0, 2] = picture[0, 0, 2] = 0
    assert np.isnan(without_empty(body))[..., 0].tolist() == [[[False] * 3, [True] * 3]] * 2
    assert np.isnan(without_empty(picture))[..., 0].tolist() == [[[False, False, True]], [[False] * 3]]
    assert to_viewer(np.array([5.0, 6.0, 0.9]), "-y", 2).tolist() == [5, -6]
