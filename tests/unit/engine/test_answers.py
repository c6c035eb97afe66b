"""Unit tests of what states answer: the same to the bit whatever else is asked, and of whom."""

import numpy as np
import pytest

from featurestore.engine.tiles import built
from featurestore.model.tiles import plan_of
from featurestore.model.windows import TAKES
from featurestore.storage.states import decode_states, encode_states
from tests.windows import feature, frame, served, view

DTYPES = ("float64", "int32", "int64", "bool", "float32")
SPANS = ((600, 10), (200, 10), (45, 7))
VIEW = view(
    *(
        feature(function, dtype, *span)
        for dtype in DTYPES
        for function, taken in TAKES.items()
        if dtype in taken
        for span in SPANS
    )
)
PLAN = plan_of(VIEW)


def states(entities, *, each):
    """Build states: some of many tiles and few events, some the other way round, some none."""
    random = np.random.default_rng(entities)
    events, owner = [], []
    for entity in range(entities):
        for number in range(0 if entity % 5 == 3 else random.integers(1, each)):
            at = int(random.integers(0, 600))
            null = random.random(5) < 0.2
            values = (float(random.normal()), int(random.integers(-9, 9)), 2**62, True, 0.1)
            cells = [None if no else one for one, no in zip(values, null, strict=True)]
            events.append({
                "event": at, "created": None, "known": at, "revision": 0,
                "number": number + entity * each,
                "inputs": dict(zip(DTYPES, cells, strict=True)),
            })  # fmt: skip
            owner.append(entity)
    states, _ = built(PLAN, entities, frame(VIEW, events), np.array(owner), lateness=100)
    return states


def bits(found):
    """Give answers as bytes, one of each feature."""
    return [(values.tobytes(), valid.tobytes()) for values, valid in found]


@pytest.mark.parametrize(("entities", "each"), [(1, 120), (4, 60), (9, 300)])
def test_an_answer_does_not_depend_on_what_else_is_asked(entities, each):
    """Each feature alone has the bits that it has among all others."""
    found = states(entities, each=each)
    together = bits(served(VIEW, found, 601))
    assert [bits(served(VIEW, found, 601, [one])) for one in VIEW.features] == [
        [one] for one in together
    ]


@pytest.mark.parametrize(("entities", "each"), [(2, 400), (7, 30), (40, 160)])
@pytest.mark.parametrize("at", [601, 640, 2000])
def test_an_entity_answers_in_company_as_it_does_alone(entities, each, at):
    """Few tiles are folded in another way than many, and those of one entity in a third."""
    packed = encode_states(PLAN, states(entities, each=each))
    together = served(VIEW, decode_states(PLAN, packed), at)
    for entity, one in enumerate(packed):
        alone = served(VIEW, decode_states(PLAN, [one]), at)
        for (values, valid), (value, there) in zip(together, alone, strict=True):
            assert values[entity].tobytes() == value.tobytes()
            assert valid[entity] == there[0]


@pytest.mark.parametrize("lateness", [0, 1000])
@pytest.mark.parametrize(
    ("dtype", "least", "greatest"),
    [
        ("bool", False, True),
        ("uint8", 0, 2**8 - 1),
        ("int32", -(2**31), 2**31 - 1),
        ("uint32", 0, 2**32 - 1),
        ("int64", -(2**63), 2**63 - 1),
        ("float32", float(np.finfo("f4").min), float(np.finfo("f4").max)),
        ("float64", -np.inf, np.inf),
    ],
)
def test_what_is_picked_is_an_event_s_own_value(dtype, least, greatest, lateness):
    """Also at the ends of its dtype, beside nulls, and whatever picks are folded with it."""
    taken = {"min": least, "max": greatest, "first": greatest, "last": least}
    of = view(
        *(feature(function, dtype, 600, 10) for function in taken),
        *(feature(function, "float64", 600, 10, of=1) for function in taken),
    )
    cells = [None, greatest, least, None]
    events = [
        {"event": at * 5, "created": None, "known": at * 5, "revision": 0, "number": at,
         "inputs": {"float64": -0.5} | {dtype: cell}}
        for at, cell in enumerate(cells)
    ]  # fmt: skip
    made, _ = built(plan_of(of), 1, frame(of, events), np.zeros(4, np.int64), lateness=lateness)
    for (values, valid), wanted in zip(served(of, made, 20), taken.values(), strict=False):
        assert valid.tolist() == [True]
        assert values.tolist() == [wanted]
