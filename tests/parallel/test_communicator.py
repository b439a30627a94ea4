"""Rows, numbers, values and errors go between ranks; a rank alone keeps what it has."""

import json

import pytest
import torch

from maml_rl.errors import NonFiniteError
from maml_rl.parallel import ALONE, was_shared
from tests.support.ranks import begin_ranks, outputs

PROGRAM = """
import json, os, torch
from maml_rl.errors import NonFiniteError
from maml_rl.parallel import Distributed, was_shared

def error_of(call):
    try:
        with ranks.sharing_errors():
            call()
    except Exception as error:
        return [type(error).__name__, str(error), was_shared(error)]

def fail(*failing, kind=NonFiniteError):
    def call():
        if ranks.rank in failing:
            raise kind(f"wrong on rank {ranks.rank}")
        ranks.rows(torch.zeros(1))
    return call

with Distributed() as ranks:
    whole = torch.arange(42, dtype=torch.float64).reshape(7, 2, 3)
    mine = list(ranks.mine(7))
    first, second, third = ranks.rows(whole[mine], whole[mine, 0, 0].float(), whole[mine] > 20)
    few = ranks.mine(2)
    result = {
        "mine": mine,
        "rows": [torch.equal(first, whole), torch.equal(second, whole[:, 0, 0].float())],
        "bits": [first.is_contiguous(), second.dtype == torch.float32],
        "flags": torch.equal(third, whole > 20),
        "few": [list(few), ranks.rows(whole[list(few)])[0].tolist() == whole[:2].tolist()],
        "total": ranks.total(ranks.rank + 1),
        "largest": ranks.largest(10 * ranks.rank),
        "broadcast": ranks.broadcast({"meta": ranks.rank, "name": "x" * 1000})["meta"],
        "one": error_of(fail(1)),
        "two": error_of(fail(1, 2)),
        "all": error_of(fail(0, 1, 2)),
        "other": error_of(fail(2, kind=KeyError)),
        "neighbours": ranks.neighbours,
    }
    ranks.barrier()
    print(json.dumps(result), flush=True)
    if ranks.rank == 2:
        os._exit(0)  # the others notice
    print(json.dumps(error_of(ranks.barrier)), flush=True)
    os._exit(0)
"""


def test_three_ranks_exchange_rows_values_and_errors():
    lines = [
        [json.loads(line) for line in out.splitlines()] for out in outputs(begin_ranks(PROGRAM, 3))
    ]
    for rank, (result, *lost) in enumerate(lines):
        assert result["mine"] == [[0, 3, 6], [1, 4], [2, 5]][rank]
        assert result["rows"] == [True, True]
        assert result["bits"] == [True, True]
        assert result["flags"]
        assert result["few"] == [[[0], [1], []][rank], True]
        assert result["total"] == 1 + 2 + 3
        assert result["largest"] == 20
        assert result["broadcast"] == 0
        assert result["one"] == ["NonFiniteError", "wrong on rank 1", True]
        assert result["two"] == ["NonFiniteError", "wrong on rank 1", True]
        assert result["all"] == ["NonFiniteError", "wrong on rank 0", True]
        kind, words, shared = result["other"]
        expected = ("KeyError", "'wrong on rank 2'")
        if rank < 2:
            expected = ("RankError", "rank 2 failed with KeyError: 'wrong on rank 2'")
            assert lost[0] == ["LostRankError", lost[0][1], True]
            assert lost[0][1].startswith("the connection to another rank is lost")
        assert (kind, words, shared) == (*expected, True)
        assert result["neighbours"] == 3


def test_a_rank_alone_keeps_what_it_has():
    rows = torch.rand(3, 2)
    assert ALONE.rows(rows)[0] is rows
    assert list(ALONE.mine(3)) == [0, 1, 2]
    assert (ALONE.rank, ALONE.size, ALONE.neighbours) == (0, 1, 1)
    assert (ALONE.total(4), ALONE.largest(5), ALONE.broadcast("x")) == (4, 5, "x")
    ALONE.barrier()
    with pytest.raises(NonFiniteError) as caught, ALONE.sharing_errors():
        raise NonFiniteError("wrong")
    assert not was_shared(caught.value)


def test_an_error_is_shared_where_its_cause_is():
    first, second = NonFiniteError("wrong"), NonFiniteError("iteration 3: wrong")
    first.shared = True
    second.__cause__ = first
    assert was_shared(second)
    assert not was_shared(NonFiniteError("wrong"))
