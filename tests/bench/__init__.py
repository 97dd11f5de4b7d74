# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Measures how long envs take, beside `cp -al` and the usual ways, and holds the figures against their bounds."""
