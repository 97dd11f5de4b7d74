# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn submit`: what Slurm is asked for, what a job does when it is told to stop, and what is refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm, install_training, make_run, make_settings, program
from mrcnn_workbench import runs, submission
from mrcnn_workbench.cli import main
from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.runs import Run
from mrcnn_workbench.site import FILE, Site
from mrcnn_workbench.slurm import UNKNOWN, Nodes
from mrcnn_workbench.submission import Gpus

TURING, VOLTA = Nodes("n21-16-256-twiki", frozenset(["rtx8000"])), Nodes("jaws", frozenset(["v100"]))
AMPERE, ADA = Nodes("n22-[1-9]", frozenset(["a100"])), Nodes("n23-[1-6]", frozenset(["l40s"]))
MIXED = Nodes("n24", frozenset(["v100", "a100"]))
GRUFFALO = [TURING, VOLTA, AMPERE, ADA]
PAUSE = 0.05  # seconds


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: Any) -> FakeSlurm:
    monkeypatch.chdir(str(_folder(tmp_path / "my leaves")))
    install_training(monkeypatch)
    made = FakeSlurm(tmp_path / "fake", monkeypatch)
    made.says("sinfo", "n21-16-256-twiki|gpu:rtx8000:2\n")
    make_settings(Path.cwd())
    return made


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def script() -> str:
    """Of the run `first`."""
    return Path("runs/first/job.sh").read_text()


def options(text: str) -> Any:
    return re.findall("^#SBATCH (.*)$", text, re.MULTILINE)


# GPUs


@pytest.mark.parametrize(
    ("text", "found"),
    [("2", Gpus("", 2)), ("0", Gpus("", 0)), ("v100", Gpus("v100", 1)), ("rtx_8000:2", Gpus("rtx_8000", 2))],
)
def test_gpus_are_a_number_a_type_or_both(text: str, found: Gpus) -> None:
    assert submission.gpus(text) == found


@pytest.mark.parametrize("text", ["", ":1", "v100:", "v100:x", "-1", "1:v100", "v100 1"])
def test_what_means_no_gpus_is_refused(text: str) -> None:
    with pytest.raises(WorkbenchError, match="TYPE:N or N is wanted"):
        submission.gpus(text)


@pytest.mark.parametrize(
    ("wanted", "nodes", "given"),
    [
        ("v100:2", GRUFFALO, ["--gpus=v100:2"]),
        ("rtx_8000:1", GRUFFALO, ["--gpus=rtx8000:1"]),
        ("RTX8000:1", [Nodes("twiki", frozenset(["rtx_8000"]))], ["--gpus=rtx_8000:1"]),
        ("rtx_8000:1", [], ["--gpus=rtx8000:1"]),
        ("v100:1", [Nodes("n1", frozenset([UNKNOWN]))], ["--gpus=v100:1"]),
        ("1", GRUFFALO, ["--gpus=1", "--exclude=n22-[1-9],n23-[1-6]"]),
        ("2", [TURING, VOLTA], ["--gpus=2"]),
        ("1", [TURING, AMPERE], ["--gpus=rtx8000:1"]),
        ("1", [TURING, MIXED], ["--gpus=rtx8000:1"]),
        ("1", [], ["--gpus=1"]),
        ("1", [Nodes("n1", frozenset([UNKNOWN]))], ["--gpus=1"]),
    ],
)
def test_gpus_are_chosen_on_which_it_works(wanted: str, nodes: Any, given: Any) -> None:
    assert submission.choose(submission.gpus(wanted), "gpu", nodes, Site()) == given


def test_who_names_nodes_has_chosen() -> None:
    assert submission.choose(Gpus("", 1), "gpu", GRUFFALO, Site(), free=False) == ["--gpus=1"]


def test_where_a_profile_works_everywhere_everything_is_given() -> None:
    modern = Site(profile="modern", gpu_types=())
    assert submission.choose(Gpus("a100", 1), "gpu", GRUFFALO, modern) == ["--gpus=a100:1"]
    assert submission.choose(Gpus("", 1), "gpu", GRUFFALO, modern) == ["--gpus=1"]


