"""The documented Poster samples, unchanged: by hook and by list they say why they earn nothing; attached, they flow."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qsl

import httpx
import pytest
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from connector_sdk.money import Money
from connector_sdk.rate_limit import unpaced
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.cli.servers import serving
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.sevenstamp.sandbox import Sandbox
from connectors.store import ledger, queries
from connectors.web.app import application

SAMPLES = Path(__file__).parent / "samples" / "poster"
SECRET = "fe2bc8e865d8fc2236968ee53c3b2bd5"
TOKEN = "203941:02391570ff9af128e93c5a771055ba88"


class Documented:
    """A Poster that answers with the documented samples; `attached` puts client 38 on every receipt."""

    def __init__(self) -> None:
        self.attached = False
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        method = scope["path"].rpartition("/")[2]
        query = dict(parse_qsl(scope["query_string"].decode()))
        self.asked.append((method, query))
        body = json.dumps(self._answer(method, query)).encode()
        headers = [(b"content-type", b"text/html"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, method: str, query: dict[str, str]) -> object:
        if query["token"] != TOKEN:
            return json.loads((SAMPLES / "error.json").read_text())
        if method == "dash.getTransactions":
            receipts = [*self._receipts("dash.getTransactions.json"), *self._receipts("dash.getTransaction.json")]
            return {"response": [receipt for receipt in receipts if self._is_asked_for(receipt, query)]}
        answer = json.loads((SAMPLES / f"{method}.json").read_text())
        if method == "settings.getAllSettings":
            answer["response"]["COMPANY_ID"] = "api-demo"  # the samples are of two accounts; the hooks are of this one
        if method == "dash.getTransaction":
            answer["response"] = [
                receipt
                for receipt in self._receipts(f"{method}.json")
                if receipt["transaction_id"] == query["transaction_id"]
            ]
        return answer

    def _receipts(self, name: str) -> list[dict[str, str]]:
        receipts = json.loads((SAMPLES / name).read_text())["response"]
        return [{**receipt, "client_id": "38"} if self.attached else receipt for receipt in receipts]

    @staticmethod
    def _is_asked_for(receipt: dict[str, str], query: dict[str, str]) -> bool:
        day = receipt["date_close_date"][:10].replace("-", "")
        after = int(query.get("next_tr", 0))
        return query["dateFrom"] <= day <= query["dateTo"] and int(receipt["transaction_id"]) > after


@pytest.mark.slow
async def test_the_documented_samples_earn_nothing_until_somebody_is_attached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poster, sevenstamp = Documented(), Sandbox()
    async with serving(poster) as till, serving(sevenstamp) as url:
        monkeypatch.setenv("POSTER_API_URL", till)
        monkeypatch.setenv("POSTER_APPLICATION_SECRET", SECRET)
        settings = Settings(
            database_url=f"sqlite:///{tmp_path / 'l.db'}",
            sevenstamp_url=url,
            secret_key=SecretStr("a key that only tests use"),
        )
        async with Host(settings) as host:
            rule = StampRule(
                kind="by_amount", amount=Money.from_decimal("10", "UAH"), unknown_customer=UnknownCustomer.issue
            )
            connection = await host.services.onboarding.connect(
                "poster", {"access_token": TOKEN}, "7loc_sc_s", lambda _account: rule
            )
            assert (connection.account.name, connection.account.currency, connection.account.zone) == (
                "Демо-версия Poster",
                "UAH",
                "Europe/Kiev",
            )
            transport = httpx.ASGITransport(app=application(host))
            async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
                for name in sorted(SAMPLES.glob("webhook.*.json")):
                    answer = await client.post("/hooks/tills/poster", content=name.read_bytes())
                    assert (answer.status_code, answer.json()) == (200, {"status": "accept"}), name
            await host.services.connections.edit(
                connection.id, {"access_token": TOKEN}
            )  # the samples also remove and add the application
            assert (await host.services.sync.run(connection.id)).operations["applied"] == 0
            assert sevenstamp.state.operations == []
            assert await host.store.read(lambda tx: queries.operations.list_newest(tx, connection.id)) == []
            lines = await host.store.read(lambda tx: ledger.journal.of_connection(tx, connection.id))
            assert (
                "Receipt 330660, UAH\xa027.50, earned no stamps: nobody is attached, and it was closed on "
                "February 17, 2018, before this connection began." in [host.words.word(line.message) for line in lines]
            )

            poster.attached = True
            started = len(poster.asked)
            with unpaced():  # a thousand days are asked for
                result = await host.services.sync.backfill(connection.id, "2018-02-01", _quiet)
            assert result.operations["applied"] == 1
            applied = [operation for operation in sevenstamp.state.operations if operation["kind"] == "stamps_added"]
            assert [(operation["code"], operation["count"]) for operation in applied] == [("poster:203941:330660:1", 2)]
            (card,) = sevenstamp.state.cards.values()
            assert card.phone == "+380501111111"
            spans = [
                (query["dateFrom"], query["dateTo"])
                for method, query in poster.asked[started:]
                if method == "dash.getTransactions"
            ]
            assert spans[0] == ("20180131", "20180202")


async def _quiet(_now: object) -> None:
    return


def test_the_kept_samples_are_those_that_were_handed_over() -> None:
    shared = Path(__file__).parents[2] / "shared" / "wire" / "poster_samples"
    if not shared.is_dir():
        pytest.skip("the shared samples are not beside this checkout")
    for sample in shared.iterdir():
        assert (SAMPLES / sample.name).read_bytes() == sample.read_bytes()
