"""The law of the order: every visit of every epoch comes once, passes hold one shape, a position says it all."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.training.order import Order, Visit

WHOLE = st.integers(1, 3).map(float)
ANY = st.one_of(WHOLE, st.floats(0.1, 4))


@st.composite
def orders(draw, repeats=ANY, shapes=4):
    """Orders over examples of several shapes, with how to make the same one again."""
    examples = draw(st.lists(st.tuples(repeats, st.integers(1, shapes)), min_size=1, max_size=14))
    seed, size = draw(st.integers(0, 2**40)), draw(st.integers(1, 9))

    def make(size=size):
        keys = [f"key {number}" for number in range(len(examples))]
        return Order(keys, [r for r, _ in examples], [(4, 8, 8 * s) for _, s in examples], seed, size)

    return make, [r for r, _ in examples], [s for _, s in examples], size


def passes_of(order, size, count):
    return [[order.visit(size * number + place) for place in range(size)] for number in range(count)]


@settings(max_examples=80)
@given(case=orders(), epochs=st.integers(1, 5))
def test_every_visit_of_an_epoch_comes_once_and_before_it_ends(case, epochs):
    make, repeats, shapes, size = case
    order, made = make(), []
    while order.epochs_over(len(made)) < epochs:
        made += [[order.visit(size * len(made) + place) for place in range(size)]]
        assert len({shapes[visit.number] for visit in made[-1]}) == 1
    visits = [visit for one in made for visit in one]
    assert len(set(visits)) == len(visits)
    for epoch in range(epochs):
        here = Counter(visit.number for visit in visits if visit.epoch == epoch)
        for number, wanted in enumerate(repeats):
            assert here[number] in (np.floor(wanted), np.ceil(wanted))
            assert {v.repeat for v in visits if (v.number, v.epoch) == (number, epoch)} == set(range(here[number]))
    early = Counter(shapes[visit.number] for visit in visits if visit.epoch >= epochs)
    assert all(count < size for count in early.values())  # no more than fills the last pass
    again = make()
    for epoch in range(epochs):
        used = {visit.number for visit in visits if visit.epoch == epoch}
        assert again.used(epoch, len(made)).tolist() == sorted(used)


@settings(max_examples=40)
@given(case=orders(repeats=WHOLE), epochs=st.integers(1, 4))
def test_after_each_epoch_every_picture_came_as_often_as_it_counts(case, epochs):
    make, repeats, shapes, size = case
    order, came = make(), Counter()
    position = 0
    while order.epochs_over(position // size) < epochs:
        for _ in range(size):
            came[order.visit(position).number] += 1
            position += 1
    for number, wanted in enumerate(repeats):
        shape = [r for r, s in zip(repeats, shapes, strict=True) if s == shapes[number]]
        ahead = -(-size // sum(shape))  # epochs that the last pass of so small a shape may reach into
        assert wanted * epochs <= came[number] <= wanted * (epochs + ahead)


@settings(max_examples=40)
@given(case=orders(), asked=st.lists(st.integers(0, 150), min_size=1, max_size=8))
def test_a_position_says_it_all(case, asked):
    make, _, _, _ = case
    whole = make()
    through = [whole.visit(position) for position in range(151)]
    order = make()
    assert [order.visit(position) for position in asked] == [through[position] for position in asked]
    assert [make().visit(position) for position in asked] == [through[position] for position in asked]


@settings(max_examples=30)
@given(case=orders(shapes=1), size=st.integers(1, 9))
def test_with_one_shape_the_size_of_a_pass_does_not_matter(case, size):
    make = case[0]
    assert [make().visit(p) for p in range(60)] == [make(size).visit(p) for p in range(60)]


@settings(max_examples=30)
@given(case=orders(), size=st.integers(1, 9))
def test_each_shape_has_the_same_order_whatever_the_size_of_a_pass(case, size):
    make, _, shapes, own = case

    def lanes(order, size):
        found: dict[int, list[Visit]] = {}
        for one in passes_of(order, size, 40):
            found.setdefault(shapes[one[0].number], []).extend(one)
        return found

    first, second = lanes(make(), own), lanes(make(size), size)
    for shape in first.keys() & second.keys():
        both = min(len(first[shape]), len(second[shape]))
        assert first[shape][:both] == second[shape][:both]


def test_used_counts_what_was_trained_on_and_not_what_should_have_been():
    order = Order([f"{n}" for n in range(10)], [1.0] * 10, [n % 2 for n in range(10)], seed=3, size=2)
    for passes in range(6):
        visits = [order.visit(position) for position in range(2 * passes)]
        for epoch in (0, 1):
            assert set(order.used(epoch, passes).tolist()) == {v.number for v in visits if v.epoch == epoch}
    assert order.epochs_over(5) == 0 and order.epochs_over(6) == 1


def test_shapes_come_mixed_and_not_one_after_another():
    order = Order([f"{n}" for n in range(40)], [1.0] * 40, [n % 2 for n in range(40)], seed=0, size=2)
    lanes = [order.visit(2 * number).number % 2 for number in range(20)]
    assert 5 < sum(a != b for a, b in pairwise(lanes)) < 16
    assert lanes != [order.visit(2 * number).number % 2 for number in range(20, 40)]


def test_the_order_without_shapes_is_for_ever():
    """Runs that began with an earlier version go on: these figures come from the first one."""
    order = Order([f"key {n}" for n in range(5)], [1.0, 2.0, 0.5, 1.0, 1.5], [0] * 5, seed=3, size=8)
    visits = [order.visit(position) for position in range(12)]
    assert [visit.number for visit in visits] == [1, 2, 0, 3, 1, 4, 3, 0, 1, 4, 4, 1]


@pytest.mark.parametrize("size", [1, 4])
def test_what_is_shown_in_no_epoch_yet_is_waited_for(size):
    order = Order(["rare"], [0.1], [0], seed=0, size=size)
    visits = [order.visit(position) for position in range(20)]
    assert len({visit.epoch for visit in visits}) == 20
    assert visits[-1].epoch - visits[0].epoch == 190
