"""A call to the log's owner on this machine."""

from pathlib import Path

import pytest

from synap.errors import WriterUnavailable
from synap.ipc.admin_messages import ConfirmClock
from workers.cli.owner_call import ask_here


def test_call_where_no_node_runs_names_the_directory_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(WriterUnavailable) as caught:
        ask_here(None, tmp_path, ConfirmClock())
    assert f"no node runs on {tmp_path} here" in caught.value.message
    assert "--data-dir, --config or --url" in caught.value.message
