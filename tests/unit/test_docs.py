# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""README.md and docs/*.md: what they tell people to type exists, and what they say is printed is printed.

Before each block of commands stands which test runs it, or why none does:

    <!-- run by tests/integration/playbooks/test_site.py::test_a_second_run_changes_nothing -->
    <!-- not run by a test: it needs a cluster -->
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "roles"
PLAYBOOKS = ROOT / "playbooks"
EXAMPLE = ROOT / "docs" / "example.md"
TROUBLE = ROOT / "docs" / "troubleshooting.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

BLOCK = re.compile(
    r"^(?:(?P<before>[^\n]*)\n)?(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
SHELL = ("console", "bash", "shell", "sh")
RUN = re.compile(r"^ *<!-- run by (?P<file>\S+\.py)::(?P<name>\w+) -->$")
NOT_RUN = re.compile(r"^ *<!-- not run by a test: (?P<reason>\S.*) -->$")
TEST_FILE = re.compile(r"\b(?:tests|molecule)/[\w/]+\.py\b")
TEST = re.compile(r"\btest_\w+\b(?!\.py)")
CODE = re.compile(r"(`+)([^\n]+?)\1(?!`)")
SEPARATORS = ("&&", "||", ";", "|")
PLACEHOLDER = re.compile(r"[A-Z]+|\.\.\.")


class Block(NamedTuple):
    """Commands in a page."""

    page: Path
    line: int
    before: str  # the line before
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """What people type: in a console, what stands after the prompt."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language != "console":
            return [line.strip() for line in lines if line.strip()]
        return [line.strip()[2:] for line in lines if line.strip().startswith("$ ")]


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        if found["language"] in SHELL:
            line = text.count("\n", 0, found.start("text"))
            yield Block(page, line, found["before"] or "", found["language"], found["text"])


def spans(page: Path) -> list[str]:
    """What stands in a page as code within a line."""
    return [text for _ticks, text in CODE.findall(BLOCK.sub("", page.read_text(encoding="utf-8")))]


# What programs take


def takes_of(parser: argparse.ArgumentParser, words: list[str]) -> Iterator[str]:
    """What of a command line a parser does not know: verbs and options, not what they are given."""
    verbs = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), {})
    known = set(parser._option_string_actions)
    for place, word in enumerate(words):
        if word == "--":
            return
        if word.startswith("--"):
            if word.partition("=")[0] not in known:
                yield f"{parser.prog} has no option {word}"
        elif verbs and not PLACEHOLDER.fullmatch(word):
            if word in verbs:
                yield from takes_of(verbs[word], words[place + 1 :])
            else:
                yield f"{parser.prog} has no verb {word}"
            return
        elif verbs:
            return


@functools.cache
def inputs() -> frozenset[str]:
    """What `-e` can set: the playbooks' inputs, by the comments that describe them, and the roles'."""
    comments = (PLAYBOOKS / "vars" / "site.yml").read_text(encoding="utf-8")
    comments += (PLAYBOOKS / "remove.yml").read_text(encoding="utf-8")
    found = {name for line in comments.splitlines() if line.startswith("# ") for name in INPUT.findall(line)}
    for specs in ROLES.glob("*/meta/argument_specs.yml"):
        found |= set(yaml.safe_load(specs.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"])
    return frozenset(found)


INPUT = re.compile(r"\bmaskrcnn_\w+\b")


def names(value: str) -> list[str]:
    """What a value of `-e` sets: NAME=VALUE, or a dictionary."""
    return list(yaml.safe_load(value)) if value.startswith("{") else [value.partition("=")[0]]


def for_ansible(words: list[str]) -> Iterator[str]:
    """What is wrong with options for ansible-playbook."""
    rest = iter(words)
    for word in rest:
        if word in ("-e", "--extra-vars"):
            for name in names(next(rest)):
                if name not in inputs():
                    yield f"there is no input {name}"
        elif word == "-i":
            path = next(rest)
            if not (ROOT / path).is_dir():
                yield f"there is no inventory {path}"
        elif word not in ("--check", "--diff"):
            yield f"{word} is not expected"


def playbook(words: list[str], _whole: bool) -> Iterator[str]:
    if not (ROOT / words[0]).is_file():
        yield f"there is no {words[0]}"
    yield from for_ansible(words[1:])


def make(words: list[str], _whole: bool) -> Iterator[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, equals, value = word.partition("=")
        if name == "ANSIBLE_ARGS":
            yield from for_ansible(shlex.split(value))
        elif equals:
            if not re.search(rf"\b{name}\b", makefile):
                yield f"the Makefile has no {name}"
        elif not re.search(rf"^{name}:", makefile, re.MULTILINE):
            yield f"there is no target {name}"


def imported(role: str, module: str) -> Any:
    """A module of a role's files, which are what users are given: no byte-code is left there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.syspath_prepend(str(ROLES / role / "files"))
        return importlib.import_module(module)


def parsed(parser: argparse.ArgumentParser, words: list[str], whole: bool) -> Iterator[str]:
    """What is wrong for a program with such a parser; of a whole command line, it says so itself."""
    wrong = [*takes_of(parser, words)]
    if whole and not wrong:
        try:
            parser.parse_args(words)
        except SystemExit:
            wrong = [f"{parser.prog} does not take {shlex.join(words)}"]
    yield from wrong


def mrcnn(words: list[str], whole: bool) -> Iterator[str]:
    yield from parsed(imported("workbench", "mrcnn_workbench.cli").parser(), words, whole)


def serve(words: list[str], whole: bool) -> Iterator[str]:
    yield from parsed(imported("tunnels", "tunnel_cli").parser(), words, whole)


def verify(words: list[str], _whole: bool) -> Iterator[str]:
    known = re.findall(r'"(--[\w-]+)"', (ROLES / "verify" / "files" / "verify_env.py").read_text(encoding="utf-8"))
    yield from (
        f"maskrcnn-verify has no option {w}" for w in words if w.startswith("--") and w not in {*known, "--help"}
    )


def workstation(words: list[str], _whole: bool) -> Iterator[str]:
    """`maskrcnn` is a shell script; which verb takes which options is in one place of it."""
    text = (ROLES / "tunnels" / "files" / "maskrcnn").read_text(encoding="utf-8")
    table = re.search(r"^takes\(\) \{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE)
    assert table
    known: dict[str, list[str]] = {}
    for verbs, options in re.findall(r"^    ([\w| -]+)\)\s+echo '([\w -]+)'", table[1], re.MULTILINE):
        known |= dict.fromkeys(verbs.split(" | "), options.split())
    if not words or words[0] == "--help" or PLACEHOLDER.fullmatch(words[0]):
        return
    if words[0] not in known:
        yield f"maskrcnn has no verb {words[0]}"
        return
    for word in words[1:]:
        if word == "--":
            return
        option = word.partition("=")[0].removeprefix("--")
        if word.startswith("--") and option not in [*known[words[0]], "help"]:
            yield f"maskrcnn {words[0]} has no option --{option}"


def batch(words: list[str], _whole: bool) -> Iterator[str]:
    """What a job is to do."""
    for place, word in enumerate(words):
        if word == "--wrap":
            yield from wrong_with(words[place + 1], whole=False)  # what Slurm tells a job is not known here


PROGRAMS: dict[str, Callable[[list[str], bool], Iterator[str]]] = {
    "ansible-playbook": playbook, "make": make, "maskrcnn": workstation, "maskrcnn-serve": serve,
    "maskrcnn-verify": verify, "mrcnn": mrcnn, "sbatch": batch,
}  # fmt: skip


def wrong_with(command: str, whole: bool) -> Iterator[str]:
    """What is wrong with a command line, as far as we know its programs."""
    words: list[str] = []
    for word in [*shlex.split(command, comments=True), ";"]:
        if word not in SEPARATORS:
            words.append(word)
            continue
        while words and re.match(r"[A-Z_0-9]+=", words[0]):  # variables that are set for it
            del words[0]
        if words and (program := PROGRAMS.get(words[0].removeprefix(".venv/bin/"))):
            yield from (f"{command}: {text}" for text in program(words[1:], whole))
        words = []


# Tests


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_say_which_test_runs_them_or_why_none_does(page: Path) -> None:
    wrong = []
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if found := RUN.match(block.before):
            path = ROOT / found["file"]
            if not path.is_file() or f"def {found['name']}(" not in path.read_text(encoding="utf-8"):
                wrong.append(f"{where}: there is no {found['file']}::{found['name']}")
        elif found := NOT_RUN.match(block.before):
            wrong += [f"{where}: there is no {name}" for name in unknown(found["reason"])]
        else:
            wrong.append(f"{where}: <!-- run by FILE::TEST --> or <!-- not run by a test: WHY --> is missing before it")
    assert wrong == []


def unknown(reason: str) -> Iterator[str]:
    """Files and tests that a reason names and that are not there."""
    yield from (name for name in TEST_FILE.findall(reason) if not (ROOT / name).is_file())
    yield from (
        name for name in TEST.findall(reason) if f"def {name}(" not in all_tests() and f"{name}.py" not in reason
    )


@functools.cache
def all_tests() -> str:
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "molecule").rglob("test_*.py")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_blocks_exist(page: Path) -> None:
    lines = [line for block in blocks(page) for line in block.commands]
    assert [text for line in lines for text in wrong_with(line, whole=True)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_within_lines_exist(page: Path) -> None:
    wrong: list[str] = []
    for code in spans(page):
        if code.startswith("-e ") and "..." not in code:
            wrong += for_ansible(shlex.split(code))
        elif code.split()[0] in PROGRAMS:
            wrong += wrong_with(code, whole=False)
    assert wrong == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != EXAMPLE], ids=lambda page: page.name)
