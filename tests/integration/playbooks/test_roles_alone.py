# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The roles one by one, as somebody uses them who has a playbook of their own."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from playbook import Playbook


def conda_packages(prefix: Path) -> list[str]:
    return sorted(path.name for path in (prefix / "conda-meta").glob("*.json"))


def test_every_role_works_by_itself(
    playbook: Playbook, newer_wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = next(newer_wheels.glob("termcolor-*.whl"))
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"termcolor==99 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    manifest = json.loads(Path(playbook.mirror, "manifest.json").read_text())
    variables = {
        "commit": manifest["profiles"]["tf1"]["commit"],
        "requirements": str(requirements),
        "wheels": str(newer_wheels),
    }
    first = playbook.run("../tests/integration/playbooks/alone", variables)
    assert first.returncode == 0, first.output
    env = playbook.apps / "conda" / "envs" / "alone"
    assert list((env / "lib" / "python3.6" / "site-packages").glob("termcolor-99.dist-info"))
    assert (env / "include" / "Mask_RCNN" / "mrcnn" / "model.py").is_file()
    assert conda_packages(playbook.home / "elsewhere") == conda_packages(env)
    for command in (
        [env / "bin" / "maskrcnn-serve", "list"],
        ["sh", playbook.home / "program" / "maskrcnn", "tensorboard", "--dry-run", "logs"],
    ):
        environ = {"HOME": str(playbook.home), "PATH": "/usr/bin:/bin"}
        run = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
    assert "on login.example.org:\n    ~/apps/conda/envs/alone/bin/maskrcnn-serve tensorboard logs\n" in run.stdout

    second = playbook.run("../tests/integration/playbooks/alone", variables)
    assert second.returncode == 0, second.output
    assert second.changed == 0, second.output

    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    wanted = {"conda_env_prefix": str(tmp_path / "env"), "conda_env_lock": str(playbook.home / "alone.lock")}
    fails = playbook.run_role("conda_env", wanted | {"conda_env_lock_channel": str(tmp_path / "gone")})
    assert fails.returncode != 0
    assert not list((tmp_path / "tmp").iterdir()), "a copy of the lock"
