# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn doctor`: whether this environment can work here, and what to do if it cannot."""

import argparse
import json
from typing import Any

DESCRIPTION = """\
Looks at the environment and at where you are: versions that are known not to work, packages from elsewhere, CPUs and
memory, GPUs and why none is seen, room on disks, Slurm, weights. What is ok is said so; `warn` is what may be meant,
FAIL is what has to be put right. Importing TensorFlow takes most of the time.

The exit code is 1 if something is FAIL, else 0.
"""


def add_to(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "doctor",
        help="find what is wrong with the environment, and what to do",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--json", action="store_true", help="print it for programs")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from mrcnn_workbench import doctor
    from mrcnn_workbench.errors import count

    findings = []
    for finding in doctor.examine():
        findings.append(finding)
        if not arguments.json:
            print("{:5} {}: {}".format(finding.level, finding.about, finding.text), flush=True)
            if finding.advice:
                print("      -> {}".format(finding.advice), flush=True)
    failed, warned = (sum(finding.level == level for finding in findings) for level in (doctor.FAIL, doctor.WARN))
    if arguments.json:
        records = [dict(finding._asdict()) for finding in findings]
        print(json.dumps({"ok": not failed, "findings": records}, indent=2, ensure_ascii=False))
    else:
        print("\n{}, {}.".format(count(failed, "failure"), count(warned, "warning")))
    return int(bool(failed))
