# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A file with labels: JSON, XML or CSV, told by how it begins."""

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from mrcnn_workbench.dataset import read_json
from mrcnn_workbench.errors import WorkbenchError

ENDINGS = (".json", ".xml", ".csv")
BEGINNING = 512
LONGEST_FIELD = 1 << 24  # the outline of one object, as JSON in a cell


class Document(NamedTuple):
    path: Path
    content: Any  # what JSON holds, an Element, or a table: a list of rows, each a dict, and nothing else in it

    @property
    def name(self) -> str:
        return self.path.name

    def looks_like(self) -> str:
        """For people who expected something else."""
        if isinstance(self.content, Element):
            return "XML whose first tag is <{:.40}>".format(self.content.tag)
        if isinstance(self.content, dict):
            keys = ", ".join(map(str, list(self.content)[:6])) or "nothing"
            return "a JSON object with {:.120}".format(keys)
        if isinstance(self.content, Table):
            return "a table with the columns {:.120}".format(", ".join(self.content.columns))
        return "JSON that is no object with labels"


class Table(list):  # type: ignore[type-arg] # Python 3.6 has no list[...]
    """The rows of a CSV file, each a dict."""

    def __init__(self, text: str) -> None:
        csv.field_size_limit(LONGEST_FIELD)
        head = text.split("\n", 1)[0]
        delimiter = ";" if head.count(";") > head.count(",") else ","
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        super().__init__(reader)
        self.columns = [name or "" for name in reader.fieldnames or []]


def read(path: Path) -> Document:
    """Raises WorkbenchError for a file that is not what it begins like."""
    try:
        with path.open("rb") as file:
            beginning = file.read(BEGINNING)
    except OSError as error:
        raise WorkbenchError("{}: {}".format(path, error.strerror)) from error
    if beginning.startswith(b"PK"):
        raise WorkbenchError("{}: this is a zip archive; unpack it and give the folder".format(path))
    first = beginning.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if not first:
        raise WorkbenchError("{}: the file is empty".format(path))
    if first in b"{[":
        return Document(path, read_json(path))
    if first == b"<":
        return Document(path, _read_xml(path))
    try:
        return Document(path, Table(path.read_text(encoding="utf-8-sig")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise WorkbenchError("{}: this is neither JSON nor XML nor CSV ({})".format(path, error)) from error


def _read_xml(path: Path) -> Any:
    try:
        return parse(str(path)).getroot()
    except ParseError as error:
        line, column = error.position
        raise WorkbenchError(
            "{}, line {} column {}: this is no XML ({})".format(path, line, column + 1, error)
        ) from error
    except DefusedXmlException as error:
        # They can name other files, and a few lines of them can fill the memory.
        raise WorkbenchError(
            "{}: it defines XML entities, which labels have no need for: refused".format(path)
        ) from error
    except (ValueError, LookupError) as error:  # an encoding that nobody knows
        raise WorkbenchError("{}: this is no XML ({})".format(path, error)) from error
