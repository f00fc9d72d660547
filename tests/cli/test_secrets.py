"""Secrets come by file, by standard input or by environment, so that no list of processes shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from poster_connector.sandbox import Account
from tests.processes import invoke, origin_in, started

pytestmark = pytest.mark.slow
KEY, TOKEN = "7loc_sc_by_file", Account().token


def test_a_key_and_a_token_by_file_by_standard_input_and_by_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key.txt").write_text(f"{KEY}\n")
    (tmp_path / "token.txt").write_text(f"{TOKEN}\n")
    (tmp_path / "empty.txt").write_text("\n")
    with (
        started(["sandbox", "sevenstamp", "--key", f"@{tmp_path / 'key.txt'}"], {}, tmp_path / "s.out"),
        started(["sandbox", "poster"], {}, tmp_path / "p.out"),
    ):
        env = {
            "CONNECTORS_SEVENSTAMP_URL": origin_in(tmp_path / "s.out"),
            "POSTER_API_URL": f"{origin_in(tmp_path / 'p.out')}/api",
        }
        assert KEY not in (tmp_path / "s.out").read_text()
        number = 0

        def command(*arguments: str, typed: str = "", fresh: bool = True, **more: str) -> tuple[int, str]:
            nonlocal number
            number += fresh
            env["CONNECTORS_DATABASE_URL"] = f"sqlite:///{tmp_path / f'{number}.db'}"
            done = invoke(list(arguments), {**env, **more}, typed=typed)
            assert KEY not in done.stdout + done.stderr
            assert TOKEN not in done.stdout + done.stderr
            return done.returncode, done.stdout + done.stderr

        add = ("connection", "add", "poster", "--json")
        by_file = ("--sevenstamp-key", "@key.txt", "--set", "access_token=@token.txt")
        code, said = command(*add, *by_file)
        assert code == 0, said
        one = json.loads(said)["id"]
        edit = ("connection", "edit", one)
        assert command(*edit, "--sevenstamp-key", "-", typed=f"{KEY}\n", fresh=False)[0] == 0
        assert command(*edit, "--set", "access_token=-", typed=TOKEN, fresh=False)[0] == 0
        assert command(*add, "--set", "access_token=-", typed=TOKEN, CONNECTORS_SEVENSTAMP_KEY=KEY)[0] == 0
        assert command("try", "poster", "--set", "access_token=-", typed=TOKEN)[0] == 0
        for given, why in (
            (("--sevenstamp-key", "@none.txt", "--set", "access_token=@token.txt"), "none.txt cannot be read"),
            (("--sevenstamp-key", "@key.txt", "--set", "access_token=@empty.txt"), "empty.txt is empty"),
            (("--sevenstamp-key", "-", "--set", "access_token=@token.txt"), "standard input is empty"),
        ):
            code, said = command(*add, *given)
            assert (code, why in said) == (1, True), said
        code, said = command(
            *add, *by_file[:2], "--set", "access_token=-", "--set", "categories=@token.txt", typed=TOKEN
        )
        assert "categories" in said  # no secret: it is taken as it was typed
