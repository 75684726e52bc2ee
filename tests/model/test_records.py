import json

import pytest
import torch

from tests.model.golden import CASES, FOLDER, Case, deviation
from tests.model.zoo import build


@pytest.mark.parametrize("name", CASES)
def test_published_weights_give_the_published_numbers_and_stay_close_in_single_precision(name):
    case = Case(name)
    model = case.build()  # which takes exactly the published keys
    assert sum(p.numel() for p in model.parameters()) == case.spec["parameters"]
    for what, found in case.deviations(model).items():
        assert found <= case.spec["rtol"], what
    with torch.no_grad():
        logits = model.float().eval()(case.input().float())
    assert deviation(logits.numpy(), case.record["logits_eval"]) < 1e-4


def test_a_published_checkpoint_for_hand_gestures_has_our_keys_and_shapes():
    model = build("stgcnpp", "hand", num_person=1, num_class=40, in_channels=2, channels=[64] * 5 + [128])
    published = json.loads((FOLDER / "hagrid_keys.json").read_text())
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == dict(published)
