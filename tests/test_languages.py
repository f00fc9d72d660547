"""Every language of the console words everything, with the fields and the plural forms that it needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel import Locale

from connector_sdk.messages import Catalogue
from connectors.web.console.localization import language_for
from tests.installation import Installation
from tests.texts import HOST, TILLS, catalogue, lacking, wanted
from tests.web.browser import open_browsers

LANGUAGES = sorted(folder.name for folder in (HOST / "locale").iterdir() if folder.name != "en")
PACKAGES = (HOST, *TILLS)


def _fields(text: str) -> set[str]:
    return set(re.findall(r"\{[^{}]*\}", text))


def _english(package: Path, message_id: str) -> str:
    if (package / "locale" / "en" / "messages.po").is_file():
        message = catalogue(package, "en").get(message_id)
        if message is not None:
            return message.string if isinstance(message.string, str) else message.string[-1]
    return message_id


def test_there_are_the_languages_that_cafes_on_these_tills_speak() -> None:
    assert LANGUAGES == ["es", "ms", "ru", "uk"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_is_complete(language: str) -> None:
    assert {package.name: lacking(package, language) for package in PACKAGES} == {
        package.name: [] for package in PACKAGES
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_words_nothing_twice_and_nothing_that_nobody_says(language: str) -> None:
    for package in PACKAGES:
        lines = (package / "locale" / language / "messages.po").read_text().splitlines()
        said = [line for line in lines if line.startswith("msgid ")]
        assert sorted(one for one in set(said) if said.count(one) > 1) == []
        ids = [message.id if isinstance(message.id, str) else message.id[0] for message in catalogue(package, language)]
        assert sorted(one for one in set(ids) - wanted(package) - {""}) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_fills_the_fields_of_the_english(language: str) -> None:
    wrong = []
    for package in PACKAGES:
        for message in catalogue(package, language):
            if not message.id:
                continue
            many = message.id if isinstance(message.id, str) else message.id[1]
            wanted = _fields(_english(package, many))
            forms = [message.string] if isinstance(message.string, str) else list(message.string)
            for number, form in enumerate(forms):
                # "one" of Spanish is 1 and nothing else, so it may say so in a word; of Slavic languages it is 21, too
                may_lack = {"{count}"} if language == "es" and number == 0 and len(forms) > 1 else set()
                if not wanted - may_lack <= _fields(form) <= wanted:
                    wrong.append((package.name, message.id, form))
    assert wrong == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_its_plural_forms(language: str) -> None:
    rules = Locale.parse(language).plural_form
    for package in PACKAGES:
        found = catalogue(package, language)
        for message in found:
            if isinstance(message.id, tuple):
                assert len(message.string) == found.num_plurals, message.id
    # each number takes the form that Unicode's rules give it; Spanish "many" is for millions, and worded as others
    words, forms = Catalogue(["connectors"]), {}
    for count in range(200):
        text = words.count("{count} till is connected", "{count} tills are connected", count, language)
        forms.setdefault(rules(count), set()).add(text.replace(str(count), "#"))
    assert all(len(texts) == 1 for texts in forms.values()), forms
    assert len({text for texts in forms.values() for text in texts}) == {"es": 2, "ms": 1, "ru": 3, "uk": 3}[language]


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("uk-UA,uk;q=0.9,ru;q=0.8,en;q=0.7", "uk"),
        ("ru", "ru"),
        ("es-MX,es;q=0.9", "es"),
        ("ms-MY", "ms"),
        ("de-DE,de;q=0.9", "en"),
    ],
)
async def test_a_browser_is_spoken_to_in_its_language(installation: Installation, accepted: str, language: str) -> None:
    assert language_for(Catalogue(["connectors"]), "", accepted).partition("-")[0] in (language, accepted[:2])
    async with open_browsers(installation) as browsers:
        browser = browsers.new()
        browser.client.headers["accept-language"] = accepted
        page = (await browser.get("/sign-in")).text
        titles = {"uk": "Увійти", "ru": "Войти", "es": "Iniciar sesión", "ms": "Log masuk", "en": "Sign in"}
        assert f"<title>{titles[language]}" in page
        assert page.count("<option") == 1 + len(LANGUAGES)
