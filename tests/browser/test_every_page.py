"""What holds on every page: axe finds nothing, keys reach everything, nothing is too wide, no text is lost.

All of it is looked at in one walk, a page at a time: coming to a page costs more than looking at it.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Page, expect

from connector_sdk.messages import Catalogue
from connectors.web.console.localization import Localizer
from tests.browser.pages import every_page
from tests.served_installation import NARROW, WIDE, ServedInstallation, signed_in

_INTERACTIVE = """() => {
  const seen = new Set(), found = [];
  const open = (one) => one.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const kinds = 'a[href], button, input:not([type=hidden]), select, summary, [tabindex="0"]';
  for (const one of document.querySelectorAll(kinds)) {
    if (!open(one) || one.disabled || (one.tabIndex < 0)) continue;
    if (one.type === 'radio') {
      const group = one.form?.action + one.name;
      if (seen.has(group)) continue;
      seen.add(group);
    }
    found.push(one);
  }
  window.__wanted = found;
  return found.length;
}"""
# noted as the next key is pressed, when the focus has settled: asking after every key would cost as much as the key
_NOTE_FOCUS = """() => {
  const focused = window.__focused = [];
  const note = (event) => {
    const one = document.activeElement;
    if (event.key !== 'Tab' || !one || one === document.body) return;
    const style = getComputedStyle(one);
    const radio = (w) => w.type === 'radio' && one.type === 'radio' && w.name === one.name;
    const at = window.__wanted.findIndex((w) => w === one || radio(w));
    const shown = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
    focused.push({at, shown, what: one.outerHTML.slice(0, 120)});
  };
  window.removeEventListener('keydown', window.__note, true);
  window.addEventListener('keydown', window.__note = note, true);
}"""
_VIOLATIONS = """async (rules) => {
  const answer = await axe.run({runOnly: rules, resultTypes: ['violations']});
  return answer.violations.map(({id, nodes}) => `axe ${id}: ${nodes[0].html.slice(0, 160)}`);
}"""
_SMALL = """() => {
  const kinds = 'button, select, summary, .button, .plain, .pick, '
    + 'input:not([type=hidden]):not([type=checkbox]):not([type=radio])';
  return [...document.querySelectorAll(kinds)]
    .filter((one) => one.checkVisibility() && !one.closest('.skip'))
    .map((one) => ({box: one.getBoundingClientRect(), what: one.outerHTML.slice(0, 100)}))
    .filter(({box}) => box.height < 43.5 || box.width < 43.5)
    .map(({what, box}) => `${what} ${box.width}x${box.height}`);
}"""
_TEXTS = """() => {
  const found = [document.title];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!parent.closest('script, style, code, option, [translate=no]')) found.push(walker.currentNode.data);
  }
  for (const one of document.querySelectorAll('[aria-label], [placeholder], [title], [data-copied]'))
    for (const name of ['aria-label', 'placeholder', 'title', 'data-copied'])
      if (one.hasAttribute(name)) found.push(one.getAttribute(name));
  return found;
}"""

_SIDEWAYS = """() => [...document.querySelectorAll('.scroll:not(.wide)')]
  .filter((one) => one.scrollWidth > one.clientWidth + 1)
  .map((one) => `${one.getAttribute('aria-label')} ${one.scrollWidth - one.clientWidth} px`)"""

_LOOKS = (("wide and light", WIDE, "light"), ("narrow and dark", NARROW, "dark"))
_SMALLEST = {"width": 320, "height": 640}
_RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]


async def by_keyboard(page: Page) -> list[str]:
    """What cannot be reached with the Tab key, or does not show that it is."""
    number = await page.evaluate(_INTERACTIVE)
    # a field of a time or a day has a stop for each of its parts, and one for its picker
    more_stops = 4 * await page.locator("input:is([type=time], [type=date]):visible").count()
    await page.evaluate("document.activeElement.blur(); window.getSelection().removeAllRanges(); window.scrollTo(0, 0)")
    await page.locator("body").press("Control+Home")
    await page.evaluate(_NOTE_FOCUS)
    for _ in range(number + more_stops + 3):
        await page.keyboard.press("Tab")
    focused = await page.evaluate("window.__note({key: 'Tab'}), window.__focused")  # after the last key too
    wrong = [f"no visible focus: {each['what']}" for each in focused if not each["shown"]]
    if missing := set(range(number)) - {each["at"] for each in focused}:
        names = await page.evaluate(
            "(at) => at.map((one) => window.__wanted[one].outerHTML.slice(0, 120))", sorted(missing)
        )
        wrong += [f"not reached: {name}" for name in names]
    return wrong


class Pseudo(Catalogue):
    """Every text of ours in brackets: what stands outside them has escaped translation."""

    def word(self, *given: Any) -> str:
        return f"⟦{super().word(*given)}⟧"

    def count(self, *given: Any, **params: Any) -> str:
        return f"⟦{super().count(*given, **params)}⟧"


# what is somebody's own: names of people, places, cafes, products, tills, and signs
_OWN = re.compile(
    r"till-[0-9a-f]{12}|Cafe (Lviv|d024)|Main hall|Terrace|Corner|Poster|poster_connector|poster|Cappuccino|Espresso|"
    r"Flat white|Croissant|Cheesecake|Coffee|Pastry|UAH|Python|till|owner|operator|Chrome · \w+|HeadlessChrome|README|"
    r"[\w-]+\.(json|txt)|webhook(_connector)?|PostgreSQL|Serve|serve(_connector)?|"
    r"Square|square(_connector)?|WooCommerce|Shopify|"
    r"Wolfeschlegelsteinhausenbergerdorff Olena|Borys|loc_1|"
    r"I agree that the cafe keeps my phone for its stamp card\.|/[\w/.-]*ledger\.db|FREECOFFEE9"
)


async def barriers(page: Page, *, keys: bool = True) -> list[str]:
    """What keeps somebody from using a page as it is shown now; axe is in it already."""
    await page.evaluate("document.activeElement.blur()")  # the skip link covers others while it has the focus
    problems: list[str] = await page.evaluate(_VIOLATIONS, _RULES)
    if keys:
        problems += await by_keyboard(page)
    problems += [f"small: {element}" for element in await page.evaluate(_SMALL)]
    return problems + await too_wide(page)


async def too_wide(page: Page) -> list[str]:
    pixels = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    problems = [f"{pixels} px wider than the screen"] if pixels > 0 else []
    return problems + [f"sideways: {what}" for what in await page.evaluate(_SIDEWAYS)]


async def untranslated(page: Page) -> list[str]:
    """The texts of a page that are neither in the brackets of `Pseudo` nor somebody's own."""
    escaped = []
    for text in await page.evaluate(_TEXTS):
        rest = text
        while (outer := re.sub(r"⟦[^⟦⟧]*⟧", "", rest)) != rest:
            rest = outer
        if re.search(r"[^\W\d_]{2,}", _OWN.sub("", rest)):
            escaped.append(f"not translated: {text.strip()}")
    return escaped


