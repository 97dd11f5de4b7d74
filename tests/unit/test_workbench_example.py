# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn data example`: its labels are what is drawn, and the import takes them."""

from pathlib import Path
from typing import Any

import hand_labelled as hand  # noqa: F401 - where the package is
import numpy as np
import pytest
from mrcnn_workbench import dataset, example, settings
from mrcnn_workbench.checking import Check
from mrcnn_workbench.cli import main
from mrcnn_workbench.errors import WorkbenchError
from PIL import Image


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("example") / "made"
    assert main(["data", "example", str(folder)]) == 0
    return folder


def test_photographs_become_a_data_set_without_a_finding(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    assert main(["data", "import", str(made / "photos"), str(out), "--group", "^plant[0-9]+"]) == 0
    assert Check(out).findings == []
    train, val = dataset.read(out).values()
    assert len(train.images) + len(val.images) == example.PLANTS * example.PICTURES
    plants = [{str(image["file_name"])[:7] for image in split.images} for split in (train, val)]
    assert all(plants) and not plants[0] & plants[1]


def test_masks_are_those_that_are_seen(made: Path) -> None:
    for picture in sorted((made / "unseen").glob("*.png")):
        image = np.asarray(Image.open(str(picture)))
        masks = {
            path.stem: np.asarray(Image.open(str(path))) > 0
            for path in (made / "unseen/masks" / picture.stem).iterdir()
        }
        assert set(masks) == {"leaf_1", "flower_1"}
        assert not (masks["leaf_1"] & masks["flower_1"]).any()
        red, green, _blue = (image[masks["leaf_1"]].mean(axis=0)).tolist()
        assert green > 1.5 * red, "a leaf is green"
        red, green, _blue = (image[masks["flower_1"]].mean(axis=0)).tolist()
        assert red > 1.5 * green, "a flower is not"


def test_masks_come_through_the_import_to_the_pixel(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    assert main(["data", "import", str(made / "unseen"), str(out), "--val", "1"]) == 0
    (split,) = dataset.read(out).values()
    names = {record["id"]: record["name"] for record in split.categories}
    annotations = split.by_image()
    for image in split.images:
        masks = made / "unseen" / "masks" / Path(str(image["file_name"])).stem
        assert len(annotations[image["id"]]) == 2
        for record in annotations[image["id"]]:
            known = np.asarray(Image.open(str(masks / "{}_1.png".format(names[record["category_id"]])))) > 0
            assert (dataset.mask_of(record, (example.SIDE, example.SIDE)) == known).all()


def test_unseen_plants_are_others(made: Path) -> None:
    known, unseen = ({path.name[:7] for path in (made / folder).glob("*.png")} for folder in ("photos", "unseen"))
    assert known and unseen and not known & unseen


def test_the_same_seed_draws_the_same(made: Path, tmp_path: Path) -> None:
    example.make(tmp_path / "again")
    example.make(tmp_path / "other", seed=1)
    first = "photos/plant01_1.png"
    assert (tmp_path / "again" / first).read_bytes() == (made / first).read_bytes()
    assert (tmp_path / "other" / first).read_bytes() != (made / first).read_bytes()


def test_its_settings_are_good_ones(made: Path) -> None:
    found = settings.checked(settings.read(made / "quick.yml"), "quick.yml")
    assert found["data"] == str(made / "dataset")


def test_what_is_there_stays(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="is there already"):
        example.make(tmp_path)
    assert list(tmp_path.iterdir()) == []
