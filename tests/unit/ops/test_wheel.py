"""The wheel of the server carries what its pages consist of, and the licences of others' files."""

from __future__ import annotations

from hatchling.builders.wheel import WheelBuilder

from ops.image_requirements import ROOT


def test_wheel_carries_the_console_and_what_it_uses() -> None:
    builder = WheelBuilder(str(ROOT))
    carried = {each.distribution_path for each in builder.recurse_included_files()}
    for folder in ("synap/http/api/console/page", "synap/http/vendor"):
        for file in (ROOT / folder).rglob("*.*"):
            if "__pycache__" not in file.parts:
                assert file.relative_to(ROOT).as_posix() in carried
    licences = {path.name for path in (ROOT / "synap/http/vendor/licences").iterdir()}
    assert licences <= {path.rpartition("/")[2] for path in builder.metadata.core.license_files}
