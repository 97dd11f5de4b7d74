# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`python -m mrcnn_workbench` is the command `mrcnn`."""

import sys

from mrcnn_workbench.cli import main

sys.exit(main())
