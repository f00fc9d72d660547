"""A customer by phone, email or card number: which names 7stamp knows them by, and where a text names them."""

from __future__ import annotations

import pytest

from connector_sdk.redaction import MASK
from connector_sdk.sale import Customer
from connectors.domain.person import PersonMatcher, Reference, parse_phone, references

ANNA, EMAIL = "+380501112201", "anna.kovalenko@example.com"


def test_a_customer_is_known_by_number_before_phone_before_email() -> None:
    customer = Customer(number="123456", phone="050 111 22 01", email=" Anna.Kovalenko@Example.com ", till_id="5")
    assert references(customer, "UA") == [
        Reference("number", "123456"),
        Reference("phone", ANNA),
        Reference("email", EMAIL),
    ]
    # what cannot be a name is left out: a phone without a country, an email without an @
    assert references(Customer(phone="050 111 22 01", email="anna"), None) == []
    assert references(Customer(till_id="5"), "UA") == []


@pytest.mark.parametrize(
    ("text", "country", "phone"),
    [
        ("+380501112201", None, ANNA),
        ("0501112201", "UA", ANNA),
        ("050-111-22-01", "UA", ANNA),
        ("380501112201", "UA", ANNA),
        ("0501112201", None, None),
        ("+38050111220", "UA", None),
        ("+380501112201123456", "UA", None),
        ("anna", "UA", None),
        ("", "UA", None),
        ("12", "UA", None),
        # one that can be dialled within its town only
        ("2345678", "US", None),
    ],
)
def test_a_phone_is_read_with_the_country_of_the_account(text: str, country: str | None, phone: str | None) -> None:
    assert parse_phone(text, country) == phone


@pytest.mark.parametrize(
    ("text", "is_match"),
    [
        ('{"tel": "+380501112201"}', True),
        ('{"tel": "0501112201"}', True),
        ('{"tel": "+38 (050) 111-22-01"}', True),
        ('{"tel": 380501112201}', True),
        ("phone=%2B380501112201&x=1", True),
        ("phone=050+111+22+01", True),
        ('{"tel": "+3805011122013"}', False),
        ('{"mail": "Anna.Kovalenko@Example.com"}', True),
        ('{"mail": "anna.kovalenko\u0040example.com"}', True),
        ("mail=anna.kovalenko%40example.com", True),
        ('{"mail": "joanna.kovalenko@example.com"}', False),
        ('{"mail": "anna.kovalenko@example.com.ua"}', False),
        ('{"card": "123456"}', True),
        ('{"card": "123 456"}', True),
        ('{"at": 1234567}', False),
        ('{"client_id": "5", "id": "77"}', True),
        ('{"customer": {"id": 5}}', True),
        ('{"id": "5", "client_id": "77"}', False),
    ],
)
def test_a_person_is_recognised_in_every_spelling(text: str, is_match: bool) -> None:
    names = frozenset({Reference("phone", ANNA), Reference("email", EMAIL), Reference("number", "123456")})
    assert PersonMatcher(names, frozenset({"5"})).matches(text) is is_match


@pytest.mark.parametrize("odd", ["\\", "0", " ", "5 ", "anna.", "%", "+", "[", '{"a":', "(050) "])
def test_a_long_malformed_body_is_searched_in_linear_time(odd: str) -> None:
    """A pattern that backtracks without a bound would not come to an end here."""
    matcher = PersonMatcher(
        frozenset({Reference("phone", ANNA), Reference("email", EMAIL), Reference("number", "123456")})
    )
    assert not matcher.matches(odd * (256 * 1024 // len(odd)))


@pytest.mark.parametrize(
    ("text", "is_match"),
    [
        # bytes as they were stored, one character each: UTF-8 is decoded before its escapes are undone
        ('{"näme": "anna.kovalenko\\u0040example.com"}'.encode().decode("latin-1"), True),
        ('{"inner": "{\\"mail\\": \\"anna.kovalenko\\\\u0040example.com\\"}"}', True),
        ('{"ім\'я": "anna.kovalenko\\u0040example.com"}', True),
        ("x" + ANNA + "9", False),
        ("501112201", True),
        ("50111220", False),
        ("1123456", False),
        ("123-456", True),
        ("123  456", False),
        ("anna.kovalenko@example.com-shop", False),
        ("anna.kovalenko@example.community", False),
        ("anna.kovalenko@example.com.", True),
        (".anna.kovalenko@example.com", False),
        ("", False),
    ],
)
def test_a_name_ends_where_it_ends(text: str, is_match: bool) -> None:
    names = frozenset({Reference("phone", ANNA), Reference("email", EMAIL), Reference("number", "123456")})
    assert PersonMatcher(names).matches(text) is is_match


@pytest.mark.parametrize(
    ("text", "is_match"),
    [
        ('{"customer": {"more": [{"id": 5}]}}', True),
        ('[{"client_id": "6"}, {"client_id": "5"}]', True),
        ('{"customer": {"id": 5}, "lines": {"id": 6}}', True),
        ('[{"client_id": "5"}, [1]]', True),
        ('{"client_id": "55"}', False),
        ('{"lines": [{"id": 5}], "customer": {"id": 6}}', False),
        ("client_id=5", False),
        ("[" * 100_000, False),
    ],
)
def test_a_tills_own_id_counts_under_a_name_that_is_somebodys_only(text: str, is_match: bool) -> None:
    assert PersonMatcher(frozenset(), frozenset({"5"})).matches(text) is is_match


def test_every_name_of_a_person_is_masked_and_nothing_else() -> None:
    names = frozenset({Reference("phone", ANNA), Reference("email", EMAIL), Reference("number", "123456")})
    masked = PersonMatcher(names).mask(f"call 050 111 22 01 or {EMAIL.upper()}, card 123 456, table 12")
    assert masked == f"call 0{MASK} or {MASK}, card {MASK}, table 12"
    assert PersonMatcher(frozenset(), frozenset({"5"})).mask("5") == "5"


def test_a_phone_of_few_digits_is_one_only_with_its_countrys_code() -> None:
    # Andorra: six digits, which may be an amount or a receipt
    few = PersonMatcher(frozenset({Reference("phone", "+376312345")}))
    assert few.matches("+376 312 345")
    assert not few.matches("312345")
    # Singapore: eight are enough
    assert PersonMatcher(frozenset({Reference("phone", "+6591234567")})).matches("9123 4567")
