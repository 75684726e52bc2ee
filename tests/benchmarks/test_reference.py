"""The formulation that the benchmarks compare with gives the published numbers too."""

import pytest
import torch

from benchmarks.reference import REFERENCE, has_reference, reference
from tests.model.golden import CASES, Case
from tests.model.zoo import build


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("posec3d")])
def test_the_reference_formulation_gives_the_published_numbers_under_the_published_names(name):
    case = Case(name)
    model = case.build()
    literal = reference(model)
    assert list(literal.state_dict()) == list(model.state_dict())
    assert any(type(module) in REFERENCE.values() for module in literal.modules())
    for what, found in case.deviations(literal).items():
        assert found <= case.spec["rtol"], what


def test_making_the_reference_formulation_does_not_change_the_given_network():
    model = Case("ctrgcn_ucla").build()
    types = [type(module) for module in model.modules()]
    reference(model)
    assert [type(module) for module in model.modules()] == types


def test_a_network_of_shared_blocks_alone_has_no_reference_formulation():
    model = build("ctrgcn")
    assert has_reference(model)
    model.__class__ = type("Model", (type(model),), {"__module__": "model.new"})
    assert not has_reference(model)
    with pytest.raises(ValueError, match="^model.new: no reference formulation$"):
        reference(model)
