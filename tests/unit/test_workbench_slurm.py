# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Slurm's programs say is understood, and what they refuse is explained."""

from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm
from mrcnn_workbench import slurm
from mrcnn_workbench.errors import WorkbenchError


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: Any) -> FakeSlurm:
    return FakeSlurm(tmp_path / "fake slurm", monkeypatch)


def test_jobs_are_known_by_both_of_their_numbers(fake: FakeSlurm) -> None:
    fake.jobs(
        "7_2|9|PENDING||JobArrayTaskLimit|N/A",
        "5|5|RUNNING|n21-16-256-twiki|None|2026-11-25T20:00:00",
        "4|4|PENDING||ReqNodeNotAvail, Reserved for x|2026-11-26T08:00:00",
    )
    found = slurm.jobs([2001, 2001, 7])
    assert set(found) == {"7_2", "9", "5", "4"}
    assert found["9"] is found["7_2"] and found["9"].waits and found["9"].why == "no more at once of this tune"
    assert found["5"] == ("5", "RUNNING", "n21-16-256-twiki", "", "2026-11-25T20:00:00")
    assert found["5"].goes_on and found["5"].runs and not found["5"].waits
    assert found["4"].why == "ReqNodeNotAvail, Reserved for x"
    assert "--user=7,2001" in fake.asked("squeue")[0]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("sbatch: error: invalid partition specified: nix\nsbatch: error: Batch job ...", "--partition names one"),
        ("sbatch: error: Invalid account or account/partition combination specified", "--account names one"),
        ("sbatch: error: Requested node configuration is not available", "less --gpus, --cpus or --mem"),
        ("sbatch: error: Invalid generic resource (gres) specification", "--gpus TYPE:N"),
        ("sbatch: error: Invalid --mem specification", "--mem asks for less"),
        ("sbatch: error: Requested time limit is invalid (missing or exceeds some limit)", "--time is"),
        ("sbatch: error: Socket timed out on send/recv operation", "try again"),
        ("sbatch: unrecognized option '--nix'", "What follows --"),
    ],
)
def test_what_is_refused_is_said_with_what_to_do(said: str, hint: str, fake: FakeSlurm) -> None:
    fake.fails("sbatch", said + "\n")
    with pytest.raises(WorkbenchError) as caught:
        slurm.hand_in(Path("job.sh"))
    first, second = str(caught.value).splitlines()
    assert first.startswith("sbatch says: ") and "error:" not in first
    assert hint in second


def test_of_anything_else_that_is_refused_every_word_is_said(fake: FakeSlurm) -> None:
    fake.fails("sbatch", "You shall not pass\n")
    with pytest.raises(WorkbenchError, match=r"^sbatch says: You shall not pass$"):
        slurm.hand_in(Path("job.sh"))


def test_a_cluster_in_a_federation_adds_its_name(fake: FakeSlurm) -> None:
    fake.says("sbatch", "sbatch: your account is nearly empty\n123;gruffalo\n")
    assert slurm.hand_in(Path("a b/job.sh")) == "123"
    assert fake.asked("sbatch") == [["--parsable", "a b/job.sh"]]


def test_without_slurm_it_is_said(monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not slurm.here()
    with pytest.raises(WorkbenchError, match="no Slurm here"):
        slurm.jobs([1])
    assert slurm.ended(["1"]) == {}


def test_a_program_that_hangs_is_not_waited_for(fake: FakeSlurm, monkeypatch: Any) -> None:
    (fake.folder / "bin" / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(slurm, "SECONDS", 0.2)
    with pytest.raises(WorkbenchError, match="squeue does not answer"):
        slurm.jobs([1])


def test_the_books_say_how_forgotten_jobs_ended(fake: FakeSlurm) -> None:
    fake.says("sacct", "5|CANCELLED by 1000\n7_2|OUT_OF_MEMORY\n")
    assert slurm.ended(["7_2", "5"]) == {"5": "CANCELLED", "7_2": "OUT_OF_MEMORY"}
    assert "--jobs=5,7_2" in fake.asked("sacct")[0]
    fake.fails("sacct", "Slurm accounting storage is disabled")
    assert slurm.ended(["5"]) == {}


def test_gpus_are_known_by_their_types(fake: FakeSlurm) -> None:
    fake.says(
        "sinfo",
        "n21-[1-2]|gpu:rtx8000:2(S:0-1)\nn22-1|gpu:a100:3,gpu:v100:1,shard:8\nn23-1|gpu:4\nn24|(null)\n",
    )
    assert slurm.gpus("gpu") == [
        ("n21-[1-2]", {"rtx8000"}),
        ("n22-1", {"a100", "v100"}),
        ("n23-1", {slurm.UNKNOWN}),
    ]