@pytest.mark.parametrize(
    ("wanted", "nodes", "words"),
    [
        (Gpus("a100", 1), GRUFFALO, "every loss is NaN, without an error. It works on v100 and rtx8000"),
        (Gpus("l40s", 1), GRUFFALO, "nothing runs on it"),
        (Gpus("h100", 1), GRUFFALO, "built for older GPUs"),
        (Gpus("v100", 1), [TURING], "partition gpu has no such GPUs, but rtx8000"),
        (Gpus("", 1), [AMPERE, ADA], "partition gpu: its GPUs are a100, l40s"),
    ],
)
def test_gpus_on_which_it_does_not_work_are_refused_with_the_reason(wanted: Any, nodes: Any, words: str) -> None:
    with pytest.raises(WorkbenchError) as caught:
        submission.choose(wanted, "gpu", nodes, Site())
    assert words in str(caught.value)


@pytest.mark.parametrize(("wanted", "nodes"), [(Gpus("a100", 1), GRUFFALO), (Gpus("", 1), [AMPERE, ADA])])
def test_an_environment_beside_it_that_does_is_named(tmp_path: Path, monkeypatch: Any, wanted: Any, nodes: Any) -> None:
    for name, text in (
        ("here", '{"profile": "tf1"}'),
        ("broken", "{"),
        ("maskrcnn_modern", '{"profile": "modern", "gpu_types": ["a100"]}'),
    ):
        (tmp_path / name / FILE).parent.mkdir(parents=True)
        (tmp_path / name / FILE).write_text(text)
    monkeypatch.setattr("sys.prefix", str(tmp_path / "here"))
    with pytest.raises(WorkbenchError) as caught:
        submission.choose(wanted, "gpu", nodes, Site())
    assert "profile modern) does: {}/maskrcnn_modern/bin/mrcnn submit".format(tmp_path) in str(caught.value)


def test_a_profile_of_another_kind_is_named() -> None:
    with pytest.raises(WorkbenchError, match=r"profile modern\) works on a100"):
        submission.choose(Gpus("v100", 1), "gpu", GRUFFALO, Site(profile="modern", gpu_types=("a100",)))


# Handing in


def test_a_run_is_made_and_handed_in(fake: FakeSlurm, capsys: Any) -> None:
    assert main(["submit", "leaves.yml", "--run", "runs/first"]) == 0
    run = Run(Path("runs/first"))
    assert run.state()["status"] == runs.NEW
    assert fake.asked("sbatch") == [["--parsable", str(run.path(runs.SCRIPT))]]
    assert json.loads(run.path(runs.JOB).read_text())["job"] == "12"
    assert options(script()) == [
        "--job-name=first",
        '"--output={}"'.format(run.path(runs.JOB_LOG)),
        "--open-mode=append",
        "--requeue",
        "--signal=B:USR1@120",
        "--partition=gpu",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=4",
        "--mem=16G",
        "--time=1-00:00:00",
        "--gpus=1",
    ]
    assert f"\nrun='{run.folder}'\n" in script()
    said = capsys.readouterr().out
    assert "Job 12: runs/first" in said and "mrcnn watch runs/first" in said
    assert f"maskrcnn tensorboard '{run.path(runs.EVENTS)}'" in said


def test_everything_can_be_asked_for(fake: FakeSlurm) -> None:
    asked = ["--gpus", "rtx_8000:2", "--partition", "long", "--time", "3:00:00", "--mem", "3G", "--cpus", "8"]
    more = ["--account", "barley", "--", "--mail-type=END", "--comment=two words"]
    assert main(["submit", "leaves.yml", "--run", "runs/first", *asked, *more]) == 0
    assert options(script())[5:] == [
        "--partition=long",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=8",
        "--mem=3G",
        "--time=3:00:00",
        "--account=barley",
        "--gpus=rtx8000:2",
        "--mail-type=END",
        '"--comment=two words"',
    ]
    assert "gpus: 2" in Path("runs/first/settings.yml").read_text(), "the training is for as many"
    assert "--partition=long" in fake.asked("sinfo")[0]


def test_without_a_gpu_slurm_is_not_asked_for_one(fake: FakeSlurm) -> None:
    assert main(["submit", "leaves.yml", "--run", "runs/first", "--gpus", "0"]) == 0
    assert not [option for option in options(script()) if option.startswith(("--gpus", "--partition"))]
    assert fake.asked("sinfo") == []
    assert "gpus: 1" in Path("runs/first/settings.yml").read_text()


