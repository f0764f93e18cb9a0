"""Minutes of two machines are never compared or added up."""

import json

from dd2core.results.markdown import ABSENT
from train.results.cost import Spent, _times
from train.results.front import _training


def test_times_less_are_told_on_one_machine_alone():
    assert _times(Spent(10, "A GPU"), Spent(5, "A GPU")) == "2.0×"
    assert _times(Spent(10), Spent(5)) == "2.0×"
    assert _times(Spent(10), Spent(5, "A GPU")) == _times(None, Spent(5)) == ABSENT
    assert [str(Spent(9.6)), str(Spent(9.6, "A GPU"))] == ["10", "10 (A GPU)"]


def test_the_front_page_tells_minutes_by_machine(tmp_path):
    for stage, seconds, machine in (("tokenizer", 600, None), ("gts", 60, "NVIDIA X"),
                                    ("csd", 180, "NVIDIA X"), ("teacher", 300, "Some CPU")):
        (tmp_path / f"{stage}.jsonl").write_text(json.dumps(
            {"step": 1, "images": 1, "seconds": seconds}) + "\n")
        (tmp_path / f"{stage}.json").write_text(json.dumps(
            {"trained_on": machine} if machine else {}))
    assert _training(tmp_path) == "15 on a CPU; 4 on NVIDIA X, of it 4 distilling"
    assert _training(tmp_path / "none") == ABSENT
