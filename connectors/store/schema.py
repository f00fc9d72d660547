"""The tables. Times are integer UTC microseconds, keys are text, and both SQLite and PostgreSQL take them as they are.

Owns shapes and indexes; `migrations/` brings a database to them, and a test holds the two together. One module writes a
table, said above each; a test reads the code for that.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows only in a column of type INTEGER
Sequence = BigInteger().with_variant(Integer, "sqlite")

_ENCRYPTED: dict[str, bool] = {"encrypted": True}
"""Marks a column whose texts are ciphertexts (or, here and there, none): `rotation` encrypts them anew."""

# Facts of the installation by name: the key in use, the operator's password. Written by `stored_settings`.
setting_table = Table(
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# Numbers by name; "ticket" orders the reads of tills. Written by `counters`.
counter_table = Table(
    "counter",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

# Whose cards they are, as 7stamp says; `paused_until` while its plan is used up. The card operations of a month are as
# 7stamp said at `plan_checked_at`, with ours since; they count until `operations_until`, and 7stamp is asked again at
# `plan_next_at`. Written by `connections.businesses`.
business_table = Table(
    "business",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("country", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("paused_until", BigInteger, nullable=False, server_default="0"),
    Column("plan_checked_at", BigInteger, nullable=False, server_default="0"),
    Column("operations_used", Integer),
    Column("operations_allowed", Integer),
    Column("operations_until", BigInteger, nullable=False, server_default="0"),
    Column("plan_next_at", BigInteger, nullable=False, server_default="0"),
)
Index("ix_business_plan_next", business_table.c.plan_next_at)

# A cafe's till account joined to its 7stamp key. `generation` goes up with every change that senders and readers must
# notice; `scope` and `skipped` are JSON lists; a removed one stays, without its secrets.
# Written by `connections.registry`.
connection_table = Table(
    "connection",
    metadata,
    Column("id", Text, primary_key=True),
    Column("connector", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("business_id", Text, ForeignKey("business.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("health", Text, nullable=False),
    Column("health_since", BigInteger, nullable=False),
    Column("authorised_at", BigInteger, nullable=False),
    Column("reason", Text),
    Column("began_at", BigInteger, nullable=False),
    Column("poll_seconds", Integer),
    Column("next_poll_at", BigInteger, nullable=False),
    Column("next_lookback_at", BigInteger, nullable=False),
    Column("checkpoint_at", BigInteger),
    Column("last_poll_at", BigInteger),
    Column("last_lookback_at", BigInteger),
    Column("last_hook_at", BigInteger),
    Column("failures", Integer, nullable=False),
    Column("send_after", BigInteger, nullable=False, server_default="0"),
    Column("generation", Integer, nullable=False),
    Column("settings", Text, nullable=False, info=_ENCRYPTED),
    Column("sevenstamp_key", Text, nullable=False, info=_ENCRYPTED),
    Column("key_hash", Text, nullable=False),
    Column("hook_token", Text, nullable=False, info=_ENCRYPTED),
    Column("hook_token_hash", Text, nullable=False, unique=True),
    Column("key_login", Text),
    Column("expires_at", BigInteger),
    Column("skipped", Text, nullable=False, server_default="[]"),
    Column("former_hook_token_hash", Text),
    Column("former_hook_until", BigInteger),
    Column("refused_at", BigInteger),
    Column("grant_secrets", Text, info=_ENCRYPTED),
    Column("renew_at", BigInteger),
    Column("renewing_until", BigInteger, nullable=False, server_default="0"),
    Column("renewal_failures", Integer, nullable=False, server_default="0"),
    Column("consent_trouble_at", BigInteger),
    Column("account_checked_at", BigInteger),
    Column("left_out", Text),
    Column("read_key", Text),
    Column("subscribed", Text, info=_ENCRYPTED),
    Column("claim_consent", Text),
)
Index("ix_connection_renewal", connection_table.c.renew_at)
Index("ix_connection_account", connection_table.c.connector, connection_table.c.account_id)
Index("ix_connection_due_poll", connection_table.c.health, connection_table.c.next_poll_at)
Index("ix_connection_due_lookback", connection_table.c.health, connection_table.c.next_lookback_at)
Index("ix_connection_business", connection_table.c.business_id)
Index("ix_connection_key", connection_table.c.key_hash)
Index("ix_connection_former_hook", connection_table.c.former_hook_token_hash)

# Where 7stamp posts a business's events, and what proves them; `origin` is the host's address that it was told.
# Written by `connections.loyalty_sources`.
loyalty_source_table = Table(
    "loyalty_source",
    metadata,
    Column("business_id", Text, ForeignKey("business.id"), primary_key=True),
    Column("token", Text, nullable=False, info=_ENCRYPTED),
    Column("token_hash", Text, nullable=False, unique=True),
    Column("secret", Text, nullable=False, info=_ENCRYPTED),
    Column("former_secret", Text, info=_ENCRYPTED),
    Column("former_until", BigInteger, nullable=False, server_default="0"),
    Column("webhook_id", Text),
    Column("origin", Text),
    Column("next_at", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("last_event_at", BigInteger),
)

# What connectors note of tills that cannot be asked: values by key, of one business's till account, and bounded.
# Written by `connections.till_index`.
till_index_table = Table(
    "till_index",
    metadata,
    Column("business_id", Text, primary_key=True),
    Column("connector", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("added_at", BigInteger, nullable=False),
)
Index(
    "ix_till_index_added",
    till_index_table.c.business_id,
    till_index_table.c.connector,
    till_index_table.c.account_id,
    till_index_table.c.added_at,
)

# Every version of a connection's stamp rule, in force from a moment on. Written by `connections.rules`.
rule_version_table = Table(
    "rule_version",
    metadata,
    Column("connection_id", Text, ForeignKey("connection.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("effective_from", BigInteger, nullable=False),
    Column("rule", Text, nullable=False),
)

# A receipt as the ledger has it, which outlives its connection: `id` is a hash of business, connector, account and
# receipt. Amounts are in minor units. Written by `ledger.sales`.
sale_table = Table(
    "sale",
    metadata,
    Column("id", Text, primary_key=True),
    Column("business_id", Text, nullable=False),
    Column("connector", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("receipt_id", Text, nullable=False),
    Column("connection_id", Text, nullable=False),
    Column("version", BigInteger),
    Column("ticket", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("versions", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("closed_at", BigInteger),
    Column("paid", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("location_id", Text),
    Column("admitted", Integer, nullable=False),
    Column("rule_of", Text),
    Column("rule_number", Integer),
    Column("pinned", Integer, nullable=False),
    Column("stamps", Integer, nullable=False),
    Column("stamps_by_plugin", Integer),
    Column("customer_hash", Text),
    Column("bound_hash", Text),
    Column("card_id", Text),
    Column("card_hint", Text),
    Column("wait", Text),
    Column("next_n", Integer, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("day", Text),
    Column("claimed", Integer, nullable=False, server_default="0"),
    Column("anonymous", Integer, nullable=False, server_default="0"),
    UniqueConstraint("business_id", "connector", "account_id", "receipt_id"),
)
Index("ix_sale_connection_closed", sale_table.c.connection_id, sale_table.c.closed_at)
# what people search receipts by, newest first
Index("ix_sale_paid", sale_table.c.connection_id, sale_table.c.paid, sale_table.c.closed_at)
Index("ix_sale_card", sale_table.c.connection_id, sale_table.c.card_hint, sale_table.c.closed_at)
Index("ix_sale_customer", sale_table.c.connection_id, sale_table.c.customer_hash, sale_table.c.closed_at)
# what is not paid yet, the newest first: the till's screen asks for it
Index(
    "ix_sale_open",
    sale_table.c.connection_id,
    sale_table.c.changed_at,
    sqlite_where=text("status = 'open'"),
    postgresql_where=text("status = 'open'"),
)
# what was given by hand or taken back, the newest first: few of many, and a page lists them
Index(
    "ix_sale_by_hand",
    sale_table.c.connection_id,
    sale_table.c.closed_at,
    sqlite_where=text("claimed = 1"),
    postgresql_where=text("claimed = 1"),
)
Index(
    "ix_sale_refunded",
    sale_table.c.connection_id,
    sale_table.c.closed_at,
    sqlite_where=text("refunded > 0"),
    postgresql_where=text("refunded > 0"),
)
Index(
    "ix_sale_voided",
    sale_table.c.connection_id,
    sale_table.c.closed_at,
    sqlite_where=text("status = 'voided'"),
    postgresql_where=text("status = 'voided'"),
)
# the sales whose customers may still be known, oldest first: what retention goes through
Index(
    "ix_sale_personal",
    sale_table.c.closed_at,
    sqlite_where=text("anonymous = 0"),
    postgresql_where=text("anonymous = 0"),
)

# Every snapshot of a receipt that counted, numbered from 1, and below 1 those that lost. Written by `ledger.sales`.
sale_version_table = Table(
    "sale_version",
    metadata,
    Column("sale_id", Text, ForeignKey("sale.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("version", BigInteger),
    Column("ticket", BigInteger),
    Column("digest", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("stamps_by_plugin", Integer),
    Column("content", Text, nullable=False, info=_ENCRYPTED),
)

# Receipts that customers claimed, with the text that they agreed to. Written by `ledger.claims`.
claim_table = Table(
    "claim",
    metadata,
    Column("sale_id", Text, ForeignKey("sale.id"), primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("business_id", Text, nullable=False),
    Column("card_id", Text, nullable=False),
    Column("consent", Text),
    Column("language", Text, nullable=False),
)
Index("ix_claim_at", claim_table.c.at)

# The cards of a sale's earlier customers: a binding is permanent. Written by `ledger.bindings`.
binding_table = Table(
    "binding",
    metadata,
    Column("sale_id", Text, ForeignKey("sale.id"), primary_key=True),
    Column("customer_hash", Text, primary_key=True),
    Column("card_id", Text, nullable=False),
    Column("card_hint", Text, nullable=False),
)

# One thing to make 7stamp do: `n` counts a sale's operations, `seq` gives the order of delivery, `request` is the exact
# body, `lane` what it must wait its turn for, `flag` why a person should look at what is done, `sender` the member of a
# cluster that sends it.
# Written by `ledger.operations`.
operation_table = Table(
    "operation",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("sale_id", Text, ForeignKey("sale.id"), nullable=False),
    Column("n", Integer, nullable=False),
    Column("connection_id", Text, nullable=False),
    Column("business_id", Text, nullable=False),
    Column("receipt_id", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("card_id", Text),
    Column("card_hint", Text),
    Column("kind", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("redeem_code", Text, info=_ENCRYPTED),
    Column("code", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("request", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("hold", Text),
    Column("reason", Text),
    Column("waived", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("sent_at", BigInteger),
    Column("tries", Integer, nullable=False),
    Column("conflicted", Integer, nullable=False),
    Column("day", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("acknowledged", Integer, nullable=False, server_default="0"),
    Column("flag", Text),
    Column("sender", Text),
    UniqueConstraint("sale_id", "n"),
)
# the backstop of delivery: at most one operation of a card is on the wire, whoever sends
Index(
    "uq_operation_sending",
    operation_table.c.business_id,
    operation_table.c.lane,
    unique=True,
    sqlite_where=text("state = 'sending'"),
    postgresql_where=text("state = 'sending'"),
)
Index(
    "ix_operation_open",
    operation_table.c.state,
    operation_table.c.seq,
    sqlite_where=text("state IN ('pending', 'sending', 'uncertain', 'held')"),
    postgresql_where=text("state IN ('pending', 'sending', 'uncertain', 'held')"),
)
Index("ix_operation_connection", operation_table.c.connection_id, operation_table.c.seq)
# what a person may have to look at, what waits for a card, and what is on its way, by connection
for _name, _columns, _rows in (
    (
        "ix_operation_held",
        (operation_table.c.connection_id, operation_table.c.hold, operation_table.c.seq),
        "state = 'held'",
    ),
    (
        "ix_operation_rejected",
        (operation_table.c.connection_id, operation_table.c.seq),
        "state = 'rejected' AND acknowledged = 0",
    ),
    (
        "ix_operation_flagged",
        (operation_table.c.connection_id, operation_table.c.seq),
        "flag IS NOT NULL",
    ),
    (
        "ix_operation_on_its_way",
        (operation_table.c.connection_id, operation_table.c.created_at),
        "state IN ('pending', 'sending', 'uncertain')",
    ),
    # gifts whose voucher is still to be found on their card
    ("ix_operation_gift", (operation_table.c.next_at,), "state = 'held' AND hold = 'gift'"),
    # which vouchers our redemptions have used or are about to use
    ("ix_operation_voucher", (operation_table.c.lane,), "kind = 'voucher_redeemed'"),
):
    Index(_name, *_columns, sqlite_where=text(_rows), postgresql_where=text(_rows))
Index("ix_operation_card_day", operation_table.c.business_id, operation_table.c.card_id, operation_table.c.day)

# The tries of operations that did not succeed at the first. Written by `ledger.operations`.
attempt_table = Table(
    "attempt",
    metadata,
    Column("operation_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("sent_at", BigInteger),
    Column("at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
)

# What each day of a connection came to. Written by `ledger.daily_totals`.
tally_table = Table(
    "tally",
    metadata,
    Column("connection_id", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("receipts", Integer, nullable=False, server_default="0"),
    Column("stamps", Integer, nullable=False, server_default="0"),
    Column("redemptions", Integer, nullable=False, server_default="0"),
    Column("taken_back", Integer, nullable=False, server_default="0"),
)

# What 7stamp told of the cards of a business on each day. Written by `inbox.card_totals`.
card_tally_table = Table(
    "card_tally",
    metadata,
    Column("business_id", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("issued", Integer, nullable=False, server_default="0"),
    Column("rewards", Integer, nullable=False, server_default="0"),
)

# Sales whose customer's card is still to be found. Written by `ledger.card_searches`.
identify_table = Table(
    "identify",
    metadata,
    Column("sale_id", Text, ForeignKey("sale.id"), primary_key=True),
    Column("connection_id", Text, nullable=False),
    Column("customer_hash", Text, nullable=False),
    Column("customer", Text, nullable=False, info=_ENCRYPTED),
    Column("next_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("expires_at", BigInteger),
    Column("created_at", BigInteger, nullable=False, server_default="0"),
    Column("woken_at", BigInteger),
)
Index("ix_identify_due", identify_table.c.next_at)

# The card of a customer (as a hash), as it was found. Written by `ledger.cards`.
known_card_table = Table(
    "known_card",
    metadata,
    Column("business_id", Text, primary_key=True),
    Column("customer_hash", Text, primary_key=True),
    Column("card_id", Text, nullable=False),
    Column("card_hint", Text, nullable=False),
    Column("learned_at", BigInteger, nullable=False),
)

Index("ix_known_card_card", known_card_table.c.business_id, known_card_table.c.card_id)

# The names (as hashes) by which a customer's receipts are searched. Written by `ledger.cards`.
customer_name_table = Table(
    "customer_name",
    metadata,
    Column("business_id", Text, primary_key=True),
    Column("name_hash", Text, primary_key=True),
    Column("customer_hash", Text, primary_key=True),
)

# What a till said of a customer that it names by its own id. Written by `ledger.cards`.
till_customer_table = Table(
    "till_customer",
    metadata,
    Column("connection_id", Text, ForeignKey("connection.id"), primary_key=True),
    Column("customer_hash", Text, primary_key=True),
    Column("customer", Text, nullable=False, info=_ENCRYPTED),
    Column("learned_at", BigInteger, nullable=False),
)

# Marks of customers who asked to be forgotten. Written by `ledger.forgotten_customers`.
forgotten_table = Table(
    "forgotten",
    metadata,
    Column("business_id", Text, primary_key=True),
    Column("name_hash", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
)

# The comparison of each connection's till, ledger and cards: the last one, or the one under way, and when the next is
# due. Written by `ledger.agreements`.
agreement_table = Table(
    "agreement",
    metadata,
    Column("connection_id", Text, ForeignKey("connection.id"), primary_key=True),
    Column("due_at", BigInteger, nullable=False),
    Column("first_day", Text),
    Column("last_day", Text),
    Column("began_at", BigInteger),
    Column("finished_at", BigInteger),
    # the lane up to which it has come; null while the till is read
    Column("position", Text),
    Column("till_read", Integer, nullable=False),
    Column("receipts", Integer, nullable=False),
    Column("calls", Integer, nullable=False),
    Column("mended", Integer, nullable=False),
    Column("still_open", Integer, nullable=False),
    Column("differences", Text, nullable=False),
)
Index("ix_agreement_due", agreement_table.c.due_at)

# What 7stamp said of vouchers last, by a hash of their redeem codes; `reading_hash` is the same for codes that people
# read alike. Written by `ledger.voucher_states`.
voucher_state_table = Table(
    "voucher_state",
    metadata,
    Column("business_id", Text, primary_key=True),
    Column("code_hash", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("redeemed_via", Text),
    Column("by_code", Text),
    Column("reading_hash", Text),
    Column("redeem_code", Text, info=_ENCRYPTED),
)
Index("ix_voucher_state_at", voucher_state_table.c.at)
Index("ix_voucher_state_reading", voucher_state_table.c.business_id, voucher_state_table.c.reading_hash)

# Vouchers issued and redeemed apart from any receipt; a request that is not settled is looked at again at `next_at`.
# Written by `ledger.voucher_requests`.
voucher_request_table = Table(
    "voucher_request",
    metadata,
    Column("id", Text, primary_key=True),
    Column("business_id", Text, ForeignKey("business.id"), nullable=False),
    Column("connection_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("redeem_code", Text, nullable=False, info=_ENCRYPTED),
    Column("request", Text, nullable=False, info=_ENCRYPTED),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("next_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("made_by", Text),
)
Index(
    "ix_voucher_request_open",
    voucher_request_table.c.next_at,
    sqlite_where=text("state IN ('sending', 'waiting', 'uncertain')"),
    postgresql_where=text("state IN ('sending', 'waiting', 'uncertain')"),
)
Index("ix_voucher_request_made", voucher_request_table.c.made_at)
Index("ix_voucher_request_business", voucher_request_table.c.business_id, voucher_request_table.c.made_at)

# Receipts to read again; `generation` goes up with every hook that names one. Written by `inbox.hints`.
hint_table = Table(
    "hint",
    metadata,
    Column("connection_id", Text, ForeignKey("connection.id"), primary_key=True),
    Column("receipt_id", Text, primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("closed", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
Index("ix_hint_due", hint_table.c.next_at)

# Why a receipt, or a whole hook, could not be read; `content` is its body's id, `body` where an older version kept it.
# Written by `inbox.unreadable`.
kept_table = Table(
    "kept",
    metadata,
    Column("id", Text, primary_key=True),
    Column("connection_id", Text, nullable=False),
    Column("receipt_id", Text),
    Column("at", BigInteger, nullable=False),
    Column("place", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("body", Text, nullable=False, info=_ENCRYPTED),
    Column("source", Text, nullable=False, server_default="read"),
    Column("content", Text),
)
Index("ix_kept_connection", kept_table.c.connection_id, kept_table.c.at)
Index("ix_kept_content", kept_table.c.content)

# What 7stamp told of cards, each event once; `stage` says how far it has come, `told` (a JSON list) who has heard.
# Written by `inbox.loyalty_events`.
loyalty_event_table = Table(
    "loyalty_event",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("business_id", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("card_id", Text),
    Column("content", Text, nullable=False, info=_ENCRYPTED),
    Column("stage", Text, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("told", Text, nullable=False),
    UniqueConstraint("business_id", "event_id"),
)
for _stage in ("arrived", "settled"):
    Index(
        f"ix_loyalty_event_{_stage}",
        loyalty_event_table.c.next_at,
        sqlite_where=text(f"stage = '{_stage}'"),
        postgresql_where=text(f"stage = '{_stage}'"),
    )
Index("ix_loyalty_event_business", loyalty_event_table.c.business_id, loyalty_event_table.c.seq)
Index("ix_loyalty_event_received", loyalty_event_table.c.received_at)

# Bodies that could not be read, each once. Written by `inbox.unreadable`.
kept_body_table = Table(
    "kept_body",
    metadata,
    Column("id", Text, primary_key=True),
    Column("connection_id", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("body", Text, nullable=False, info=_ENCRYPTED),
)
Index("ix_kept_body_connection", kept_body_table.c.connection_id)

# What happened, as message ids and parameters. Written by `ledger.journal`.
journal_table = Table(
    "journal",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("connection_id", Text, nullable=False),
    Column("sale_id", Text),
    Column("receipt_id", Text),
    Column("at", BigInteger, nullable=False),
    Column("message", Text, nullable=False, info=_ENCRYPTED),
    Column("by", Text),
)
Index("ix_journal_connection", journal_table.c.connection_id, journal_table.c.seq)
Index("ix_journal_sale", journal_table.c.sale_id, journal_table.c.seq)

# The hosts and workers that run on a database server. Written by `members`.
member_table = Table(
    "member",
    metadata,
    Column("id", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("works", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

# Up to when turns to call a till are given away, by what the till counts by. Written by `call_rates`.
call_rate_table = Table(
    "call_rate",
    metadata,
    Column("name", Text, primary_key=True),
    Column("given_until", BigInteger, nullable=False),
)

# What somebody has begun in the console and another host must find: forms and files. Written by `console_items`.
console_item_table = Table(
    "console_item",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("content", Text, nullable=False, info=_ENCRYPTED),
    Column("size", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_console_item_kind", "kind", "created_at"),
)

# Work that a command leaves to the running host, and its result. Written by `host_commands`.
errand_table = Table(
    "errand",
    metadata,
    Column("id", Text, primary_key=True),
    Column("connection_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("progress", Text),
    Column("result", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index("ix_errand_state", errand_table.c.state)

# --- the relay -----------------------------------------------------------------------------------------------------

# Who is told of events of a business, where, and how that goes. `events` is a JSON list; `failing_since` is the first
# failure after the last success. Written by `relay.subscriptions`.
relay_subscription_table = Table(
    "relay_subscription",
    metadata,
    Column("id", Text, primary_key=True),
    Column("business_id", Text, ForeignKey("business.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("url", Text, nullable=False, info=_ENCRYPTED),
    Column("host", Text, nullable=False),
    Column("events", Text, nullable=False),
    Column("filter", Text),
    Column("personal", Integer, nullable=False),
    Column("shape", Text, nullable=False),
    Column("secret", Text, nullable=False, info=_ENCRYPTED),
    Column("former_secret", Text, info=_ENCRYPTED),
    Column("former_until", BigInteger, nullable=False, server_default="0"),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("made_at", BigInteger, nullable=False),
    Column("made_by", Text),
    Column("token_id", Text),
    Column("next_at", BigInteger, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("failing_since", BigInteger),
    Column("delivered_at", BigInteger),
    Column("pending", Integer, nullable=False, server_default="0"),
)
Index("ix_relay_subscription_business", relay_subscription_table.c.business_id)

# What subscribers are told, each once: the whole body with everything personal in it, before a subscription's wishes.
# Written by `relay.deliveries`.
relay_event_table = Table(
    "relay_event",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("business_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("content", Text, nullable=False, info=_ENCRYPTED),
)
Index("ix_relay_event_business", relay_event_table.c.business_id, relay_event_table.c.seq)
Index("ix_relay_event_recorded", relay_event_table.c.recorded_at)

# An event on its way to a subscriber: of each lane (a card) the oldest goes first. Written by `relay.deliveries`.
relay_delivery_table = Table(
    "relay_delivery",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("subscription_id", Text, nullable=False),
    Column("event_seq", BigInteger, nullable=False),
    Column("lane", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("leased_until", BigInteger, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("first_at", BigInteger),
    Column("settled_at", BigInteger),
)
Index(
    "ix_relay_delivery_pending",
    relay_delivery_table.c.subscription_id,
    relay_delivery_table.c.lane,
    relay_delivery_table.c.seq,
    sqlite_where=text("state = 'pending'"),
    postgresql_where=text("state = 'pending'"),
)
Index("ix_relay_delivery_subscription", relay_delivery_table.c.subscription_id, relay_delivery_table.c.seq)
Index("ix_relay_delivery_event", relay_delivery_table.c.event_seq)
Index("ix_relay_delivery_made", relay_delivery_table.c.made_at)

# Every try at a delivery, with what was answered. Written by `relay.deliveries`.
relay_attempt_table = Table(
    "relay_attempt",
    metadata,
    Column("delivery_seq", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("milliseconds", Integer, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("answer", Text, info=_ENCRYPTED),
)

# --- the console ---------------------------------------------------------------------------------------------------

# Who is signed in, by a hash of the session's id. Written by `access.sessions`.
console_session_table = Table(
    "console_session",
    metadata,
    Column("id_hash", Text, primary_key=True),
    Column("business_id", Text),
    Column("business_name", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("login", Text, nullable=False),
    Column("key", Text, info=_ENCRYPTED),
    Column("key_hash", Text),
    Column("remembered", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("checked_at", BigInteger, nullable=False),
    Column("by_operator", Integer, nullable=False, server_default="0"),
    Column("confirmed", Integer, nullable=False, server_default="0"),
    Column("passkey_id", Text),
    Column("colleague_id", Text),
)
Index("ix_console_session_business", console_session_table.c.business_id)
Index("ix_console_session_key", console_session_table.c.key_hash)

Index("ix_console_session_passkey", console_session_table.c.passkey_id)
Index("ix_console_session_colleague", console_session_table.c.colleague_id)

# Colleagues of a business by name and role, each with the invitation that nobody has used yet.
# Written by `access.colleagues`.
colleague_table = Table(
    "colleague",
    metadata,
    Column("id", Text, primary_key=True),
    Column("business_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("invited_by", Text, nullable=False),
    Column("invited_by_session", Text),
    Column("invited_by_colleague", Text),
    Column("made_at", BigInteger, nullable=False),
    Column("joined_at", BigInteger),
    Column("token_hash", Text),
    Column("invited_until", BigInteger),
    Column("business_name", Text),
    Column("zone", Text),
    Column("key", Text, info=_ENCRYPTED),
    Column("key_hash", Text),
)
Index("ix_colleague_business", colleague_table.c.business_id)
Index("ix_colleague_token", colleague_table.c.token_hash, unique=True)
Index("ix_colleague_key", colleague_table.c.key_hash)

# The public keys by which the operator and cafes sign in. Written by `access.passkeys`.
passkey_table = Table(
    "passkey",
    metadata,
    Column("id", Text, primary_key=True),
    Column("credential_id", Text, nullable=False),
    Column("business_id", Text),
    Column("business_name", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("login", Text, nullable=False),
    Column("key", Text, info=_ENCRYPTED),
    Column("key_hash", Text),
    Column("user_handle", Text, nullable=False),
    Column("public_key", Text, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("transports", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Column("refused_at", BigInteger),
)
Index("ix_passkey_credential", passkey_table.c.credential_id, unique=True)
Index("ix_passkey_business", passkey_table.c.business_id)
Index("ix_passkey_key", passkey_table.c.key_hash)

# Challenges that were used up, until they would have expired. Written by `access.passkeys`.
passkey_challenge_table = Table(
    "passkey_challenge",
    metadata,
    Column("challenge", Text, primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
)
Index("ix_passkey_challenge_expires", passkey_challenge_table.c.expires_at)

# Sign-in links that nobody has used yet, by a hash of their token. Written by `access.sessions`.
console_link_table = Table(
    "console_link",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("business_id", Text),
    Column("key_hash", Text),
    Column("made_by", Text),
    Column("content", Text, nullable=False, info=_ENCRYPTED),
    Column("expires_at", BigInteger, nullable=False),
    Column("by_operator", Integer, nullable=False, server_default="0"),
)

# With which programs act for a business, by a hash of each token; `scopes` is a JSON list.
# Written by `access.api_tokens`.
api_token_table = Table(
    "api_token",
    metadata,
    Column("id", Text, primary_key=True),
    Column("business_id", Text, ForeignKey("business.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("token_hash", Text, nullable=False, unique=True),
    Column("ending", Text, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("made_by", Text),
    Column("last_used_at", BigInteger),
)
Index("ix_api_token_business", api_token_table.c.business_id)

# What requests under an idempotency key were answered. Written by `access.api_tokens`.
api_answer_table = Table(
    "api_answer",
    metadata,
    Column("token_id", Text, primary_key=True),
    Column("key_hash", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False, info=_ENCRYPTED),
    Column("at", BigInteger, nullable=False),
)
Index("ix_api_answer_at", api_answer_table.c.token_id, api_answer_table.c.at)

# The security log: who came in, and what was refused. Written by `access.security_log`.
security_event_table = Table(
    "security_event",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("connection_id", Text),
    Column("address", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("times", Integer, nullable=False),
)
Index("ix_security_event_owner", security_event_table.c.owner, security_event_table.c.seq)
Index("ix_security_event_kind", security_event_table.c.owner, security_event_table.c.kind, security_event_table.c.seq)
Index(
    "ix_security_event_same",
    security_event_table.c.owner,
    security_event_table.c.kind,
    security_event_table.c.address,
    security_event_table.c.at,
)
Index("ix_security_event_at", security_event_table.c.at)

# Connections that are still being made in the console. Written by `connections.drafts`.
draft_table = Table(
    "draft",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("connector", Text, nullable=False),
    Column("content", Text, nullable=False, info=_ENCRYPTED),
    Column("made_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("hook_token_hash", Text),
)
Index("ix_draft_owner", draft_table.c.owner)
Index("ix_draft_hook_token", draft_table.c.hook_token_hash, unique=True)

# Requests of tills that are being taught. Written by `inbox.captured`.
captured_table = Table(
    "captured",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("size", Integer, nullable=False),
    Column("content", Text, nullable=False, info=_ENCRYPTED),
    Column("chosen", Integer, nullable=False, server_default="0"),
)
Index("ix_captured_owner", captured_table.c.owner, captured_table.c.at)

# Consents that were asked of tills, by the state that comes back. Written by `access.sessions`.
consent_table = Table(
    "consent",
    metadata,
    Column("state_hash", Text, primary_key=True),
    Column("session_hash", Text, nullable=False),
    Column("content", Text, nullable=False, info=_ENCRYPTED),
    Column("made_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
)

# Whom to tell by email when a connection needs a person, and what was told. Written by `connections.alerts`.
watch_table = Table(
    "watch",
    metadata,
    Column("connection_id", Text, primary_key=True),
    Column("email", Text, nullable=False, info=_ENCRYPTED),
    Column("language", Text, nullable=False),
    Column("since", BigInteger),
    Column("told_at", BigInteger),
    Column("plan_near_told_until", BigInteger, nullable=False, server_default="0"),
    Column("plan_used_told_until", BigInteger, nullable=False, server_default="0"),
    Column("week_told_next", BigInteger),
)
Index(
    "ix_watch_week",
    watch_table.c.week_told_next,
    sqlite_where=text("week_told_next IS NOT NULL"),
    postgresql_where=text("week_told_next IS NOT NULL"),
)

# Phones and other browsers that are told by Web Push, of what, and when not: quiet hours are minutes of a day in
# `zone`. `restricted` is set while 7stamp refuses the key it was added with, `paused_until` is the end of quiet hours,
# or of a pause after a failure. Written by `access.push_devices`.
push_device_table = Table(
    "push_device",
    metadata,
    Column("id", Text, primary_key=True),
    Column("business_id", Text, nullable=False),
    Column("colleague_id", Text),
    Column("session_hash", Text, nullable=False),
    Column("key_hash", Text),
    Column("restricted", Integer, nullable=False),
    Column("endpoint", Text, nullable=False, info=_ENCRYPTED),
    Column("endpoint_hash", Text, nullable=False),
    Column("public_key", Text, nullable=False),
    Column("auth", Text, nullable=False, info=_ENCRYPTED),
    Column("device", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("quiet_begin", Integer),
    Column("quiet_end", Integer),
    Column("tells_trouble", Integer, nullable=False),
    Column("tells_plan", Integer, nullable=False),
    Column("week_told_next", BigInteger),
    Column("plan_near_told_until", BigInteger, nullable=False, server_default="0"),
    Column("plan_used_told_until", BigInteger, nullable=False, server_default="0"),
    Column("made_at", BigInteger, nullable=False),
    Column("told_at", BigInteger),
    Column("failing_since", BigInteger),
    Column("paused_until", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("business_id", "endpoint_hash"),
)
Index("ix_push_device_session", push_device_table.c.session_hash)
Index("ix_push_device_colleague", push_device_table.c.colleague_id)
Index("ix_push_device_key", push_device_table.c.key_hash)

# What each of them was told of a connection's trouble. Written by `connections.push_alerts`.
push_alert_table = Table(
    "push_alert",
    metadata,
    Column("device_id", Text, ForeignKey("push_device.id", ondelete="CASCADE"), primary_key=True),
    Column("connection_id", Text, primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("told_at", BigInteger),
)
