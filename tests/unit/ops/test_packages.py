"""The demonstration's data set: paragraphs of fields into records."""

from __future__ import annotations

from ops.packages import package_key, parse_packages

LINES = """\
Package: tree
Version: 2.1.0-1
Architecture: amd64
Description: shows a tree
 of files: and folders
 .

Package: nano
Version: 1:7.2-1
Architecture: all
""".splitlines()


def test_parse_packages_yields_the_fields_of_each_paragraph() -> None:
    tree, nano = parse_packages(LINES)
    assert list(tree) == ["Package", "Version", "Architecture", "Description"]
    assert nano == {"Package": "nano", "Version": "1:7.2-1", "Architecture": "all"}


def test_parse_packages_joins_continued_lines_to_their_field() -> None:
    tree, _ = parse_packages(LINES)
    assert tree["Description"] == "shows a tree\nof files: and folders\n."


def test_parse_packages_of_nothing_yields_nothing() -> None:
    assert list(parse_packages(["", ""])) == []


def test_package_key_holds_name_version_and_architecture() -> None:
    _, nano = parse_packages(LINES)
    assert package_key(nano) == "deb:nano:1:7.2-1:all"
