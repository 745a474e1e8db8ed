"""Records and what follows from them, for any records in any order."""

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bespoke.registry import Record
from bespoke.registry.ledger import standing

kinds = st.sampled_from(["promoted", "rolled back", "retired", "scored"])


facts = st.lists(st.tuples(kinds, st.integers(1, 4), st.floats(0, 1), st.sampled_from(["champion", "challenger"])))


def written(found: list[tuple[str, int, float, str]]) -> list[Record]:
    """Records in their order, each by somebody who had seen those up to some earlier one."""
    return [
        Record(kind, version, int(part * number), alias, number=number + 1, id=str(number))
        for number, (kind, version, part, alias) in enumerate(found)
    ]


@given(facts)
def test_of_all_that_had_seen_the_same_one_counts(found):
    records = written(found)
    counted = standing(records).records
    assert len({record.seen for record in counted}) == len(counted)
    for before, after in itertools.pairwise(counted):
        assert after.seen >= before.number
    if records:
        assert counted[0] == records[0]


@given(facts, st.data())
def test_what_comes_later_never_changes_who_won(found, data):
    """So whoever reads the records after writing one knows for ever whether it counts."""
    records = written(found)
    upto = data.draw(st.integers(0, len(records)))
    first = standing(records[:upto]).records
    assert standing(records).records[: len(first)] == first


@given(facts)
def test_a_record_that_was_sent_twice_counts_once(found):
    records = written(found)
    twice = [replace(one, number=2 * one.number - 1 + k, seen=2 * one.seen) for one in records for k in (0, 1)]
    once = [replace(one, number=2 * one.number - 1, seen=2 * one.seen) for one in records]
    assert standing(twice).aliases == standing(once).aliases
    assert len(standing(twice).records) == len(standing(once).records)


@given(facts)
def test_records_that_did_not_count_may_be_deleted(found):
    records = written(found)
    whole = standing(records)
    assert standing(whole.records) == whole


def told(*events: tuple[str, int]) -> list[Record]:
    return [Record(kind, version, n, "champion", number=n + 1, id=str(n)) for n, (kind, version) in enumerate(events)]


def test_going_back_goes_on_going_back():
    history = [("promoted", 1), ("promoted", 2), ("promoted", 3)]
    assert standing(told(*history)).previous("champion") == 2
    history += [("rolled back", 2)]
    assert standing(told(*history)).aliases == {"champion": 2}
    assert standing(told(*history)).previous("champion") == 1
    history += [("promoted", 4), ("rolled back", 2)]
    assert standing(told(*history)).previous("champion") == 1
    assert standing(told(*history, ("rolled back", 1))).previous("champion") is None


def test_what_is_retired_is_not_gone_back_to_and_its_alias_means_nothing():
    history = [("promoted", 1), ("promoted", 2), ("promoted", 3), ("retired", 2)]
    assert standing(told(*history)).previous("champion") == 1
    assert standing(told(*history, ("retired", 3))).aliases == {}
