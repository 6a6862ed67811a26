"""The configuration's file, as a stranger may have written it."""

from pathlib import Path

import pytest

from synap.config.loading import load_config
from synap.config.yaml_file import MAX_BYTES, read_yaml
from synap.errors import ConfigInvalid

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n"
    for below, name in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("auth: {enabled: true}\nauth: {enabled: false}\n", "'auth' stands twice"),
        ("auth:\n  enabled: true\n  enabled: false\n", "'enabled' stands twice"),
        ("auth: {roles: {x: [{action: read, action: all}]}}", "'action' stands twice"),
        ("server: &a\n  host: *a\n", "more than"),
        (BOMB, "more than"),
        ("[" * 100_000, "too deep"),
        ("#" * (MAX_BYTES + 1), "longer than"),
        ("server: {host: \x9b}", "."),
    ],
    ids=["section", "key", "deep key", "itself", "aliases", "nested", "long", "control"],
)
def test_file_that_nobody_means_is_refused_in_words(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(text)
    with pytest.raises(ConfigInvalid, match=why):
        load_config(path, {}, {})


def test_key_of_a_merge_may_be_said_again(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert read_yaml(path)["b"] == {"x": 3, "y": 2}


def test_fault_shows_no_more_than_the_beginning_of_a_value(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(f"server: {{port: {'x' * 100_000}}}")
    with pytest.raises(ConfigInvalid) as raised:
        load_config(path, {}, {})
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "auth: {root: {password: hunter22, password: x}}",
        "auth: {root: {password: hunter22}",
        "\x07",
    ],
    ids=["twice", "open", "control"],
)
def test_fault_of_the_form_shows_no_secret_beside_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(text)
    with pytest.raises(ConfigInvalid) as raised:
        load_config(path, {}, {})
    assert "hunter" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["port: 016020", "port: 07", "secs: 1:30", "port: -012"])
def test_number_of_another_base_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"line 1, column [0-9]+: a whole number is written"):
        read_yaml(file)
