import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import profiles, scale
from benchmarks.results import Result
from benchmarks.scale import BATCH, databases, fit, fitted, steps, work


def test_the_fit_is_found_and_the_dominating_term_is_named():
    points = [(n, 2 + 0.5 * n) for n in (1, 10, 100)]
    assert fit(points) == pytest.approx((2, 0.5, 1))
    assert fit([(n, 3 + 0.25 * n * n) for n in (1, 2, 4, 8)]) == pytest.approx((3, 0.25, 2))
    assert fit(points[1:]) == pytest.approx((2, 0.5, 1)), "two points fit both"
    rows = [Result("scale", "c", "squares", "s", (1e-4 * n * n,), n) for n in (10, 20, 40)]
    assert all(each.note.endswith("0.0001 s n^2: the growing part dominates at 40") for each in fitted(rows))
    rows = [Result("scale", "c", name, "s", (value,), n) for n, flat in points for name, value in (("grows", flat),)]
    assert {each.note for each in fitted(rows)} == {"2 s + 0.5 s n: the growing part dominates at 100"}
    rows = [Result("scale", "c", "opens", "s", (5 + 1e-3 * n,), n) for n in (1, 10)]
    assert {each.note for each in fitted(rows)} == {"5 s + 0.001 s n: the fixed part dominates at 10"}


def test_steps_have_a_result_for_each_size_and_form(monkeypatch):
    monkeypatch.setattr(profiles, "CALLS", 1)
    found = steps("batch", {size: work(width=8, batch=size) for size in (2, 4)}, 1)
    assert [(each.contestant, each.at) for each in found] == [("float", 2), ("QAT", 2), ("float", 4), ("QAT", 4)]
    assert [each.profile.partition(":")[0] for each in found] == ["", "", "PyTorch's profiler", "PyTorch's profiler"]
    assert all(re.search(r": \d+ % .*`aten::\w+`", each.profile) for each in found[2:])
    assert all(len(each.values) == 1 and each.median > 0 for each in found)


def test_a_database_is_packed_opened_shuffled_and_read(monkeypatch):
    def run(command, **_):
        return SimpleNamespace(stdout=scale.opened(Path(command[-2]), int(command[-1])))

    monkeypatch.setattr(scale.subprocess, "run", run)  # a process of its own
    monkeypatch.setattr(scale, "sampled", profiles.called)
    monkeypatch.setattr(profiles, "SECONDS", 0.05)
    found = databases((BATCH,), 2)
    assert [each.contestant for each in found] == ["packing", "opening", "shuffling", "first batch"]
    assert all(each.at == BATCH and each.median > 0 for each in found)
    assert [len(each.values) for each in found] == [1, 2, 2, 2]
    assert all(re.match(r"cProfile: \d+ % ", each.profile) for each in found)
