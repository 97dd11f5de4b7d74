# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What this environment was told of the place where it is: <env>/share/crophpc.maskrcnn/workbench/site.json.

The role `workbench` writes it. What it leaves out, or all where there is none, is as it is here.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from mrcnn_workbench.errors import WorkbenchError

FILE = Path("share", "crophpc.maskrcnn", "workbench", "site.json")


class Site(NamedTuple):
    """The settings of a place."""

    profile: str = "tf1"
    gpu_types: Tuple[str, ...] = ("v100", "rtx8000")  # Slurm's names of those that the profile works on; none: on any
    partition: str = ""  # for jobs without a GPU; empty: the cluster's own choice
    gpu_partition: str = "gpu"
    time: str = "1-00:00:00"  # of a job; a training goes on in a next one
    mem: str = "16G"
    cpus: int = 4
    weights_dirs: Tuple[str, ...] = ()  # where weights are looked for


def read(prefix: Optional[Path] = None) -> Site:
    """The settings of the environment in this prefix, by default the one that we run in. Raises WorkbenchError."""
    path = (prefix or Path(sys.prefix)) / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Site()
    except (OSError, ValueError) as error:
        raise WorkbenchError("{}: cannot be read ({}); provision the environment again".format(path, error)) from error
    given: Dict[str, Any] = found if isinstance(found, dict) else {}
    return Site(**{name: _value(given[name]) for name in Site._fields if given.get(name) is not None})


def others(prefix: Optional[Path] = None) -> Iterator[Tuple[Path, Site]]:
    """The environments beside the one in this prefix, by default the one that we run in, and what they were told."""
    here = prefix or Path(sys.prefix)
    for file in sorted(here.parent.glob("*/{}".format(FILE))):
        other = file.parents[len(FILE.parts) - 1]
        with contextlib.suppress(WorkbenchError):  # another one's trouble
            if other != here:
                yield other, read(other)


def _value(found: Any) -> Any:
    return tuple(found) if isinstance(found, list) else found
