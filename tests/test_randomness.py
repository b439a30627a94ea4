import itertools

import numpy as np
import pytest

from maml_rl.randomness import Key, Purpose, RowGenerators


def test_an_address_is_numpys_seed_sequence_with_that_spawn_key():
    found = Key(7, (Purpose.TRAINING, 12)).generator(Purpose.RESETS, 3, 1).standard_normal(5)
    sequence = np.random.SeedSequence(7, spawn_key=(1, 12, 8, 3, 1))
    assert np.array_equal(found, np.random.default_rng(sequence).standard_normal(5))


def test_the_same_address_gives_the_same_numbers_at_every_call():
    key = Key(3).child(Purpose.TEST, 4)
    first = key.generator(5).random(4)
    key.generator(6).random(100)  # what others draw does not matter
    np.random.default_rng().random(3)
    assert np.array_equal(key.generator(5).random(4), first)


def test_children_and_paths_are_one_and_the_same():
    chained = Key(3).child(1).child(2, 9).generator(4).random(4)
    assert np.array_equal(chained, Key(3, (1, 2, 9, 4)).generator().random(4))
    assert np.array_equal(chained, Key(3).generator(1, 2, 9, 4).random(4))


def test_neighbouring_addresses_give_different_numbers():
    paths = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1), (11,), (1, 1, 0), (0, 0, 0)]
    keys = [Key(seed, path) for seed in (0, 1, 11) for path in paths]
    drawn = [key.generator().random(3).tolist() for key in keys]
    assert all(a != b for a, b in itertools.combinations(drawn, 2))


def test_purposes_differ():
    assert len({int(purpose) for purpose in Purpose}) == len(Purpose.__members__) == 10


def test_no_global_random_state_is_touched():
    before = np.random.get_state()  # noqa: NPY002
    Key(1).generator(2).random(10)
    list(RowGenerators(Key(1), 2, 2))
    after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]


def test_row_m_times_b_plus_b_is_at_task_m_slot_b():
    key = Key(5, (8,))
    rows = RowGenerators(key, num_tasks=3, slots=4)
    assert len(rows) == 12
    for m, b in itertools.product(range(3), range(4)):
        assert rows[4 * m + b].random() == key.generator(m, b).random()
    assert [rng.random() for rng in rows] == [rows[row].random() for row in range(12)]


@pytest.mark.parametrize("row", [12, -1])
def test_rows_outside_are_refused(row):
    with pytest.raises(IndexError):
        RowGenerators(Key(5), 3, 4)[row]
