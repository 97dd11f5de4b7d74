"""Replicas made the obvious way, by root, with cp, sed, chown and paths: what the tests have to find fault with.

Options come as a module's do, on standard input; the answer is a module's as well.
"""

import json
import pwd
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

options = json.load(sys.stdin)["ANSIBLE_MODULE_ARGS"]
template = Path(options["template"])


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def give(user: str) -> dict[str, str]:
    top = Path(options["users_dir"], user)
    env = top / "conda" / "envs" / options["name"]
    if options.get("state") == "absent":
        shutil.rmtree(env)
        return {"user": user, "prefix": str(env), "status": "removed"}
    building = env.with_name(f".crophpc-new-{env.name}")
    building.parent.mkdir(parents=True, exist_ok=True)
    links = ["--link"] if template.stat().st_dev == building.parent.stat().st_dev else []
    run("cp", "--archive", *links, template, building)
    found = subprocess.run(["/bin/grep", "-rlI", template, building], check=True, capture_output=True, text=True)
    run("sed", "-i", f"s|{template}|{env}|g", *found.stdout.splitlines())
    run("chown", "--recursive", f"{user}:", top)
    if env.exists():
        shutil.rmtree(env)
    building.rename(env)
    known_to_conda = Path(pwd.getpwnam(user).pw_dir, ".conda", "environments.txt")
    known_to_conda.parent.mkdir(exist_ok=True)
    with known_to_conda.open("a") as stream:
        stream.write(f"{env}\n")
    run("su", user, "-c", f"ln -sfn {top} ~/apps")
    return {"user": user, "prefix": str(env), "status": "created"}


with ThreadPoolExecutor(len(options["users"])) as pool:
    print(json.dumps({"users": [*pool.map(give, options["users"])]}))
