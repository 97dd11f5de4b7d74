# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is done for one user: find what they have, decide, make, update or remove their replica."""

from __future__ import annotations

import errno
import os
import re
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ansible_collections.crophpc.maskrcnn.plugins.module_utils import user_changes
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.as_user import (
    Account,
    AsUserError,
    as_user,
    os_error_words,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.env_manifest import (
    META,
    Manifest,
    ManifestError,
    open_manifest,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.folders import (
    FOLDER,
    Descent,
    above,
    exchange,
    exists,
    move,
    remove,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_rewrite import PrefixTooLongError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.replica import (
    TREE,
    Builder,
    NoLinksError,
    Stage,
    Template,
    leftovers,
    mark_old,
    remove_stage,
    staged,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.user_home import Home

LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
SECONDS_TO_COPY = 3600
# What a folder says on which root has no rights, as on an NFS with root_squash.
_NO_RIGHTS = (errno.EACCES, errno.EPERM)


class ReplicaError(Exception):
    """This user's replica cannot be made or removed; the text says why and what to do."""


class LeftAloneError(Exception):
    """There is an env that is the user's own affair."""


@dataclass(frozen=True)
class Wish:
    """What is wanted for all users; the options of the module env_replicas.

    ``update`` says that the template is going to be another one than it is; ``threads`` is how many build a replica.
    """

    users_dir: Path
    name: str
    on_changes: str
    keep_seconds: float
    kernel_users: frozenset[str]
    home_link: str
    check: bool
    update: bool = False
    threads: int = 1


@dataclass
class Outcome:
    """What became of one user's replica; ``before`` and ``after`` are its packages."""

    user: str
    prefix: str
    status: str = "unchanged"
    how: str = ""
    reason: str = ""
    added: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    changed: bool = False
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)


@dataclass
class Found:
    """A replica that is there: its descriptor, what it was made from, and what its user has done since."""

    env: int
    manifest: Manifest
    differences: list[user_changes.Difference]


class UserReplica:
    """One user's replica. ``manifests`` are those that have been read, by inode: most users have the same one."""

    def __init__(self, user: str, wish: Wish, manifests: dict[tuple[int, int], Manifest]) -> None:
        self.user = user
        self.wish = wish
        self.manifests = manifests
        self.prefix = f"{wish.users_dir}/{user}/conda/envs/{wish.name}"
        self.outcome = Outcome(user, self.prefix)
        self.top = self.envs = -1

    def run(self, template: Template | None) -> Outcome:
        """Brings about what is wanted, a replica of ``template`` or none; what goes wrong is in the outcome."""
        try:
            self.account = self.find_account(needed=template is not None)
            self.bring_about(template)
            self.at_home(present=template is not None)
        except LeftAloneError as left:
            self.outcome.status, self.outcome.reason = "kept", str(left)
        except (ReplicaError, AsUserError, PrefixTooLongError) as error:
            self.outcome.status, self.outcome.reason = "failed", str(error)
        except OSError as error:
            self.outcome.status, self.outcome.reason = "failed", os_error_words(error)
        except Exception as error:  # whatever users have made of their folders, the others are to get theirs
            self.outcome.status, self.outcome.reason = "failed", f"{type(error).__name__}: {error}"
        self.outcome.changed |= self.outcome.status in ("created", "updated", "removed")
        return self.outcome

    def bring_about(self, template: Template | None) -> None:
        """Does it with links as root where that can be, else with copies as the user."""
        if os.geteuid() != 0:
            self.decide(template, links=False)
            return
        try:
            self.decide(template, links=True)
        except NoLinksError as error:
            self.outcome.notes += [f"copied, for files cannot be linked here: {error}"] if str(error) else []
        except OSError as error:
            if error.errno not in _NO_RIGHTS:
                raise
            self.outcome.notes.append(f"copied, for root has no rights here: {error.strerror}")
        else:
            return

        def work() -> dict[str, object]:
            self.decide(template, links=False)
            return asdict(self.outcome)

        self.outcome = Outcome(**as_user(self.account, work, seconds=SECONDS_TO_COPY))

    # --- who, and where ---

    def find_account(self, *, needed: bool) -> Account:
        """The user's account. Raises ReplicaError.

        From one who has gone, a replica can be taken all the same: the account is then the owner of the folder.
        """
        if not LOGIN.fullmatch(self.user):
            raise ReplicaError(f"{self.user!r} is no name of a user")
        try:
            account = Account.named(self.user)
        except KeyError:
            if needed:
                raise ReplicaError("there is no such user on this machine; correct the name, or remove it") from None
            with suppress(FileNotFoundError):
                found = self.folder.stat()
                return Account(found.st_uid, found.st_gid, (), None)
            return Account(os.geteuid(), os.getegid(), (), None)
        if account.uid == 0:
            raise ReplicaError("root gets no replica: root would run programs in a folder meant for users")
        if os.geteuid() not in (0, account.uid):
            raise ReplicaError("only root can do this for somebody else; run it with become")
        return account

    @property
    def folder(self) -> Path:
        """The user's folder. All above it is root's, and what leads to it from there, a link too, is root's doing."""
        return self.wish.users_dir / self.user

    def enter(self, stack: ExitStack, *, make: bool) -> None:
        """Opens the user's folder and in it the one for envs, until ``stack`` ends. Raises ReplicaError, OSError."""
        if not make and not self.folder.is_dir():
            return
        if make:
            self.make_folder()
        self.top = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, self.top)
        if os.fstat(self.top).st_uid != self.account.uid:
            raise ReplicaError(f"{self.folder} does not belong to {self.user}; give it to them, or correct users_dir")
        folder = self.top
        for name in ("conda", "envs"):
            below = self.enter_below(name, folder, make=make)
            if below < 0:
                return
            stack.callback(os.close, below)
            folder = below
        self.envs = folder

    def make_folder(self) -> None:
        """Makes the user's folder, or gives them the one that a killed run has made. Raises ReplicaError."""
        try:
            with suppress(FileExistsError):
                self.folder.mkdir(mode=0o755)
            if os.geteuid() == self.folder.stat().st_uid == 0 and not any(self.folder.iterdir()):
                os.chown(self.folder, self.account.uid, self.account.gid)
        except OSError as error:
            raise ReplicaError(
                f"{self.folder} cannot be made ({error.strerror}); make it, as a folder of {self.user}'s"
            ) from error

    def enter_below(self, name: str, parent: int, *, make: bool) -> int:
        """The descriptor of a folder that the user controls, made by a process of theirs; -1 if there is none."""
        try:
            fd = os.open(name, FOLDER, dir_fd=parent)
        except FileNotFoundError:
            if not make:
                return -1

            def make_it() -> None:
                with suppress(FileExistsError):  # another run has made it at this moment
                    os.mkdir(name, 0o755, dir_fd=parent)

            if os.geteuid() == 0:
                as_user(self.account, make_it)
            else:
                make_it()
            fd = os.open(name, FOLDER, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise ReplicaError(
                    f"{name} on the way to {self.prefix} is a link or a file, and is not followed; "
                    "make it a folder, or take the user off the list"
                ) from error
            raise
        if os.fstat(fd).st_uid not in (self.account.uid, 0):
            os.close(fd)
            raise ReplicaError(f"{name} on the way to {self.prefix} belongs to another user")
        return fd

    # --- in that folder ---

    def decide(self, template: Template | None, *, links: bool) -> None:
        """Finds what is there and does what is to be done about it."""
        self.owner = (self.account.uid, self.account.gid) if links else None
        with ExitStack() as stack:
            self.enter(stack, make=template is not None and not self.wish.check)
            found = None
            if self.envs >= 0:
                if not self.wish.check:
                    for stage in leftovers(self.envs, self.wish.name, self.wish.keep_seconds if template else 0):
                        self.dispose(stage)
                        self.outcome.changed = True
                found = self.find(stack)
            self.outcome.before = self.outcome.after = found.manifest.packages if found else {}
            if template is None:
                self.take(found)
            elif self.is_wanted(template, found):
                self.outcome.status = "updated" if found else "created"
                self.outcome.after = template.manifest.packages
                if not self.wish.check:
                    self.make(template, found, links=links)

    def find(self, stack: ExitStack) -> Found | None:
        """The replica that is there. Raises ReplicaError, LeftAloneError, OSError."""
        try:
            env = os.open(self.wish.name, FOLDER, dir_fd=self.envs)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise ReplicaError(f"{self.prefix} is a link or a file, and is left alone; move it away") from error
            raise
        stack.callback(os.close, env)
        if os.fstat(env).st_uid != self.account.uid:
            raise ReplicaError(f"{self.prefix} belongs to another user")
        manifest = self.manifest(env)
        if not manifest:
            if os.geteuid() == 0 and (copied := open_manifest(env, self.account.uid)):
                copied.close()
                raise NoLinksError  # it was made as the user, and is looked at as the user
            if exists(env, f"{META}/history"):
                raise LeftAloneError(f"{self.user} has made this environment; it is left alone")
            raise ReplicaError(f"{self.prefix} is a folder with other things in it; move it away")
        return Found(env, manifest, user_changes.differences(env, manifest, self.account.uid))

    def manifest(self, env: int) -> Manifest | None:
        """What a replica was made from; only this process' own user is believed, and not what users have put there."""
        stream = open_manifest(env, os.geteuid())
        if not stream:
            return None
        with stream:
            status = os.fstat(stream.fileno())
            inode = status.st_dev, status.st_ino
            if inode not in self.manifests:
                try:
                    self.manifests[inode] = Manifest.load(stream.read())
                except ManifestError:
                    return None
        return self.manifests[inode]

    # --- present ---

    def is_wanted(self, template: Template, found: Found | None) -> bool:
        """Whether there is something to make; if not, the outcome says why not."""
        if not found:
            return True
        whole = all(exists(found.env, path) for path in found.manifest.own if path in found.manifest.by_path)
        current = whole and found.manifest.key == template.manifest.key and not self.wish.update
        self.outcome.added = user_changes.describe(found.differences)
        if found.differences and self.wish.on_changes == "keep":
            self.outcome.status = "kept"
            self.outcome.reason = f"{self.user} has changed it" + ("" if current else ", so it was not updated")
            return False
        return not current or bool(found.differences)

    def make(self, template: Template, found: Found | None, *, links: bool) -> None:
        """Builds the replica beside its place and puts it there. Raises ReplicaError, NoLinksError, OSError."""
        self.check_room(template, links=links)
        builder = Builder(template, self.prefix, self.owner, links, self.wish.threads)
        with staged(self.envs, self.wish.name) as stage:
            if found:
                kept = user_changes.changed_own(found.env, found.manifest)
                builder.build(stage.fd, found.env, kept)
                self.replace(stage, found, kept)
                self.outcome.kept += kept
            else:
                builder.build(stage.fd)
                try:
                    move(stage.fd, TREE, self.envs, self.wish.name)
                except OSError as error:
                    if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                        raise ReplicaError(f"{self.prefix} has appeared during this run; run it again") from error
                    raise
        self.outcome.how = "link" if links else "reflink" if builder.reflinks else "copy"

    def check_room(self, template: Template, *, links: bool) -> None:
        """Raises ReplicaError if the path is too long or the disk too full."""
        if len(self.prefix) > template.manifest.room:
            raise ReplicaError(
                f"{self.prefix} has {len(self.prefix)} characters, and the environment's compiled files have room for "
                f"{template.manifest.room}; choose a shorter name"
            )
        need = template.manifest.size_with_links if links else template.manifest.size
        disk = os.fstatvfs(self.envs)
        if disk.f_bavail * disk.f_frsize < need:
            raise ReplicaError(
                f"not enough space: about {need / 1e6:.0f} MB are needed, {disk.f_bavail * disk.f_frsize / 1e6:.0f} MB "
                "are free; free some, and run this again"
            )

    def replace(self, stage: Stage, found: Found, kept: list[str]) -> None:
        """Puts the new tree in the old one's place in one rename. Raises ReplicaError, OSError."""
        with ExitStack() as stack:
            new = os.open(TREE, FOLDER, dir_fd=stage.fd)
            stack.callback(os.close, new)
            mark_old(self.envs, stage, self.wish.name)
            try:
                exchange(stage.fd, TREE, self.envs, self.wish.name)
            except OSError:
                stage.holds_old = False
                raise
            if not os.path.samestat(os.stat(TREE, dir_fd=stage.fd, follow_symlinks=False), os.fstat(found.env)):
                exchange(stage.fd, TREE, self.envs, self.wish.name)
                stage.holds_old = False
                raise ReplicaError(f"{self.prefix} was replaced by something else during this run; run it again")
            for path in kept:
                # The very folder that the user's shells are in; the copy that stood in for it has the same files.
                leaf = path.rpartition("/")[2]
                with Descent(found.env) as old_way, Descent(new) as new_way:
                    old_parent = above(old_way, path)
                    exchange(old_parent, leaf, above(new_way, path), leaf)
                    remove(leaf, old_parent)
        if not self.wish.keep_seconds:
            self.dispose(stage)
            return
        self.rescue(stage)
        os.utime(stage.fd)

    # --- absent ---

    def take(self, found: Found | None) -> None:
        """Removes the replica; what the user has made stays. Raises ReplicaError, OSError."""
        if not found:
            self.outcome.status = "absent"
            return
        self.outcome.status, self.outcome.after = "removed", {}
        if self.wish.check:
            self.outcome.kept = user_changes.made_by_user(found.env, found.manifest, self.account.uid)
            return
        with staged(self.envs, self.wish.name) as stage:
            mark_old(self.envs, stage, self.wish.name)
            move(self.envs, self.wish.name, stage.fd, TREE)
            if not os.path.samestat(os.stat(TREE, dir_fd=stage.fd, follow_symlinks=False), os.fstat(found.env)):
                move(stage.fd, TREE, self.envs, self.wish.name)
                stage.holds_old = False
                raise ReplicaError(f"{self.prefix} was replaced by something else during this run; run it again")
            self.dispose(stage)

    def dispose(self, stage: Stage) -> None:
        """Removes what is in a stage; of the user's env, first what the user has made is moved to their folder."""
        if stage.holds_old:
            self.rescue(stage)
            stage.holds_old = False
        remove_stage(self.envs, stage)

    def rescue(self, stage: Stage) -> None:
        """Moves what the user has made out of a stage."""
        name = f"{self.wish.name}-kept-{time.strftime('%Y%m%d-%H%M%S')}-{stage.name[-8:]}"
        with suppress(FileNotFoundError), ExitStack() as stack:
            manifest = None
            with suppress(NotADirectoryError):  # a link that the user has put there at the last moment, say
                env = os.open(TREE, FOLDER, dir_fd=stage.fd)
                stack.callback(os.close, env)
                manifest = self.manifest(env)
            if manifest:
                made = user_changes.made_by_user(env, manifest, self.account.uid)
                saved = user_changes.save(env, stage.fd, made, self.owner)
                self.outcome.kept += [f"{self.folder}/{name}/{path}" for path in saved]
            else:  # nothing says what of it was given to the user
                move(stage.fd, TREE, self.top, name)
                self.outcome.kept.append(f"{self.folder}/{name}")
        with suppress(FileNotFoundError):
            move(stage.fd, user_changes.SAVED, self.top, name)

    # --- at home ---

    def at_home(self, *, present: bool) -> None:
        """What is to be done in the user's home, which a replica works without: problems are notes."""
        if not self.account.home or self.outcome.status == "failed":
            return
        home = Home(self.account.home, Path(self.prefix), self.wish.check)
        kernel = self.user in self.wish.kernel_users

        def work() -> dict[str, object]:
            return home.present(kernel=kernel, link=self.wish.home_link, apps=self.folder) if present else home.absent()

        try:
            done = as_user(self.account, work)
        except AsUserError as error:
            self.outcome.notes.append(f"{self.account.home}: {error}")
        else:
            self.outcome.changed |= done["changed"]
            self.outcome.notes += done["notes"]
