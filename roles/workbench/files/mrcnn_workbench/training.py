# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A training: from settings to a run, and on from where a run was interrupted.

It drives Keras' `fit_generator` over mrcnn's own `set_trainable`, `compile` and `data_generator`: then callbacks,
workers and checkpoints are ours to choose, and `model.py` stays as it is. Nothing is forked, since mrcnn's forked
workers may hang.
"""

import contextlib
import logging
import platform
import signal
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Deque, Dict, Iterator, List, Optional, Sequence, Set, Tuple

# The first of what imports TensorFlow, since it does so without its chatter.
from mrcnn_workbench import mask_rcnn  # isort: skip

import keras
import numpy as np
import tensorflow as tf

from mrcnn_workbench import dataset, host, runs, settings, small, weights
from mrcnn_workbench.callbacks import Recorder, Stopped, TrainingFailed, named
from mrcnn_workbench.errors import WorkbenchError, count, listed
from mrcnn_workbench.progress import Journal
from mrcnn_workbench.runs import Run
from mrcnn_workbench.settings import Settings

MOST_LOADERS = 4
# What ends a program, and what Slurm sends before a time limit: first the step is finished.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
MEMORY = """\
the memory of the {} is full. What helps, in this order: images_per_gpu: 1; a smaller image_size; backbone: resnet50; \
fewer regions (model: {{TRAIN_ROIS_PER_IMAGE: 100}}); mini_masks: true"""


def splits(folder: Path) -> Tuple[dataset.Split, Optional[dataset.Split]]:
    """The halves of a data set to train on and to validate with, if there is one. Raises WorkbenchError.

    This finds what would end a training at once; `mrcnn data check` finds the rest.
    """
    found = dataset.read(folder)
    if "train" not in found:
        raise WorkbenchError("{}: {} is missing".format(folder, dataset.file_of(Path(), "train")))
    known: Set[str] = set()
    for split in found.values():
        try:
            names = {record["id"]: str(record["name"]) for record in split.categories}
            stray = [record["id"] for record in split.annotations if record["category_id"] not in names]
            missing = [path for path in map(split.image_path, split.images) if not path.is_file()]
        except (KeyError, TypeError) as error:
            raise WorkbenchError(
                "{}: {} is missing; `mrcnn data check {}` says more".format(split.file, error, folder)
            ) from error
        if stray:
            raise WorkbenchError(
                "{}: {} of unknown classes; see `mrcnn data check`".format(split.file, count(len(stray), "label"))
            )
        if missing:
            raise WorkbenchError(
                "{} not there:\n{}".format(count(len(missing), "image"), listed(list(map(str, missing))))
            )
        if not split.annotations:
            raise WorkbenchError("{}: there are no labels".format(split.file))
        new = set(names.values()) - known
        if split.name == "val" and new:
            raise WorkbenchError(
                "{}: {} not among the classes of train, so nothing could learn them; make the data set anew, or leave "
                "them out with `mrcnn data import --classes`".format(split.file, ", ".join(sorted(new)))
            )
        known |= new
    return found["train"], found.get("val")


def begin(wanted: Settings, folder: Path) -> Run:
    """A new run, of checked settings. Raises WorkbenchError, and then there is none."""
    return Run.create(folder, settings.dump(wanted), check(wanted, folder))


def check(wanted: Settings, folder: Path) -> List[str]:
    """Whether a run in this folder could begin; returns the classes without the background. Raises WorkbenchError."""
    train, _val = splits(Path(wanted["data"]))
    classes = mask_rcnn.class_names(train)
    mask_rcnn.configuration(wanted, [runs.BACKGROUND, *classes])
    named(wanted["callbacks"], 0.001, 0, True)
    _start(wanted, classes, folder)
    return classes


def _start(wanted: Settings, classes: List[str], folder: Path) -> Optional[Tuple[Path, List[str]]]:
    """The file with the weights to begin with, and what not to take from it; none for new ones."""
    start, exclude = wanted["start"], wanted["exclude"]
    if start == settings.NOTHING:
        return None
    if start == settings.LAST:
        return runs.newest(folder.parent, classes, folder.resolve()).best().path, exclude
    if start in (settings.COCO, settings.IMAGENET):
        return weights.find(start), [*exclude, *mask_rcnn.OF_CLASSES]
    path = Path(start)
    if path.is_dir():
        run = Run(path)
        other = run.classes[1:] != classes
        return run.best().path, [*exclude, *(mask_rcnn.OF_CLASSES if other else [])]
    if not path.is_file():
        raise WorkbenchError(
            "start: {}: there is no such file; known names are {}".format(start, ", ".join(settings.STARTS))
        )
    return path, exclude


class Training:
    """One training of a run, from wherever it is to its end."""

    def __init__(self, run: Run, any_gpu: bool = False) -> None:
        self.run, self.any_gpu = run, any_gpu
        self.wanted = settings.load(run.path(runs.SETTINGS))
        self.why = ""

    def __call__(self) -> str:
        """Trains. Returns what became of the run, a status of `runs`. Raises WorkbenchError if it failed."""
        with self.run.lock(), contextlib.closing(Journal(self.run.path(runs.LOG))) as self.journal:
            self.run.note(status=runs.RUNNING, reason="", **_where())
            try:
                with host.handling(ENDING, self._stop):
                    self._train()
            except Stopped as stopped:
                return self._ended(runs.STOPPED, str(stopped))
            except TrainingFailed as error:
                self._failed(str(error))
            except tf.errors.ResourceExhaustedError as error:
                self._failed(MEMORY.format("GPU" if "GPU" in str(error) else "node"))
            except MemoryError:
                self._failed(MEMORY.format("node"))
            except KeyboardInterrupt:
                self._ended(runs.STOPPED, "interrupted")
                raise
            except Exception as error:
                self._ended(runs.FAILED, str(error))
                raise
            return self._ended(runs.FINISHED, "")

    def _failed(self, reason: str) -> None:
        self._ended(runs.FAILED, reason)
        raise WorkbenchError("{}: {}".format(self.run.folder, reason))

    def _ended(self, status: str, reason: str) -> str:
        with contextlib.suppress(OSError):  # a full disk may have been the reason
            self.run.note(status=status, reason=reason)
        if status == runs.STOPPED:
            self.journal.say("stopped: {}".format(reason))
        return status

    def _stop(self, number: int, _frame: Any) -> None:
        # The second Ctrl-C, at once. Slurm's signals come twice at times: to all processes of a job, and to its script,
        # which passes them on.
        if self.why and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.why = "signal {}".format(signal.Signals(number).name)

    def _train(self) -> None:
        train, val = splits(Path(self.wanted["data"]))
        classes = self.run.classes
        if mask_rcnn.class_names(train) != classes[1:]:
            raise WorkbenchError(
                "{}: the classes of the data set were {}, now they are {}; begin a new run".format(
                    self.run.folder, ", ".join(classes[1:]), ", ".join(mask_rcnn.class_names(train))
                )
            )
        mask_rcnn.start_session(self.wanted["seed"])
        self._look_at_devices()
        config = mask_rcnn.configuration(self.wanted, classes)
        if self.wanted["mini_masks"] == "auto" and not config.USE_MINI_MASK:
            self.journal.say("mini-masks are off, since this release of mrcnn spoils them with this scikit-image")
        model = mask_rcnn.build("training", config)
        done = self._load(model)
        images = mask_rcnn.Images(train, classes)
        held_out = mask_rcnn.Images(val, classes) if val else None
        self.journal.say(self._summary(images, held_out))
        with contextlib.ExitStack() as stack:
            feeds = [stack.enter_context(feed(images, config, self._augmentation()))]
            if held_out:
                feeds.append(stack.enter_context(feed(held_out, config)))
            self._stages(model, config, done, feeds)

    def _summary(self, images: Any, held_out: Any) -> str:
        parts = [count(len(images.image_ids), "image")]
        if held_out:
            parts.append("{} to validate with".format(len(held_out.image_ids)))
        parts += [", ".join(self.run.classes[1:]), "on " + self.device]
        return "{}: {}".format(self.run.name, "; ".join(parts))

    def _look_at_devices(self) -> None:
        """Notes what this runs on, and refuses a GPU on which it would go wrong."""
        found = host.devices()
        gpus = host.gpus(found)
        self.device = "; ".join(gpus) or count(host.cpus(), "CPU")
        if len(gpus) < self.wanted["gpus"] and (gpus or self.wanted["gpus"] > 1 or host.gpu_is_given()):
            raise WorkbenchError(
                "gpus: {} wanted, {} seen: {}".format(self.wanted["gpus"], len(gpus), host.why_no_gpu())
            )
        unfit = host.unfit(gpus)
        if unfit and not self.any_gpu:
            raise WorkbenchError(unfit + "; --any-gpu tries all the same")
        environment = dict(
            _where(), python=platform.python_version(), tensorflow=tf.__version__, keras=keras.__version__,
            mrcnn=str(mask_rcnn.place()), devices=found,
        )  # fmt: skip
        runs.write_json(self.run.path(runs.ENVIRONMENT), environment)

    def _load(self, model: Any) -> int:
        """The weights to go on with; returns how many epochs they have seen."""
        found = self.run.checkpoints()
        for checkpoint in reversed(found):
            try:
                mask_rcnn.load(model, checkpoint.path, whole=True)
            except WorkbenchError as error:
                self.journal.say("{}; the one before is tried".format(error))
                continue
            self.journal.say("going on after epoch {}".format(checkpoint.epoch))
            self.run.write_metrics([row for row in self.run.metrics() if row["epoch"] <= checkpoint.epoch])
            return checkpoint.epoch
        if found:
            raise WorkbenchError("none of the checkpoints can be loaded; if settings.yml was changed, begin a new run")
        if self.wanted["backbone"] == settings.SMALL:
            small.liven(model.keras_model)
        start = _start(self.wanted, self.run.classes[1:], self.run.folder)
        if start:
            path, exclude = start
            mask_rcnn.load(model, path, exclude)
            self.journal.say("beginning with {}{}".format(path, ", but for " + ", ".join(exclude) if exclude else ""))
        return 0

    def _augmentation(self) -> Any:
        name = self.wanted["augmentation"]
        if name == "none":
            return None
        if ":" in name:
            return mask_rcnn.imported(name, "augmentation")()
        from imgaug import augmenters as vary  # noqa: PLC0415 - slow, and not always there

        if name == "mirror":
            return vary.Fliplr(0.5)
        turns = vary.OneOf([vary.Affine(rotate=degrees) for degrees in (0, 90, 180, 270)])
        return vary.Sequential([vary.Fliplr(0.5), vary.Flipud(0.5), turns, vary.Multiply((0.8, 1.2))])

    def _stages(self, model: Any, config: Any, done: int, feeds: List[Any]) -> None:
        """All stages that are left, after `done` epochs."""
        stages = self.wanted["stages"]
        # Where each stage has begun; one that was stopped early has had fewer epochs than planned.
        before = done
        starts: List[int] = [start for start in self.run.state().get("stages", []) if start <= done] or [0]
        while len(starts) <= len(stages):
            stage, first = stages[len(starts) - 1], starts[-1]
            last = first + stage["epochs"]
            if done < last:
                self.run.note(stages=starts, epochs=last + sum(later["epochs"] for later in stages[len(starts) :]))
                done = self._stage(model, config, stage, (first, done, last), feeds)
            starts = [*starts, done]
        self.run.note(stages=starts[:-1], epochs=done)
        if done == before:
            self.journal.say("all {} are done; for more, raise those in its settings.yml".format(count(done, "epoch")))

    def _stage(self, model: Any, config: Any, stage: Settings, epochs: Tuple[int, int, int], feeds: List[Any]) -> int:
        """One stage, from (first, done, last) epochs; returns the epochs that are done in the end."""
        first, done, last = epochs
        size = config.BATCH_SIZE
        steps = self.wanted["steps"] or -(-feeds[0].count // size)
        options: Dict[str, Any] = {}
        if len(feeds) > 1:
            validation_steps = self.wanted["validation_steps"] or -(-feeds[1].count // size)
            options = {"validation_data": feeds[1], "validation_steps": validation_steps}
        with mask_rcnn.quiet():
            model.set_trainable(settings.LAYERS[stage["layers"]], verbose=0)
            model.compile(stage["learning_rate"], config.LEARNING_MOMENTUM)
        plan = {
            "stage": stage["layers"], "epochs": self.run.state()["epochs"], "keep": self.wanted["keep"],
            "stop": lambda: self.why,
        }  # fmt: skip
        board = keras.callbacks.TensorBoard(str(self.run.path(runs.EVENTS)), write_graph=False)
        history = model.keras_model.fit_generator(
            feeds[0], steps_per_epoch=steps, initial_epoch=done, epochs=last, verbose=0,
            workers=0,  # the feed has threads of its own
            callbacks=[
                *named(self.wanted["callbacks"], stage["learning_rate"], first, len(feeds) > 1),
                board,
                Recorder(self.run, model, self.journal, plan),
            ],
            **options
        )  # fmt: skip
        over = done + len(history.epoch)
        if over < last:
            self.journal.say("this stage ends after {} of its epochs: it learnt no more".format(over - first))
        return over


class Feed:
    """Batches for ever, each image in turn, made ahead by several of mrcnn's generators, each in a thread.

    Every generator has a share of the images: two that had all would show some twice before others once.
    """

    def __init__(self, images: Any, config: Any, augmentation: Any, pool: ThreadPoolExecutor, loaders: int) -> None:
        self.images, self.count, self.pool = images, len(images.labelled), pool
        self.waiting: Deque[Tuple[Any, Any]] = deque()
        for number in range(loaders):
            share = _Share(images, images.labelled[number::loaders])
            self._make_ahead(mask_rcnn.batches(share, config, augmentation))

    def _make_ahead(self, generator: Any) -> None:
        self.waiting.append((generator, self.pool.submit(next, generator)))

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Any:
        generator, batch = self.waiting.popleft()
        try:
            found = batch.result()
        except Exception:
            if not self.images.broken:
                raise
        if self.images.broken:
            raise WorkbenchError(self.images.broken[0])
        self._make_ahead(generator)
        return found


class _Share:
    """A data set with some of its images."""

    def __init__(self, images: Any, image_ids: Sequence[int]) -> None:
        self._images, self.image_ids = images, np.array(image_ids)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images, name)


@contextlib.contextmanager
def feed(images: Any, config: Any, augmentation: Any = None) -> Iterator[Feed]:
    """A feed, with as many threads as we have CPUs to spare."""
    loaders = max(1, min(host.cpus() - 1, MOST_LOADERS, len(images.labelled) // config.BATCH_SIZE))
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.CRITICAL)  # mrcnn logs a traceback for what we say in a line
    with ThreadPoolExecutor(loaders) as pool:
        try:
            yield Feed(images, config, augmentation, pool, loaders)
        finally:
            log.setLevel(level)


def _where() -> Dict[str, Any]:
    found = host.whereabouts()
    return {"host": found["host"], "job": found["slurm_job_id"], "cpus": found["cpus"]}
