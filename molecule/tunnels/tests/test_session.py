"""A day of ada's: one login, TensorBoard and a notebook, another computer, and nothing left in the end."""

from __future__ import annotations

from lab import ADA, BROWSER, CONTROL_C, ENDED, LINUS, LOGS, NODE, NOTEBOOKS, PRINTED, RUN, Person, traces, wait_until

IMPORTED = f"{PRINTED} from /mnt/apps/users/ada/conda/envs/maskrcnn_example/include/Mask_RCNN/mrcnn/model.py"


def test_from_start_to_end_with_one_code(ada: Person, elsewhere: Person) -> None:
    def all_traces() -> list[object]:
        return [traces(account) for account in (ADA, LINUS)]

    before = all_traces()
    codes = ada.codes()

    board = ada.watches(f"tensorboard {LOGS}", BROWSER=f"{BROWSER} tensorboard curves")
    seen = ada.seen("curves")
    assert seen["url"].startswith(board.url), seen
    assert {RUN, "shapes"} <= {*seen["runs"]}, seen
    assert seen["charts"] == {"loss": 2, "val_loss": 2}

    board.terminal.press(CONTROL_C)
    assert board.terminal.ends() == 0
    assert not board.answers()
    [server] = ada.servers()
    assert (server["kind"], server["state"], server["node"]) == ("tensorboard", "ready", NODE)
    assert f"maskrcnn attach {server['id']}" in board.terminal.said

    again = ada.watches(f"attach --no-browser {server['id']}")
    assert again.answers()
    assert again.url.split("/", 3)[3] == board.url.split("/", 3)[3]

    notebook = ada.watches(f"jupyter --no-browser --node twiki {NOTEBOOKS}")
    seen = ada.sees("notebook", "look", notebook.url.replace("/?", "/notebooks/look.ipynb?"))
    assert seen["output"] == IMPORTED
    assert {server["kind"] for server in ada.servers()} == {"tensorboard", "jupyter"}
    assert ada.codes() - codes == 1

    # Another computer asks for a code of its own, and sees what runs.
    there = elsewhere.watches(f"attach --no-browser {server['id']}")
    assert there.answers() and again.answers()
    assert ada.codes() - codes == 2
    assert [found["id"] for found in elsewhere.servers()] == [found["id"] for found in ada.servers()]

    status, said = ada.runs("maskrcnn stop --all")
    assert status == 0, said
    assert ada.servers() == []
    # Who watches is told, and has nothing to look at.
    for watch in (again, notebook, there):
        assert watch.terminal.ends(60) == ENDED, watch.terminal.said
    assert ada.codes() - codes == 2
    for person in (ada, elsewhere):
        assert person.runs("maskrcnn logout")[0] == 0
    assert wait_until(lambda: all_traces() == before), (before, all_traces())
