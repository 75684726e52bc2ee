"""The plain side of the benchmarks is a network of the same numbers, not a straw man."""

import pytest
import torch

from benchmarks.literal import LITERAL, literal
from tests.model.golden import CASES, Case


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", CASES)
def test_the_literal_network_gives_the_published_numbers_under_the_published_names(name):
    case = Case(name)
    model = case.build()
    plain = literal(model)
    assert list(plain.state_dict()) == list(model.state_dict())
    assert any(type(module) in LITERAL.values() for module in plain.modules())
    for what, found in case.deviations(plain).items():
        assert found <= case.spec["rtol"], what


def test_making_the_literal_network_leaves_the_given_one_alone():
    model = Case("ctrgcn_ucla").build()
    types = [type(module) for module in model.modules()]
    literal(model)
    assert [type(module) for module in model.modules()] == types
