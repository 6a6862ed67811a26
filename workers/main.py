"""The entry of the command line, `synap`: picks the commands and turns errors into words and codes.

`synap serve` becomes the supervisor of a node, which clients wait for; the other commands' imports
are twice its own, so it does without them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from synap.errors import StartError, SynapError
from workers.printable import printable
from workers.process import EXIT_FAILED, EXIT_REFUSED, importing, keep_private, open_standard_files


def main() -> None:
    """Run the command that the arguments name."""
    module = "workers.cli.serve" if sys.argv[1:2] == ["serve"] else "workers.cli.app"
    with importing():
        app = importlib.import_module(module).app
    run(app)


def run(app: Callable[[], object]) -> None:
    """Run a command line; what can't start says why in one line for each fault."""
    keep_private()
    open_standard_files()
    try:
        app()
    except StartError as error:
        for line in str(error).splitlines():
            print(f"synap: {printable(line)}", file=sys.stderr)
        sys.exit(EXIT_REFUSED)
    except (SynapError, OSError) as error:
        print(f"synap: {printable(str(error))}", file=sys.stderr)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