def test_any_gpu_is_taken_at_ones_word(fake: FakeSlurm) -> None:
    assert main(["submit", "leaves.yml", "--run", "runs/first", "--gpus", "a100:1", "--any-gpu"]) == 0
    assert "--gpus=a100:1" in options(script())
    assert 'train --resume "$run" --any-gpu &' in script()


def test_an_unfit_gpu_is_refused_at_once_and_nothing_is_left(fake: FakeSlurm, capsys: Any) -> None:
    assert main(["submit", "leaves.yml", "--gpus", "a100:1"]) == 2
    error = capsys.readouterr().err
    assert "TensorFlow, 1.15" in error and "NaN" in error and "v100 and rtx8000" in error
    assert fake.asked("sbatch") == fake.asked("sinfo") == []
    assert not Path("runs").exists()


def test_a_dry_run_shows_the_script_and_leaves_nothing(fake: FakeSlurm, capsys: Any) -> None:
    assert main(["submit", "leaves.yml", "--run", "runs/first", "--dry-run", "--", "--exclude=n1"]) == 0
    said = capsys.readouterr().out
    first, text = said.split("\n", 1)
    assert first == "# sbatch --parsable '{}'".format(Path.cwd() / "runs/first/job.sh")
    assert "--exclude=n1" in options(text)
    assert not Path("runs").exists() and fake.asked("sbatch") == []
    assert main(["submit", "leaves.yml", "--run", "runs/first", "--", "--exclude=n1"]) == 0
    assert script() == text


