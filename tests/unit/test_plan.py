# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plans: what is different, and how it is shown."""

from __future__ import annotations

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package, Plan

AAA1 = Package("aaa", "1.0", "0")
AAA2 = Package("aaa", "2.0", "0")
REBUILT = Package("aaa", "1.0", "1")
BBB = Package("bbb", "1.0", "0")
PIP = Package("ccc", "3")


def test_nothing_to_do() -> None:
    plan = Plan({"aaa": AAA1}, {"aaa": AAA1})
    assert not plan
    assert plan.result() == {"installed": [], "removed": [], "changed": [], "repaired": []}
    diff = plan.diff("env")
    assert diff["before"] == diff["after"] == "aaa 1.0 0\n"


def test_all_there_is() -> None:
    plan = Plan({"aaa": AAA1, "bbb": BBB}, {"aaa": AAA2, "ccc": PIP}, {"bbb": "1 file missing"})
    assert plan
    assert plan.result() == {
        "installed": [{"name": "ccc", "version": "3"}],
        "removed": [{"name": "bbb", "version": "1.0", "build": "0"}],
        "changed": [{"name": "aaa", "from": "1.0 0", "to": "2.0 0"}],
        "repaired": [{"name": "bbb", "reason": "1 file missing"}],
    }


def test_release_is_all_but_the_name() -> None:
    assert [package.release for package in (AAA1, PIP)] == ["1.0 0", "3"]


def test_another_build_is_a_change() -> None:
    assert Plan({"aaa": AAA1}, {"aaa": REBUILT}).changed == [(AAA1, REBUILT)]


def test_damage_alone_is_a_plan_and_shows_before() -> None:
    plan = Plan({"aaa": AAA1}, {"aaa": AAA1}, {"aaa": "1 file missing, e.g. bin/aaa"})
    assert plan
    diff = plan.diff("env")
    assert "bin/aaa" in diff["before"]
    assert diff["after"] == "aaa 1.0 0\n"


def test_order_is_by_name() -> None:
    packages = {name: Package(name, "1", "0") for name in ("zzz", "mmm", "aaa")}
    assert [p.name for p in Plan({}, packages).installed] == ["aaa", "mmm", "zzz"]
    assert Plan({}, packages).diff("env")["after"].split()[::3] == ["aaa", "mmm", "zzz"]
