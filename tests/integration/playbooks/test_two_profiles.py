# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""playbooks/site.yml with several profiles: an environment for each, beside each other, and one without the other."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playbook import Playbook, one_requirement

BOTH = {"tf1": "maskrcnn_example", "recipe": "maskrcnn_recipe"}
TWO: dict[str, Any] = {
    "maskrcnn_profiles": "tf1, recipe",
    "maskrcnn_name": {"recipe": BOTH["recipe"]},
    "maskrcnn_verify": False,
}
# As much as it takes to see which environment is which.
SPECS = {"tf1": ["python=3.6", "pip", "cython"], "recipe": ["python=3.6", "pip", "six"]}


def small(mirror: str, specs: dict[str, list[str]]) -> dict[str, Any]:
    """Inputs for environments that take seconds: these packages, and one that pip installs."""
    return {
        "conda_env_specs": "{{ %s[_site_profile_name] }}" % json.dumps(specs),  # noqa: UP031 - braces
        "pip_extras_requirements_content": one_requirement(mirror, "decorator"),
    }


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Playbook:
    """A user for whom one run has made both."""
    user = Playbook(tmp_path_factory.mktemp("two"), str(mirror))
    result = user.run("site", TWO | small(user.mirror, SPECS))
    assert result.returncode == 0, result.output
    for name in BOTH.values():
        assert f"conda activate {user.env.with_name(name)}\n" in result.output
    return user


def test_each_is_made_from_its_own_profile(user: Playbook) -> None:
    for profile, name in BOTH.items():
        env = user.env.with_name(name)
        assert list((env / "conda-meta").glob(f"{SPECS[profile][-1]}-*.json"))
        site = json.loads((env / "share" / "crophpc.maskrcnn" / "workbench" / "site.json").read_text())
        assert site["profile"] == profile
        where = [env / "bin" / "python", "-c", "import decorator, mrcnn; print(mrcnn.__path__[0])"]
        said = subprocess.run(where, check=True, capture_output=True, text=True).stdout
        assert said == f"{env}/include/Mask_RCNN/mrcnn\n"


def test_one_that_fails_is_named_and_the_next_is_taken_up_all_the_same(user: Playbook) -> None:
    specs = {profile: [*wanted, "numpy=99"] for profile, wanted in SPECS.items()}
    result = user.run("site", TWO | small(user.mirror, specs))
    assert result.returncode != 0
    last = result.failure.rpartition("Not finished")[2]
    for profile, name in BOTH.items():
        assert re.search(rf"{profile} \({name}\), at: .*Solve", last), last
    assert "conda activate" not in result.output


def test_removing_one_leaves_the_other(user: Playbook) -> None:
    refused = user.run("remove", TWO | {"maskrcnn_confirm": BOTH["recipe"]})
    assert refused.returncode != 0
    assert ",".join(BOTH.values()) in refused.failure
    assert user.env.with_name(BOTH["recipe"]).exists()

    result = user.run("remove", TWO | {"maskrcnn_profiles": ["recipe"], "maskrcnn_confirm": BOTH["recipe"]})
    assert result.returncode == 0, result.output
    assert not user.env.with_name(BOTH["recipe"]).exists()
    subprocess.run([user.env / "bin" / "python", "-c", "import decorator, mrcnn"], check=True)
    assert (user.apps / "maskrcnn" / "engine").is_dir()
