"""Makes a conda channel with one package: a compiled program that has the path of its env in it, and prints it."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "integration"))
from channel import PLACEHOLDER, Channel

# ls prints its help in pieces; one of those gives its place to the path.
program = Path("/bin/ls").read_bytes()
piece = max(re.findall(rb"[\n -~]+\0", program), key=len)
if len(piece) <= len(PLACEHOLDER):
    sys.exit("no piece of the program is long enough")
program = program.replace(piece, f"[{PLACEHOLDER}/share]\n".encode().ljust(len(piece), b"\0"))
Channel(Path(sys.argv[1])).add("compiled", "1.0", files={"bin/where": program})
