"""Checkpoints: what goes in comes out, and what is damaged or could run code is refused."""

import os
import pickle

import pytest
import torch

from maml_rl.errors import CheckpointError
from maml_rl.runs.checkpoint import check_architecture, load_checkpoint, save_checkpoint

CONTENT = {
    "meta": {
        "layers.0.weight": torch.linspace(-1.0, 2.0, 60).reshape(3, 20),
        "log_std": torch.tensor([-0.5], dtype=torch.float64),
    },
    "outer_state": {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.arange(4.0)}},
        "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "amsgrad": False, "foreach": None}],
    },
    "iteration": 7,
    "seconds": 12.5,
    "best_validation": None,
}


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "checkpoints" / "last.pt"
    save_checkpoint(place, CONTENT)
    return place


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_what_goes_in_comes_out(path):
    content = load_checkpoint(path)
    assert content.pop("format") == 1
    assert list(content) == list(CONTENT)
    assert torch.equal(content["meta"]["layers.0.weight"], CONTENT["meta"]["layers.0.weight"])
    assert content["meta"]["log_std"].dtype == torch.float64
    assert torch.equal(content["outer_state"]["state"][0]["exp_avg"], torch.arange(4.0))
    assert content["outer_state"]["param_groups"] == CONTENT["outer_state"]["param_groups"]
    assert (content["iteration"], content["seconds"]) == (7, 12.5)
    assert content["best_validation"] is None


def test_anybody_can_load_it_without_running_code(path):
    content = torch.load(path, weights_only=True)
    assert len(content["sha256"]) == 64
    assert content["iteration"] == 7


def test_saving_replaces_the_file_as_a_whole(path):
    (path.parent / "last.partial.pt").write_bytes(b"left by a kill")
    save_checkpoint(path, {**CONTENT, "iteration": 8})
    assert load_checkpoint(path)["iteration"] == 8
    assert os.listdir(path.parent) == ["last.pt"]


def test_a_save_that_fails_leaves_the_old_file(path):
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint(path, {**CONTENT, "iteration": 8, "x": lambda: None})
    assert load_checkpoint(path)["iteration"] == 7
    assert os.listdir(path.parent) == ["last.pt"]


def test_a_missing_file(tmp_path):
    assert refusal(tmp_path / "none.pt").startswith("there is no checkpoint ")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_cut_short(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "is damaged" in refusal(path)


def test_a_flip_of_any_byte_of_the_tensors_is_found(path):
    whole = path.read_bytes()
    data = CONTENT["meta"]["layers.0.weight"].numpy().tobytes()
    start = whole.index(data)
    for offset in (0, 3, len(data) // 2, len(data) - 1):
        altered = bytearray(whole)
        altered[start + offset] ^= 0x10
        path.write_bytes(altered)
        assert "is damaged" in refusal(path)


def test_a_flip_anywhere_is_refused_or_changes_nothing(path):
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 61):
        altered = bytearray(whole)
        altered[place] ^= 0x55
        path.write_bytes(altered)
        try:
            content = load_checkpoint(path)
        except CheckpointError:
            refused += 1
        else:  # padding, or a part of the archive that holds no content
            assert content["iteration"] == 7
            assert all(torch.equal(content["meta"][k], CONTENT["meta"][k]) for k in CONTENT["meta"])
    assert refused > len(whole) // 61 // 3


@pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04", bytes(range(256)) * 9, b"text\n"])
def test_bytes_that_are_no_checkpoint(path, content):
    path.write_bytes(content)
    refusal(path)


def test_a_malicious_pickle_is_not_run(path, tmp_path):
    mark = tmp_path / "ran"
    path.write_bytes(pickle.dumps({"meta": {}, "sha256": Malicious(mark)}))
    refusal(path)
    torch.save({"meta": {}, "sha256": Malicious(mark)}, path)
    assert "could run code" in refusal(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content", [[1, 2], {"weights": torch.ones(2)}, torch.ones(2), {"meta": 1}]
)
def test_another_program_s_file(path, content):
    torch.save(content, path)
    assert refusal(path) == f"{path} is not a checkpoint of this program."


def test_another_format(path):
    content = torch.load(path, weights_only=True)
    torch.save({**content, "format": 99}, path)
    assert refusal(path) == f"{path} has checkpoint format 99; this version reads 1."


@pytest.mark.parametrize(
    "change",
    [
        {"iteration": 8},
        {"meta": {**CONTENT["meta"], "log_std": torch.tensor([-0.5])}},  # the dtype
        {"meta": {**CONTENT["meta"], "log_std": torch.tensor([[-0.5]], dtype=torch.float64)}},
        {"meta": {"log_std": CONTENT["meta"]["log_std"]}},
    ],
)
def test_an_altered_content_does_not_match_its_checksum(path, change):
    content = torch.load(path, weights_only=True)
    torch.save({**content, **change}, path)
    assert "does not match its checksum" in refusal(path)


def test_the_architecture_is_compared_leaf_by_leaf(path):
    meta = {"a": torch.zeros(2, 3), "b": torch.zeros(1)}
    check_architecture(meta, {"b": torch.ones(1), "a": torch.ones(2, 3)}, path)
    for expected, words in [
        ({"a": torch.zeros(3, 3), "b": torch.zeros(1)}, "for a it holds [2, 3], and the policy "),
        ({**meta, "c": torch.zeros(4)}, "for c it holds nothing"),
        ({"a": torch.zeros(2, 3)}, "for b it holds [1], and the policy and inner loop expect no"),
    ]:
        with pytest.raises(CheckpointError) as caught:
            check_architecture(meta, expected, path)
        assert words in str(caught.value)