async def test_every_page_is_for_everybody_and_in_every_language(
    served: ServedInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.installation.host.words = Pseudo(served.installation.host.words.packages)
    monkeypatch.setattr(Localizer, "_formatted", lambda _self, text: f"⟦{text}⟧")
    await served.history()
    cafe, operator = await served.page(), await served.page()
    problems: list[str] = []
    names: list[str] = []
    async for name, page in every_page(served, cafe, operator):
        names.append(name)
        problems += [f"{name}: {problem}" for problem in await untranslated(page)]
        await page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        await page.evaluate(AXE_SCRIPT)
        for look, viewport, scheme in _LOOKS:
            await page.set_viewport_size(viewport)  # type: ignore[arg-type]
            await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            # the order of keys is the document's, however wide it is shown
            found = await barriers(page, keys=viewport is NARROW)
            problems += [f"{name}, {look}: {problem}" for problem in found]
        await page.set_viewport_size(_SMALLEST)  # type: ignore[arg-type]
        problems += [f"{name}, on a small phone: {problem}" for problem in await too_wide(page)]
    assert problems == [], "\n".join(problems)
    assert len(names) > 25


async def test_the_browsers_language_decides_and_the_menu_overrides(served: ServedInstallation) -> None:
    page = await served.page(locale="ms-MY")
    await page.goto("/sign-in")
    assert await page.locator("html").get_attribute("lang") == "ms-MY"
    malay = await page.locator("h1").inner_text()
    await page.locator("#language").select_option("en")
    await page.wait_for_function("document.documentElement.lang.startsWith('en')")
    assert await page.locator("h1").inner_text() == "Sign in with a 7stamp key" != malay


async def test_the_account_opens_and_closes_by_keyboard_and_is_for_everybody(served: ServedInstallation) -> None:
    page = await signed_in(await served.page(viewport=NARROW))
    await page.get_by_role("button", name="Account").press("Enter")
    await expect(page.get_by_role("link", name="Devices")).to_be_visible()
    await page.evaluate(AXE_SCRIPT)
    assert await barriers(page, keys=False) == []
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Messages")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("link", name="Devices")).to_be_hidden()
    await page.get_by_role("button", name="Account").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page).to_have_url(re.compile("/sign-in"))


async def test_a_link_to_a_part_of_the_settings_opens_it(served: ServedInstallation) -> None:
    await served.installation.connect()
    page = await signed_in(await served.page(viewport=NARROW))
    await page.goto("/messages")
    await page.locator("#by-email").get_by_role("link").click()
    await expect(page.get_by_label("Email address")).to_be_visible()
    await expect(page.get_by_label("What you call it")).to_be_hidden()
    await page.locator("summary", has_text="Name").press("Enter")
    await expect(page.get_by_label("What you call it")).to_be_visible()