def test_what_sbatch_refuses_leaves_nothing_and_can_be_tried_again(fake: FakeSlurm, capsys: Any) -> None:
    fake.fails("sbatch", "sbatch: error: invalid partition specified: nix\n")
    assert main(["submit", "leaves.yml", "--run", "runs/first", "--partition", "nix"]) == 2
    assert "sinfo --summarize" in capsys.readouterr().err
    assert not Path("runs/first").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "what to train?"),
        (["nowhere.yml"], "No such file"),
        (["leaves.yml", "--set", "backbone=large"], "backbone"),
        (["leaves.yml", "--gpus", "x:y"], "TYPE:N or N"),
        (["--resume", "runs/nowhere"], "there is no such run"),
        (["leaves.yml", "--resume", "runs/first"], "no others can be given"),
        (["--resume", "runs/first", "--epochs", "3"], "no others can be given"),
    ],
)
def test_bad_input_is_said(arguments: Any, words: str, fake: FakeSlurm, capsys: Any) -> None:
    assert main(["submit", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert fake.asked("sbatch") == []


def test_without_slurm_it_is_said(fake: FakeSlurm, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["submit", "leaves.yml"]) == 2
    assert "no Slurm here" in capsys.readouterr().err


def test_a_run_that_is_there_is_not_made_again(fake: FakeSlurm, capsys: Any) -> None:
    make_run(Path("runs/first"))
    assert main(["submit", "leaves.yml", "--run", "runs/first"]) == 2
    assert "mrcnn submit --resume runs/first" in capsys.readouterr().err


# Once more


def test_a_stopped_run_is_handed_in_again_and_asks_for_the_same(fake: FakeSlurm) -> None:
    arguments = ["--gpus", "rtx8000:1", "--mem", "3G", "--cpus", "2", "--", "--mail-type=END"]
    assert main(["submit", "leaves.yml", "--run", "runs/first", *arguments]) == 0
    before = script()
    Path("runs/first/state.json").write_text('{"status": "failed", "reason": "no luck"}')
    fake.says("sbatch", "13\n")
    assert main(["submit", "--resume", "runs/first"]) == 0
    assert script() == before
    run = Run(Path("runs/first"))
    assert submission.job_of(run)["job"] == "13"
    assert run.state()["status"] == runs.STOPPED and run.state()["reason"] == "", "the failure is over"
    assert main(["submit", "--resume", "runs/first", "--mem", "9G", "--", "--nice"]) == 0
    assert {"--mem=9G", "--cpus-per-task=2", "--nice"} <= set(options(script()))
    assert "--mail-type=END" not in options(script())


def test_what_sbatch_refuses_to_take_again_stays_as_it_was(fake: FakeSlurm) -> None:
    run = make_run(Path("runs/first"), status="failed", reason="no luck")
    fake.fails("sbatch", "sbatch: error: no")
    assert main(["submit", "--resume", "runs/first"]) == 2
    assert run.state() == {"status": "failed", "reason": "no luck"}


@pytest.mark.parametrize(
    ("state", "line", "words"),
    [
        ("new", "12|12|PENDING||Priority|N/A", "job 12 is queued, others come first"),
        ("stopped", "12|12|RUNNING|twiki|None|N/A", "starting, job 12 on twiki"),
        ("finished", "", "it has finished; to train on: mrcnn submit WHAT --start runs/first"),
    ],
)
def test_what_is_at_it_is_not_handed_in_twice(state: str, line: str, words: str, fake: FakeSlurm, capsys: Any) -> None:
    make_run(Path("runs/first"), "12", status=state)
    fake.jobs(*filter(None, [line]))
    assert main(["submit", "--resume", "runs/first"]) == 2
    assert words in capsys.readouterr().err
    assert fake.asked("sbatch") == []


def test_what_is_trained_without_a_job_is_not_handed_in(fake: FakeSlurm, capsys: Any) -> None:
    run = make_run(Path("runs/first"), status="running", epoch=1, epochs=4)
    with run.lock():
        assert main(["submit", "--resume", "runs/first"]) == 2
    assert "mrcnn watch runs/first" in capsys.readouterr().err


def test_when_slurm_does_not_say_nothing_is_handed_in(fake: FakeSlurm, capsys: Any) -> None:
    make_run(Path("runs/first"), "12", status="stopped")
    fake.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    assert main(["submit", "--resume", "runs/first"]) == 2
    assert "try again" in capsys.readouterr().err
    assert fake.asked("sbatch") == []


def test_only_one_hands_in_at_a_time(fake: FakeSlurm, capsys: Any) -> None:
    run = make_run(Path("runs/first"), status="stopped")
    with submission.handing_in(run.folder):
        assert main(["submit", "--resume", "runs/first"]) == 2
    assert "at this moment" in capsys.readouterr().err


def test_a_run_goes_on_with_as_many_gpus(fake: FakeSlurm, capsys: Any) -> None:
    make_run(Path("runs/first"), status="stopped")
    assert main(["submit", "--resume", "runs/first", "--gpus", "2"]) == 2
    assert "the run was begun for 1" in capsys.readouterr().err


# The script


@pytest.mark.parametrize("name", ["a b", "it's", 'a "quoted" one', "50%", "back\\slash", "$HOME", "#1"])
def test_any_name_of_a_folder_is_quoted(name: str, tmp_path: Path) -> None:
    text = submission.script_of(tmp_path / name, [], False)
    line = next(line for line in text.splitlines() if line.startswith("run="))
    assert subprocess.check_output(["bash", "-c", line + '; printf %s "$run"']).decode() == str(tmp_path / name)
    assert subprocess.call(["bash", "-n", "-c", text]) == 0


def test_a_line_break_in_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="line break"):
        submission.script_of(tmp_path / "a\n#SBATCH --uid=0", [], False)


def test_the_environments_own_program_is_started(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert submission.command() == [sys.executable, "-m", "mrcnn_workbench"]
    program(tmp_path / "bin" / "mrcnn", "")
    assert submission.command() == [str(tmp_path / "bin" / "mrcnn")]
    monkeypatch.setattr(sys, "prefix", str(_folder(tmp_path / "a b")))
    program(tmp_path / "a b" / "bin" / "mrcnn", "")
    assert submission.command()[1:] == ["-m", "mrcnn_workbench"], "no first line of a script can name it"


TRAINING = """\
#!/bin/bash
# A training: notes its environment and the signals that it gets, makes a checkpoint if told to, and stops.
cd "$(dirname "$0")"
echo "$PYTHONNOUSERSITE/$XDG_RUNTIME_DIR/$*" >begun
folder=$3/checkpoints
stop() {
    echo "$1" >>signals
    mkdir -p "$folder"
    [ -z "$2" ] || touch "$folder/mask_rcnn_$2.h5"
    exit 3
}
trap 'stop USR1 "$EPOCH"' USR1
trap 'stop TERM "$EPOCH"' TERM
[ -z "$AT_ONCE" ] || exit "$AT_ONCE"
touch ready
while :; do sleep 0.05; done
"""


class Job:
    """A job's script at work, with a training that can be told what to do."""

    def __init__(self, folder: Path, fake: FakeSlurm, monkeypatch: Any) -> None:
        self.folder, self.fake = folder, fake
        self.training = program(folder / "my env" / "mrcnn", TRAINING)
        self.run = make_run(folder / "my runs" / "first")
        monkeypatch.setattr(submission, "command", lambda: [str(self.training)])
        submission.write_script(self.run.folder, submission.script_of(self.run.folder, [], False))

    def starts(self, **environment: str) -> None:
        environ = dict(os.environ, SLURM_JOB_ID="12", XDG_RUNTIME_DIR="/run/user/1", **environment)
        for name in ("ready", "signals"):
            if self._file(name).exists():
                self._file(name).unlink()
        self.process = subprocess.Popen(
            [str(self.run.path(runs.SCRIPT))], env=environ, stdout=subprocess.PIPE, universal_newlines=True
        )
        while not self._file("ready").exists() and self.process.poll() is None:
            time.sleep(PAUSE)

    def _file(self, name: str) -> Path:
        return self.training.parent / name

    def gets(self, *numbers: int) -> None:
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(PAUSE)

    def ends(self) -> Any:
        """The exit code, what it said, the signals that the training got, what scontrol was asked."""
        said, _none = self.process.communicate(timeout=20)
        signals = self._file("signals")
        return (
            self.process.returncode,
            said.strip(),
            signals.read_text().split() if signals.exists() else [],
            self.fake.asked("scontrol"),
        )

    @property
    def begun(self) -> str:
        return self._file("begun").read_text().strip()


@pytest.fixture
def job(tmp_path: Path, monkeypatch: Any) -> Job:
    return Job(tmp_path, FakeSlurm(tmp_path / "fake", monkeypatch), monkeypatch)


@pytest.mark.parametrize("code", ["0", "2", "3", "137"])
def test_a_job_ends_as_its_training_does(code: str, job: Job) -> None:
    job.starts(AT_ONCE=code)
    assert job.ends() == (int(code), "", [], [])
    assert job.begun == f"1//train --resume {job.run.folder}"


def test_when_the_time_is_up_it_stops_and_queues_again(job: Job) -> None:
    job.starts(EPOCH="0001")
    job.gets(signal.SIGUSR1)
    assert job.ends() == (3, "The job's time is up; it queues again.", ["USR1"], [["requeue", "12"]])
    job.starts(EPOCH="0002")
    job.gets(signal.SIGUSR1)
    assert job.ends()[3] == [["requeue", "12"]] * 2


def test_a_job_that_is_too_short_for_an_epoch_does_not_queue_for_ever(job: Job) -> None:
    job.starts()
    job.gets(signal.SIGUSR1)
    code, said, signals, requeued = job.ends()
    assert (code, signals, requeued) == (3, ["USR1"], [])
    assert "too short for an epoch" in said


def test_who_cancels_a_job_does_not_find_it_in_the_queue_again(job: Job) -> None:
    job.starts(EPOCH="0001")
    job.gets(signal.SIGTERM)
    assert job.ends() == (3, "", ["TERM"], [])


def test_a_job_that_is_cancelled_while_it_stops_is_cancelled(job: Job) -> None:
    slow = TRAINING.replace("exit 3", "sleep 0.5; exit 3")
    program(job.training, slow)
    job.starts(EPOCH="0001")
    job.gets(signal.SIGUSR1, signal.SIGTERM)
    code, said, _signals, requeued = job.ends()
    assert (code, said, requeued) == (3, "", [])


def test_a_signal_before_the_training_has_begun_is_no_failure_of_it(job: Job) -> None:
    """TensorFlow takes its time to load; nobody listens to signals then."""
    program(job.training, '#!/bin/bash\ntouch "$(dirname "$0")/ready"\nexec sleep 20\n')
    job.starts()
    job.gets(signal.SIGUSR1)
    code, said, _signals, requeued = job.ends()
    assert code == 128 + signal.SIGUSR1 and "too short" in said and requeued == []
