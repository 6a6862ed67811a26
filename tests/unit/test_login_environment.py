"""The credentials of the command line."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from synap.errors import ConfigInvalid
from synap.login_environment import login_headers


def test_key_comes_before_a_user_and_a_file_before_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from the file\n")
    user = {"SYNAP_USER": "ann", "SYNAP_PASSWORD": "correct horse"}
    pair = b64encode(b"ann:correct horse").decode()
    assert login_headers({}) == {}
    assert login_headers(user) == {"Authorization": f"Basic {pair}"}
    assert login_headers({**user, "SYNAP_API_KEY": "k"}) == {"Authorization": "Bearer k"}
    by_file = {**user, "SYNAP_API_KEY": "k", "SYNAP_API_KEY_FILE": str(file)}
    assert login_headers(by_file) == {"Authorization": "Bearer from the file"}


@pytest.mark.parametrize(
    "environ", [{"SYNAP_USER": "ann"}, {"SYNAP_API_KEY_FILE": "/nowhere/at/all"}]
)
def test_credentials_that_are_not_whole_say_what_is_missing(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigInvalid, match="SYNAP_"):
        login_headers(environ)