def test_what_the_example_runs_is_in_the_example(page: Path) -> None:
    """The test of the example types what is on its page, and nothing else."""
    typed = {line for block in blocks(EXAMPLE) for line in block.commands}
    for block in blocks(page):
        if "test_workbench_example.py" in block.before and RUN.match(block.before):
            assert set(block.commands) <= typed


@pytest.mark.parametrize(
    "command",
    [
        "make nothing", "make site COLOUR=red", 'make site ANSIBLE_ARGS="-e maskrcnn_colour=red"',
        "MASKRCNN_PYTHON36=/x make nothing", "ansible-playbook playbooks/nothing.yml",
        "ansible-playbook playbooks/site.yml -i inventories/nothing", "ansible-playbook playbooks/site.yml --nothing",
        """ansible-playbook playbooks/site.yml -e '{"maskrcnn_colour": "red"}'""", "mrcnn nothing",
        "mrcnn data nothing", "mrcnn data import photos", "mrcnn train data --nothing", "mrcnn runs && mrcnn nothing",
        "maskrcnn nothing", "maskrcnn list --port 1", "maskrcnn-serve nothing", "maskrcnn-verify --nothing",
        'sbatch --gpus=1 --wrap "mrcnn nothing"',
    ],
)  # fmt: skip
def test_what_does_not_exist_is_noticed(command: str) -> None:
    assert [*wrong_with(command, whole=True)] != []


