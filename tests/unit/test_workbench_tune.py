# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn tune`: what is tried, that it is done once, and the table of what came of it."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm, install_training, make_settings, program
from mrcnn_workbench import runs, settings, submission, tuning
from mrcnn_workbench.cli import main
from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.runs import Run
from mrcnn_workbench.tuning import Range, Tune

# A training: the smaller its learning rate is, the better; it fails with one of 1, and stops if it is told to.
TRAINING = """\
import json, re, signal, sys, time
from pathlib import Path
run = Path(sys.argv[3])
(run.parent / "order").open("a").write(run.name + "\\n")
rate = float(re.search("learning_rate: ([0-9.e-]+)", (run / "settings.yml").read_text()).group(1))
def note(status, **more):
    (run / "state.json").write_text(json.dumps(dict(more, status=status, epoch=4, epochs=4)))
def stop(number, _frame):
    note("stopped")
    sys.exit(3)
if (run.parent / "wait").exists():
    signal.signal(signal.SIGINT, stop)
    (run.parent / "ready").touch()
    time.sleep(20)
if rate == 1:
    note("failed", reason="the loss is nan\\nTry less")
    sys.exit(2)
(run / "metrics.csv").write_text("epoch,loss,val_loss\\n1,3,3\\n2,{0},{0}\\n".format(rate))
note("finished")
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: Any) -> FakeSlurm:
    (tmp_path / "my leaves").mkdir()
    monkeypatch.chdir(str(tmp_path / "my leaves"))
    install_training(monkeypatch)
    make_settings(Path.cwd())
    training = program(tmp_path / "my env" / "mrcnn.py", TRAINING)
    monkeypatch.setattr(submission, "command", lambda: [sys.executable, str(training)])
    made = FakeSlurm(tmp_path / "fake", monkeypatch)
    made.says("sinfo", "twiki|gpu:rtx8000:2\n")
    return made


def order() -> Any:
    """Which trials were begun, by their numbers."""
    path = Path("runs/tune/order")
    return [int(line.split("-")[0]) for line in path.read_text().splitlines()] if path.exists() else []


# What is tried


def test_values_are_a_list_or_a_range() -> None:
    texts = [
        "learning_rate=0.1,1e-3", "layers=heads,5+,all", "momentum=0.5..0.9",
        "model.RPN_ANCHOR_SCALES=[8, 16],[16, 32]", "mini_masks=auto,true",
    ]  # fmt: skip
    assert tuning.tries(texts) == {
        "learning_rate": [0.1, 0.001],
        "layers": ["heads", "5+", "all"],
        "momentum": Range(0.5, 0.9),
        "model.RPN_ANCHOR_SCALES": [[8, 16], [16, 32]],
        "mini_masks": ["auto", True],
    }


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], "what to try"),
        (["learning_rate"], "NAME=V1,V2"),
        (["learning_rate="], "NAME=V1,V2"),
        (["steps=1,2", "steps=3"], "there is one for it already"),
        (["steps=[1"], "no YAML"),
        (["momentum=0.9..0.1"], "less than the second"),
    ],
)
def test_what_cannot_be_tried_is_said(texts: Any, words: str) -> None:
    with pytest.raises(WorkbenchError, match=re.escape(words)):
        tuning.tries(texts)


GRID = {"a": [1, 2, 3], "b": ["x", "y"]}


def test_every_combination_is_tried_once() -> None:
    found = tuning.combinations(GRID, 0, 0)
    assert [tuple(values.values()) for values in found] == [(1, "x"), (1, "y"), (2, "x"), (2, "y"), (3, "x"), (3, "y")]


def test_some_at_random_differ_and_are_the_same_again() -> None:
    found = tuning.combinations(GRID, 4, 1)
    assert found == tuning.combinations(GRID, 4, 1)
    assert len({tuple(values.values()) for values in found}) == 4
    assert [values for values in tuning.combinations(GRID, 0, 0) if values in found] == found
    assert any(tuning.combinations(GRID, 4, seed) != found for seed in range(2, 9))
    assert len(tuning.combinations(GRID, 99, 1)) == 6


def test_of_a_range_every_order_of_magnitude_is_drawn() -> None:
    drawn = [values["a"] for values in tuning.combinations({"a": Range(0.0001, 0.1)}, 300, 0)]
    assert all(0.0001 <= value <= 0.1 for value in drawn)
    counts = [sum(math.floor(math.log10(value)) == power for value in drawn) for power in (-4, -3, -2)]
    assert min(counts) > 60
    with pytest.raises(WorkbenchError, match="--random N"):
        tuning.combinations({"a": Range(0, 1)}, 0, 0)


def test_too_many_are_refused() -> None:
    many = {name: list(range(40)) for name in "ab"}
    with pytest.raises(WorkbenchError, match="1600 combinations: --random N"):
        tuning.combinations(many, 0, 0)
    assert len(tuning.combinations(many, 5, 0)) == 5


def test_names_of_trials_say_what_they_are_and_sort() -> None:
    values = [{"model.RPN_ANCHOR_SCALES": [8, 16], "layers": "5+"}] * 12
    names = [trial.name for trial in tuning.trials(values)]
    assert names == sorted(names)
    assert names[0] == "01-RPN_ANCHOR_SCALES-8-16_layers-5+"
    assert len(tuning.trials([{"augmentation": "x" * 300}])[0].name) < 80


def base(stages: int = 1) -> Any:
    stage = {"layers": "heads", "epochs": 2, "learning_rate": 0.01}
    later = {"layers": "all", "epochs": 2, "learning_rate": 0.001}
    return settings.checked({"data": "d", "stages": [stage, later][:stages]}, "here")


def test_values_find_their_places() -> None:
    made = tuning.with_values(base(), {"layers": "all", "image_size": 512, "model.RPN_NMS_THRESHOLD": 0.8})
    assert made["stages"] == [{"layers": "all", "epochs": 2, "learning_rate": 0.01}]
    assert made["image_size"] == 512 and made["model"] == {"RPN_NMS_THRESHOLD": 0.8}
    assert base()["model"] == {}


def test_of_several_stages_the_learning_rates_stay_in_proportion() -> None:
    made = tuning.with_values(base(2), {"learning_rate": 0.02})
    assert [stage["learning_rate"] for stage in made["stages"]] == [0.02, 0.002]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"layers": "all"}, "--layers and --epochs for one"),
        ({"image_size": 100}, "multiple of 64"),
        ({"nothing": 1}, "nothing"),
        ({"model.NUM_CLASSES": 2}, "follows from"),
        ({"gpus": 2}, "--gpus says how many"),
        ({"learning_rate": "fast"}, "a number is wanted"),
    ],
)
def test_values_that_cannot_be_are_said(values: Any, words: str) -> None:
    with pytest.raises(WorkbenchError, match=re.escape(words)):
        tuning.with_values(base(2), values)


# In turn


def test_all_are_trained_in_turn_and_the_best_comes_first(fake: FakeSlurm, capfd: Any) -> None:
    rates = "learning_rate=0.1,1,0.01"
    assert main(["tune", "leaves.yml", "--run", "runs/tune", "--try", rates, "--epochs", "2"]) == 0
    assert order() == [1, 2, 3]
    said = capfd.readouterr().out
    assert "Trial 3 of 3: 03-learning_rate-0.01" in said
    table = said[said.index("trial ") :].splitlines()
    assert [line.split()[:3] for line in table[1:4]] == [
        ["03-learning_rate-0.01", "0.01", "finished"],
        ["01-learning_rate-0.1", "0.1", "finished"],
        ["02-learning_rate-1", "1", "failed"],
    ]
    assert "1 trial failed:\n  02-learning_rate-1: the loss is nan" in said
    with Path("runs/tune/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["best val_loss"] for row in rows] == ["0.01", "0.1", ""]
    assert rows[0]["after epoch"] == "2" and rows[2]["reason"] == "the loss is nan"
    wanted = settings.read(Path("runs/tune/01-learning_rate-0.1/settings.yml"))
    assert wanted["stages"] == [{"layers": "heads", "epochs": 2, "learning_rate": 0.1}]


def test_what_has_finished_or_failed_is_not_done_again(fake: FakeSlurm, capfd: Any) -> None:
    assert main(["tune", "leaves.yml", "--run", "runs/tune", "--try", "learning_rate=0.1,1,0.01"]) == 0
    third = Run(Path("runs/tune/03-learning_rate-0.01"))
    third.note(status="killed")
    assert main(["tune", "--resume", "runs/tune"]) == 0
    assert order() == [1, 2, 3, 3]
    assert "Trial 1 of 1: 03" in capfd.readouterr().out
    assert main(["tune", "--resume", "runs/tune"]) == 0
    assert order() == [1, 2, 3, 3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["listens", "does not listen yet"])
def test_a_signal_stops_it_and_it_can_be_resumed(number: int, fake: FakeSlurm, tmp_path: Path) -> None:
    tune = Tune.create(Path("runs/tune"), _made("learning_rate=0.1,0.01"))
    (tune.folder / "wait").touch()
    path = str(Path(runs.__file__).parents[1])
    code = (
        "import sys; sys.path.insert(0, {!r}); from mrcnn_workbench import cli, submission; "
        "submission.command = lambda: {!r}; sys.exit(cli.main(['tune', '--resume', 'runs/tune']))"
    ).format(path, submission.command())
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=dict(os.environ))
    while not (tune.folder / "ready").exists():
        time.sleep(0.05)
    process.send_signal(number)
    said, _none = process.communicate(timeout=20)
    assert process.returncode == 3 and b"To go on: mrcnn tune --resume runs/tune" in said
    assert order() == [1], "the others are not begun"
    (tune.folder / "wait").unlink()
    assert main(["tune", "--resume", "runs/tune"]) == 0
    assert order() == [1, 1, 2]


def _made(text: str) -> Any:
    wanted = settings.checked(settings.read(Path("leaves.yml")), "leaves.yml")
    found = tuning.trials(tuning.combinations(tuning.tries([text]), 0, 0))
    return [(trial, tuning.with_values(wanted, trial.values), ["leaf"]) for trial in found]


def test_scores_of_evaluations_are_in_the_table(fake: FakeSlurm, capsys: Any) -> None:
    tune = Tune.create(Path("runs/tune"), _made("learning_rate=0.1,0.01"))
    report = tune.folder / "02-learning_rate-0.01" / "evaluation" / "evaluation.json"
    report.parent.mkdir()
    found = {"mean_iou": 0.75, "masks": {"0.5:0.95": 0.5, "0.5": None}}
    report.write_text(json.dumps({"all": found}))
    assert main(["tune", "--results", "runs/tune"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("mean IoU  mask AP")
    assert [line.split()[-2:] for line in lines if line.startswith("02")] == [["0.750", "0.500"]]


# As an array


def script() -> str:
    return Path("runs/tune/job.sh").read_text()


def test_trials_are_handed_in_as_one_array(fake: FakeSlurm, capsys: Any) -> None:
    arguments = ["--submit", "--at-once", "2", "--mem", "3G", "--", "--nice"]
    assert main(["tune", "leaves.yml", "--run", "runs/tune", "--try", "learning_rate=0.1,1,0.01", *arguments]) == 0
    assert "Job 12: 3 trials" in capsys.readouterr().out
    tune = Tune(Path("runs/tune"))
    assert fake.asked("sbatch") == [["--parsable", str(tune.folder / "job.sh")]]
    assert '\n#SBATCH "--output={}/job-%a.log"\n'.format(tune.folder) in script()
    assert "\n#SBATCH --array=1-3%2\n" in script()
    assert {"#SBATCH --mem=3G", "#SBATCH --gpus=1", "#SBATCH --nice"} <= set(script().splitlines())
    assert [submission.job_of(run)["job"] for run in tune.runs] == ["12_1", "12_2", "12_3"]
    assert order() == []


def test_each_of_an_array_trains_its_trial(fake: FakeSlurm) -> None:
    assert main(["tune", "leaves.yml", "--run", "runs/tune", "--try", "learning_rate=0.1,0.01", "--submit"]) == 0
    for number in ("2", "1"):
        subprocess.check_call(
            [str(Path("runs/tune/job.sh").resolve())], env=dict(os.environ, SLURM_ARRAY_TASK_ID=number)
        )
    assert order() == [2, 1]
    assert [one.status for one in Tune(Path("runs/tune")).views()[0]] == ["finished", "finished"]


def test_of_an_array_only_what_is_left_is_handed_in_again(fake: FakeSlurm, capsys: Any) -> None:
    rates = "learning_rate=0.1,0.2,0.3,0.4,0.5"
    assert main(["tune", "leaves.yml", "--run", "runs/tune", "--try", rates, "--submit", "--cpus", "2"]) == 0
    tune = Tune(Path("runs/tune"))
    tune.runs[0].note(status="finished")
    tune.runs[3].note(status="failed", reason="the loss is nan")
    fake.jobs("12_5|17|RUNNING|twiki|None|N/A", "12_2|14|CANCELLED||None|N/A")
    fake.says("sbatch", "20\n")
    assert main(["tune", "--resume", "runs/tune", "--submit"]) == 0
    assert "#SBATCH --array=2-3%4" in script() and "#SBATCH --cpus-per-task=2" in script()
    assert [submission.job_of(run)["job"] for run in tune.runs] == ["12_1", "20_2", "20_3", "12_4", "12_5"]


def test_what_sbatch_refuses_leaves_nothing(fake: FakeSlurm, capsys: Any) -> None:
    fake.fails("sbatch", "sbatch: error: no")
    assert main(["tune", "leaves.yml", "--run", "runs/tune", "--try", "steps=1,2", "--submit"]) == 2
    assert not Path("runs/tune").exists()


def test_a_dry_run_leaves_nothing(fake: FakeSlurm, capsys: Any) -> None:
    arguments = ["tune", "leaves.yml", "--run", "runs/tune", "--try", "steps=1,2", "--dry-run"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert said == "runs/tune: 2 trials\n  01-steps-1\n  02-steps-2\n"
    assert main([*arguments, "--submit"]) == 0
    assert "#SBATCH --array=1-2%4" in capsys.readouterr().out
    assert not Path("runs").exists() and fake.asked("sbatch") == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["leaves.yml"], "what to try"),
        (["leaves.yml", "--try", "start=last,nothing"], "would begin with each other"),
        (["leaves.yml", "--try", "image_size=100,128"], "multiple of 64"),
        (["leaves.yml", "--try", "steps=1", "--mem", "3G"], "--mem is of use with --submit only"),
        (["leaves.yml", "--try", "steps=1", "--submit", "--gpus", "a100"], "NaN"),
        (["--resume", "runs/tune", "--try", "steps=1"], "no others can be given"),
        (["--resume", "dataset"], "nothing was tuned here"),
        (["--results", "nowhere"], "nothing was tuned here"),
        (["--try", "steps=1"], "what to train?"),
    ],
)
def test_bad_input_is_said_and_nothing_is_left(arguments: Any, words: str, fake: FakeSlurm, capsys: Any) -> None:
    assert main(["tune", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_folder_that_is_there_is_not_used(fake: FakeSlurm, capsys: Any) -> None:
    Path("runs/tune").mkdir(parents=True)
    assert main(["tune", "leaves.yml", "--run", "runs/tune", "--try", "steps=1,2"]) == 2
    assert "mrcnn tune --resume runs/tune" in capsys.readouterr().err


def test_without_slurm_there_are_no_jobs(fake: FakeSlurm, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["tune", "leaves.yml", "--try", "steps=1,2", "--submit"]) == 2
    assert "without --submit it is done here" in capsys.readouterr().err
