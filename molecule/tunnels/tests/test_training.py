"""A training of ada's, seen from the workstation as it goes on: what TensorBoard shows grows by the epoch."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from lab import ADA, BIN, FOLDER, Person, on, wait_until

LEAVES = f"{FOLDER}/leaves"
EPOCHS = 20  # more than it takes to have a look


def test_tensorboard_shows_a_training_as_it_goes_on(ada: Person) -> None:
    def at_twiki(command: str) -> str:
        said: str = on("twiki", ADA).check_output(f"cd ~/{LEAVES} && PATH={BIN % ADA}:$PATH && {command}")
        return said

    def state() -> dict[str, Any]:
        found = json.loads(at_twiki("mkdir --parents runs && mrcnn runs --json"))
        return dict(found[0]) if found else {"epoch": 0}

    on("twiki", ADA).check_output(f"cd && rm -rf {LEAVES} && {BIN % ADA}/mrcnn data example {LEAVES}")
    at_twiki("mrcnn data import photos dataset --group '^plant[0-9]+'")
    train = f"mrcnn train quick.yml --run runs/live --layers all --epochs {EPOCHS} --set steps=10"
    at_twiki(f"{{ {train} >train.log 2>&1 </dev/null & }}")
    assert wait_until(lambda: state()["epoch"] >= 1, 120), at_twiki("cat train.log")

    board = ada.watches(f"tensorboard --no-browser --node twiki {LEAVES}/runs/live/events")

    def asks(page: str, **query: str) -> Any:
        return json.loads(ada.does(f"curl --silent --fail '{board.url}data/plugin/scalars/{page}?{urlencode(query)}'"))

    def epochs() -> int:
        """How many TensorBoard has of the losses, of training and of what it does not learn from."""
        numbers = [len(asks("scalars", run=run, tag=tag)) for run in asks("tags") for tag in ("loss", "val_loss")]
        return min(numbers, default=0)

    assert wait_until(lambda: epochs() >= 1), asks("tags")
    before = epochs()
    assert wait_until(lambda: epochs() > before, 60), at_twiki("cat train.log")
    assert state()["status"] == "running", "it was seen before it was over"
