"""Redeem codes as cashiers type them: which words are one, and whose code it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from connectors.domain.redeem_codes import match_codes, reading, runs_in


def known(*codes: str) -> dict[str, list[str]]:
    """Map how the codes of a business read to the codes that read so."""
    readings: dict[str, list[str]] = {}
    for code in codes:
        readings.setdefault(reading(code), []).append(code)
    return readings


@pytest.mark.parametrize("typed", ["FREE-COFFEE-1", "free coffee 1", "Free_Coffee_I", "FREECOFFEEL", "FREEC0FFEE1"])
def test_all_spellings_of_a_code_read_alike(typed: str) -> None:
    assert reading(typed) == "FREEC0FFEE1"


@pytest.mark.parametrize(
    ("remark", "codes", "found"),
    [
        ("code: abcde-12345, thanks", ["ABCDE-12345"], ["ABCDE-12345"]),
        ("abcde 12345", ["ABCDE-12345"], ["ABCDE-12345"]),
        ("ab cde 12345", ["ABCDE-12345"], ["ABCDE-12345"]),
        ("a b cde 12345", ["ABCDE-12345"], []),
        ("table 12, no onions", ["ABCDE-12345"], []),
        ("COFFEE-1 2 pcs", ["COFFEE-1", "COFFEE-12"], ["COFFEE-1"]),
        ("coffee 1 2", ["COFFEE-12"], ["COFFEE-12"]),
        ("GIFT-1 and GIFT-2", ["GIFT-1", "GIFT-2"], ["GIFT-1", "GIFT-2"]),
        ("GIFT-1 gift-1 GIFT 1", ["GIFT-1"], ["GIFT-1"]),
        # two that read alike are each found only by their own spelling
        ("GIFT-O", ["GIFT-O", "GIFT-0"], ["GIFT-O"]),
        ("GIFT-0", ["GIFT-O", "GIFT-0"], ["GIFT-0"]),
        ("gift-o", ["GIFT-O", "GIFT-0"], []),
        # without a letter it is a phone or a table
        ("380501112201", ["380501112201"], []),
        ("12-A-7", ["12-A-7"], []),
        ("12-A-77", ["12-A-77"], ["12-A-77"]),
        ("A" * 64, ["A" * 64], ["A" * 64]),
        ("A" * 65, ["A" * 65], []),
        ("", ["GIFT-1"], []),
    ],
)
def test_a_remark_has_the_codes_that_the_business_knows(remark: str, codes: Sequence[str], found: list[str]) -> None:
    assert list(match_codes([], [remark], known(*codes))) == found


def test_what_is_typed_as_a_code_is_one_whether_it_is_known_or_not() -> None:
    codes = known("GIFT-1")
    assert match_codes(["gift 1"], [], codes) == ("GIFT-1",)
    assert match_codes(["nothing", "gift1"], [], codes) == ("nothing", "GIFT-1")
    assert match_codes(["gift 1", "GIFT-1"], ["take gift-1"], codes) == ("GIFT-1",)
    assert match_codes(["GIFT-1"], [], known("G1FT-1", "GIFT-I")) == ("GIFT-1",)
    # of two that read alike each has its own spelling, also where the other stands in a remark
    assert match_codes(["GIFT-0"], [], known("GIFT-O", "GIFT-0")) == ("GIFT-0",)
    assert match_codes(["GIFT-0"], ["GIFT-O"], known("GIFT-O", "GIFT-0")) == ("GIFT-O", "GIFT-0")


def test_a_part_of_a_code_that_was_typed_with_a_space_is_none_by_itself() -> None:
    codes = known("ABCDE-12345")
    assert match_codes(["ABCDE"], ["abcde 12345"], codes) == ("ABCDE-12345",)
    assert match_codes(["12345"], ["abcde 12345"], codes) == ("ABCDE-12345",)
    assert match_codes(["ABCDE"], ["abcde-12345"], codes) == ("ABCDE-12345", "ABCDE")


def test_a_word_belongs_to_one_code_and_the_longer_one_goes_first() -> None:
    both = known("SUMMER-GIFT", "GIFT-WINTER")
    assert match_codes([], ["summer gift winter"], both) == ("SUMMER-GIFT",)
    # neither is written as it is: then the longer run
    assert match_codes([], ["summer gift winter"], known("SUMMERGIFT", "SUMMERGIFTWINTER")) == ("SUMMERGIFTWINTER",)
    # one that is written as it is goes before a longer one that only reads so
    assert match_codes([], ["summer-gift winter"], known("SUMMER-GIFT", "SUMMERGIFTWINTER")) == ("SUMMER-GIFT",)


def test_of_a_long_text_the_first_words_count() -> None:
    codes = known("GIFT-1")
    assert match_codes([], ["a " * 119 + "GIFT-1"], codes) == ("GIFT-1",)
    assert match_codes([], ["a " * 120 + "GIFT-1"], codes) == ()


def test_runs_are_up_to_three_words_with_their_places_the_longest_first() -> None:
    runs = [(run.places.start, run.places.stop, run.typed, run.reads) for run in runs_in("four_x seven, Eleven!")]
    assert runs == [
        (0, 3, "four_x seven Eleven", "F0URXSEVENE1EVEN"),
        (0, 2, "four_x seven", "F0URXSEVEN"),
        (1, 3, "seven Eleven", "SEVENE1EVEN"),
        (0, 1, "four_x", "F0URX"),
        (1, 2, "seven", "SEVEN"),
        (2, 3, "Eleven", "E1EVEN"),
    ]
