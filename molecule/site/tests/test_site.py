"""What the user `ada` has after playbooks/site.yml: an environment that works, is hers, and can be changed by her."""

import json
from collections.abc import Iterator

import pytest
from testinfra.host import Host

USER = "ada"
APPS = "/home/ada/apps"
ENV = f"{APPS}/conda/envs/maskrcnn_example"
PYTHON = f"{ENV}/bin/python"
CONFIG = f"{ENV}/include/Mask_RCNN/mrcnn/config.py"
REPORT = f"{APPS}/maskrcnn/report/maskrcnn_example"

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SMALLEST_PICTURE = 10_000  # bytes: an empty one is smaller

VERSIONS = """
import json, tensorflow, keras, h5py, mrcnn.model
print(json.dumps({"tensorflow": tensorflow.__version__, "keras": keras.__version__, "h5py": h5py.__version__}))
"""


def output(host: Host, command: str) -> str:
    """Run a command that must succeed; if it does not, show all it said."""
    result = host.run(command)
    assert result.rc == 0, f"{command}\nexited with {result.rc}\n{result.stdout}\n{result.stderr}"
    stdout: str = result.stdout
    return stdout.strip()


def python(host: Host, code: str) -> str:
    """Run code with the environment's Python, in a folder from which nothing can be imported by chance."""
    return output(host, f"cd / && {PYTHON} -c '{code}'")


def found(host: Host, conditions: str) -> list[str]:
    """Paths in the environment that meet conditions of find(1): a few of them if there are many."""
    return output(host, f"find {ENV} {conditions} -print").splitlines()[:20]


def report_logs(host: Host) -> str:
    """Everything in the report's folder that is text, to explain a report that is missing or bad."""
    logs: str = host.run(f"ls -la {REPORT}; tail -n 60 {REPORT}/*.json {REPORT}/*.log {REPORT}/*.txt").stdout
    return logs


def test_tests_run_as_the_user(host: Host) -> None:
    assert output(host, "id -un") == USER


@pytest.fixture(scope="module")
def versions(host: Host) -> dict[str, str]:
    """Of what Mask_RCNN needs, where it can be imported."""
    said: dict[str, str] = json.loads(python(host, VERSIONS))
    return said


@pytest.mark.parametrize(("name", "series"), [("tensorflow", "1.15."), ("keras", "2.2.5"), ("h5py", "2.10.")])
def test_version(versions: dict[str, str], name: str, series: str) -> None:
    assert versions[name].startswith(series)


def test_report_says_that_the_environment_works(host: Host) -> None:
    report = host.file(f"{REPORT}/report.json")
    assert report.is_file, report_logs(host)
    assert json.loads(report.content_string)["ok"] is True, report_logs(host)


def test_detection_left_a_picture(host: Host) -> None:
    picture = host.file(f"{REPORT}/detection.png")
    assert picture.is_file, report_logs(host)
    assert picture.content.startswith(PNG_SIGNATURE)
    assert picture.size > SMALLEST_PICTURE


def test_activation_puts_the_environment_first(host: Host) -> None:
    activated = output(host, f"bash -c 'source {ENV}/bin/activate && command -v python && echo ${{PATH%%:*}}'")
    assert activated.splitlines() == [PYTHON, f"{ENV}/bin"]


def test_everything_belongs_to_the_user(host: Host) -> None:
    assert found(host, f"! -user {USER}") == []


def test_nothing_is_writable_by_everybody(host: Host) -> None:
    assert found(host, "! -type l -perm -0002") == []


@pytest.fixture
def config_with_a_mark(host: Host) -> Iterator[str]:
    """Add a line to a file of the clone, as a user does, and put the file back afterwards."""
    kept = f"{CONFIG}.kept"
    output(host, f"cp -p {CONFIG} {kept} && echo 'MARK = \"edited by {USER}\"' >>{CONFIG}")
    yield f"edited by {USER}"
    output(host, f"mv {kept} {CONFIG}")


def test_an_edit_of_the_clone_takes_effect(host: Host, config_with_a_mark: str) -> None:
    assert python(host, "import mrcnn.config; print(mrcnn.config.MARK)") == config_with_a_mark
