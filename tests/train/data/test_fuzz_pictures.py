"""Pictures changed at random are read right or refused in one sentence; 300 by
`python -m tests.harness.mutate_pictures`."""

from collections import Counter

from tests.harness import mutate_pictures


def test_changed_pictures_are_read_right_or_refused_in_one_sentence(tmp_path):
    found = Counter(mutate_pictures.case(2729, i, tmp_path / str(i)) for i in range(40))
    assert set(found) == {"same: read", "damage: read", "damage: refused", "odd: refused"}
