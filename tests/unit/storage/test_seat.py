"""Names of which each is one living process's: the next one to come gets a dead one's."""

import socket

import pytest

from featurestore.errors import InvalidRequest
from featurestore.storage.seat import seat


def test_a_name_is_held_by_one_and_free_again_after(tmp_path):
    """The first free number is taken, so who comes back is who it was."""
    host = socket.gethostname()
    with seat(tmp_path / "a") as one:
        assert one == f"{host}-1"
        with seat(tmp_path / "a") as two, seat(tmp_path / "b") as other:
            assert (two, other) == (f"{host}-2", f"{host}-1")
    with seat(tmp_path / "a") as again:
        assert again == one


def test_a_folder_that_cannot_be_made_is_said_with_the_way_out(tmp_path):
    """A name may be given instead."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="--consumer"), seat(tmp_path / "file" / "a"):
        pass