# Messages


def strings(path: Path) -> Iterator[str]:
    """The texts in a file, with `...` for what is put in."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        inside = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.JoinedStr):
                inside |= {id(part) for part in node.values}
                yield "".join(str(p.value) if isinstance(p, ast.Constant) else "..." for p in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                yield re.sub(r"\{[^{}\s]*\}", "...", node.value)
    elif path.suffix == ".yml":
        yield text  # with what may be said within braces
        yield re.sub(r"\{\{.*?\}\}", "...", text, flags=re.DOTALL)
    else:
        yield re.sub(r"\$\{[^}]*\}|\$\w+", "...", text)


@functools.cache
def printed() -> str:
    """Everything that our programs, modules and tasks can say."""
    files: Iterable[Path] = [
        *(ROOT / "plugins").rglob("*.py"), *PLAYBOOKS.rglob("*.yml"), *ROLES.glob("*/tasks/*.yml"),
        *ROLES.glob("*/templates/*"), *ROLES.glob("*/files/**/*.py"), ROLES / "tunnels" / "files" / "maskrcnn",
        ROOT / "tools" / "site", ROOT / "tools" / "venv",
    ]  # fmt: skip
    return plain("\n".join(text for path in files for text in strings(path)))


def plain(text: str) -> str:
    """For comparison: one blank between words."""
    return " ".join(text.split())


def messages(page: Path) -> list[str]:
    """What stands in the first column of the tables with messages."""
    found, within = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        within = line.startswith("| message |") or (within and line.startswith("|"))
        if within and (cell := re.match(r"\| (`+)(.+?)\1 \|", line)):
            found.append(cell[2])
    return found


def test_messages_are_what_is_printed() -> None:
    """What stands between `...` is there to the letter."""
    assert len(messages(TROUBLE)) > 1
    parts = {part.strip() for message in messages(TROUBLE) for part in message.split("...")}
    assert [part for part in sorted(parts) if plain(part) not in printed()] == []
