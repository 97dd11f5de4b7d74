# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Locks as plain data, and whether one is for what is asked for and a mirror has its files."""

from __future__ import annotations

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.lock_file import Lock, LockedFile, LockFileError, read
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.lock_fit import complaints, lacking
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import Pin
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package

A, B, C = "a" * 64, "b" * 64, "c" * 64
# As py-rattler 0.28 writes it.
LOCK = f"""\
version: 7
platforms:
- name: linux-64
environments:
  default:
    channels:
    - url: https://conda.anaconda.org/conda-forge/
    packages:
      linux-64:
      - conda: https://conda.anaconda.org/conda-forge/noarch/pip-21.3.1-pyhd8ed1ab_0.conda
      - conda: /srv/channel/linux-64/python-3.6.12-hffdb5ce_0_cpython.tar.bz2
      - pypi: https://files.pythonhosted.org/packages/ab/Keras_Applications-1.0.8-py3-none-any.whl
      - pypi: /srv/wheels/foo-1.0%2Blocal.tar.gz#sha256={C}
packages:
- conda: https://conda.anaconda.org/conda-forge/noarch/pip-21.3.1-pyhd8ed1ab_0.conda
  sha256: {A}
  size: 1422088
- conda: /srv/channel/linux-64/python-3.6.12-hffdb5ce_0_cpython.tar.bz2
  subdir: linux-64
  sha256: {B}
- pypi: https://files.pythonhosted.org/packages/ab/Keras_Applications-1.0.8-py3-none-any.whl
  name: Keras_Applications
  version: 1.0.8
  sha256: {B}
- pypi: /srv/wheels/foo-1.0%2Blocal.tar.gz#sha256={C}
  name: foo
  version: '1.0'
  sha256: {C}
"""


def test_lock_as_plain_data() -> None:
    lock = read(LOCK, "some.lock")
    pip, python = lock.conda
    assert (pip.package, pip.sha256) == (Package("pip", "21.3.1", "pyhd8ed1ab_0"), A)
    assert pip.place == "channel/noarch/pip-21.3.1-pyhd8ed1ab_0.conda"
    assert python.package == Package("python", "3.6.12", "hffdb5ce_0_cpython")
    assert python.url == "/srv/channel/linux-64/python-3.6.12-hffdb5ce_0_cpython.tar.bz2"
    keras, foo = lock.pip
    assert (keras.package, keras.place) == (
        Package("keras-applications", "1.0.8"),
        "wheels/Keras_Applications-1.0.8-py3-none-any.whl",
    )
    assert (foo.url, foo.place) == ("/srv/wheels/foo-1.0%2Blocal.tar.gz", "wheels/foo-1.0+local.tar.gz")
    assert lock.requirements == f"keras-applications==1.0.8 --hash=sha256:{B}\nfoo==1.0 --hash=sha256:{C}\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (LOCK, "not: a lock", "pixi.lock"),
        (LOCK, "", "pixi.lock"),
        (LOCK, "- {", "pixi.lock"),
        ("version: 7", "version: 4", "format 4"),
        ("linux-64:", "osx-arm64:", "osx-arm64"),
        ("  default:", "  other:", "pixi.lock"),
        (f"  sha256: {A}\n", "", "pip-21.3.1.*SHA-256"),
        (f"  sha256: {B}\n", "", "Keras.*SHA-256"),
        (f"  sha256: {C}\n", "  sha256: c3\n", "foo.*SHA-256"),
        ("pip-21.3.1-pyhd8ed1ab_0.conda", "pip", "not a conda package"),
        ("/noarch/", "/win-64/", "win-64"),
        ("/srv/wheels/foo-1.0%2Blocal.tar.gz", "git+https://host/foo@0123456", "foo"),
        ("/srv/wheels/foo-1.0%2Blocal.tar.gz", "/srv/wheels/..", "wheel"),
    ],
)
def test_what_is_no_lock_or_pins_no_bytes(old: str, new: str, words: str) -> None:
    # The last of two equal sums is the one of the package for pip.
    text = LOCK.replace(old, new) if old != f"  sha256: {B}\n" else new.join(LOCK.rsplit(old, 1))
    with pytest.raises(LockFileError, match=rf"(?s)some\.lock.*{words}"):
        read(text, "some.lock")


def lock(conda: list[str], pip: list[str]) -> Lock:
    """A lock with packages such as ``numpy 1.18.5 py36_0`` and, for pip, ``keras 2.2.5``."""
    packages = [Package(*text.split()) for text in [*conda, *pip]]
    files = [LockedFile(package, f"/srv/{package.name}", A, f"some/{package.name}") for package in packages]
    return Lock(files[: len(conda)], files[len(conda) :])


CONDA = [
    "python 3.6.15 0_cpython",
    "numpy 1.18.5 py36h1_0",
    "matplotlib-base 3.3.4 0",
    "jpeg 9e 0",
    "typing_extensions 4.1.1 0",
]


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ("numpy", True),
        ("NumPy", True),
        ("scipy", False),
        ("python=3.6", True),
        ("python=3.6.1", False),
        ("python=3.6.12", False),
        ("python==3.6", False),
        ("python==3.6.15", True),
        ("numpy>=1.16,<1.19", True),
        ("numpy >=1.19", False),
        ("numpy<1.18.5", False),
        ("numpy=1.18.*", True),
        ("numpy=1.18.5=py36*", True),
        ("numpy=1.18.5=py37*", False),
        ("conda-forge::numpy=1.18", True),
        ("conda-forge::numpy=1.17", False),
        ("jpeg>=9d", True),  # only conda can compare these
        ("numpy=1.17|1.18", True),
        ("numpy[version='>=2']", True),
    ],
)
def test_specs_that_a_lock_fits(spec: str, fits: bool) -> None:
    found = [*complaints(lock(CONDA, []), [spec], None)]
    assert bool(found) != fits, found
    assert all(spec in line for line in found)


@pytest.mark.parametrize(
    ("pins", "pip", "words"),
    [
        (["keras 2.2.5"], ["keras 2.2.5"], []),
        # conda brings these, whatever their versions.
        (["keras 2.2.5", "numpy 1.19.5", "matplotlib 3.0", "typing-extensions 4.1.1"], ["keras 2.2.5"], []),
        (["keras 2.2.5", "six 1.16.0"], ["six 1.16.0"], ["keras 2.2.5 is wanted", "nothing"]),
        (["keras 2.2.5", "six 1.16.0"], [], ["no part for pip"]),
        (["keras 2.2.5"], ["keras 2.2.4"], ["keras 2.2.5 is wanted", "keras 2.2.4"]),
        (["tensorflow 1.15.5"], ["tensorflow-gpu 1.15.5"], ["tensorflow 1.15.5 is wanted", "no tensorflow-gpu"]),
    ],
)
def test_requirements_that_a_lock_fits(pins: list[str], pip: list[str], words: list[str]) -> None:
    wanted = [Pin(*text.split(), (f"--hash=sha256:{A}",)) for text in pins]
    found = "; ".join(complaints(lock(CONDA, pip), [], wanted))
    assert bool(found) == bool(words), found
    assert all(word in found for word in words), found


def test_mirror_that_has_the_files_or_not() -> None:
    files = {"some/python": {"sha256": A}, "some/keras": {"sha256": B}}
    wanted = lock(["python 3.6.15 0"], ["keras 2.2.5", "six 1.16.0"])
    keras, six = lacking(wanted, files)
    assert "keras" in keras
    assert A in keras
    assert B in keras
    assert "six is not in it" in six
    assert not [*lacking(lock(["python 3.6.15 0"], []), files)]
