# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From photographs to detections: what the command `mrcnn` does, to be imported.

It runs on Python 3.6 and later. A data set is a folder as COCO's own (see `dataset`); `importing` makes one of labels
in any of `formats`, `checking` finds what would ruin a training, `sheet` draws it. `training` makes a run of it (see
`runs`); `detection` and `evaluation` use what a run has learnt; `submission`, `watching` and `tuning` do that in Slurm
jobs. `verbs` are the command line.
"""
