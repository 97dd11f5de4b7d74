# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the bench makes of its samples, and where it works: tests/bench/{report,scratch}.py."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import place, report, scratch
from bench.place import BenchError, Place
from bench.report import Samples, Share

SIZES = {"the conda part": Share(400e6, 14_000), "the whole env": Share(1000e6, 30_000)}
FINE = {
    "conda_env": [1.0, 1.0, 3.0],
    "cp -al": [0.6, 0.5, 1.5],
    "engine": [0.5, 0.5, 0.5],
    "cp -al, whole": [1.0, 1.0, 1.0],
    "replicas, 1": [1.5, 1.5, 1.5],
    "replicas, 10": [0.9, 0.9, 0.9],
    "replicas, 50": [0.4, 0.4, 0.4],
    "unchanged, 1": [10, 10, 10],
    "unchanged, 50": [14, 14, 14],
}


def figures(folder: Path, share: float = 20e6, **changed: list[float]) -> dict[str, Any]:
    return report.figures(
        folder, Samples(FINE | changed), SIZES, {1: Share(share, 4500), 10: Share(18e6, 4500), 50: Share(18e6, 4500)}
    )


def test_a_ratio_is_the_median_of_the_rounds(tmp_path: Path) -> None:
    found = figures(tmp_path)
    assert found["create_vs_cp_al"] == 2.0
    assert found["create_seconds"] == 1.0
    assert found["replica_vs_cp_al"] == 0.9
    assert found["replica_vs_cp_al_by_users"] == {"1": 1.5, "10": 0.9, "50": 0.4}
    assert found["replica_disk_share"] == 0.02
    lines = [" ".join(line.split()) for line in report.table(found).splitlines() if "as a user of" in line]
    assert lines == ["as a user of 1 1.5", "as a user of 10 0.9 (this one)", "as a user of 50 0.4"]


def test_what_was_not_measured_breaks_no_bound(tmp_path: Path) -> None:
    found = figures(tmp_path)
    assert found["create_vs_micromamba"] is None
    assert report.holds(found)
    assert "BROKEN" not in report.table(found)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"conda_env": [1.3, 1.3, 3.4]}, "create_vs_cp_al"),
        ({"replicas, 10": [1.1, 1.1, 0.1]}, "replica_vs_cp_al"),
        ({"unchanged, 50": [15.2, 15.2, 15.2]}, "unchanged_50_vs_1"),
        ({"micromamba 2.8.1": [1.0, 1.0, 3.0]}, "create_vs_micromamba"),
        ({"share": 31e6}, "replica_disk_share"),
    ],
)
def test_every_bound_can_be_broken(tmp_path: Path, changed: dict[str, Any], key: str) -> None:
    found = figures(tmp_path, **changed)
    assert not report.holds(found)
    [line] = [line for line in report.table(found).splitlines() if "BROKEN" in line]
    assert key in line


def test_rounds_on_a_busy_machine_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.time, "sleep", lambda _seconds: None)
    times = iter([(0, 0), (50, 100), (50, 100), (145, 200)])
    monkeypatch.setattr(place, "_processor_time", lambda: next(times))
    assert place.wait_until_idle()
    ticks = itertools.count()
    monkeypatch.setattr(place, "_processor_time", lambda: (0, next(ticks)))
    assert not place.wait_until_idle()
    samples = Samples(FINE, busy=["replicas, round 1 of 3"])
    found = report.figures(tmp_path, samples, SIZES, {n: Share(18e6, 4500) for n in (1, 10, 50)})
    assert "  replicas, round 1 of 3\n" in report.table(found)
    assert "busy" not in report.table(figures(tmp_path))


def test_where_the_bench_works_is_gone_afterwards(tmp_path: Path) -> None:
    kept, elsewhere = tmp_path / "kept", tmp_path / "elsewhere"
    kept.mkdir()
    elsewhere.mkdir()
    for given in (elsewhere, None):
        with pytest.raises(RuntimeError), scratch.scratch(kept, given) as work:
            assert work.filesystem == os.path.ismount(work.folder)
            assert work.filesystem or work.folder.parent == (given or kept)
            assert not (given and work.filesystem)
            (work.folder / "made").mkdir()
            raise RuntimeError
        assert not work.folder.exists()
        assert [*kept.iterdir(), *elsewhere.iterdir()] == []


def test_the_bench_works_in_a_plain_folder_where_nothing_can_be_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_place: Place, *command: str | Path) -> str:
        raise BenchError(f"no {command[0]} here")

    monkeypatch.setattr(Place, "run", refuse)
    with scratch.scratch(tmp_path, None) as work:
        assert not work.filesystem
        assert [*tmp_path.iterdir()] == [work.folder]
    assert [*tmp_path.iterdir()] == []
