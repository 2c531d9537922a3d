"""Pin: in a real browser without a network, pages are drawn, fit a phone, throw nothing, and can be read by all.

Needs Chromium or Chrome on the machine; skipped where there is none. What of access a program can judge is judged by
axe-core (tests/vendor), in the light and in the dark, with all folds open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.book.browser import BROWSER, Browser
from tests.book.pages import site_pages
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.book,
    pytest.mark.notebook,
    pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome on this machine"),
]
AXE = (ROOT / "tests" / "vendor" / "axe.min.js").read_text(encoding="utf-8")
OPEN = "document.querySelectorAll('details').forEach(fold => fold.open = true)"
# In the dark only colours change, so only contrasts are judged again.
# Code has the same few colours everywhere: one page is judged with it, the others without.
WITH_CODE = "04_byol.html"
# What is serious or critical, and that everything stands in a landmark.
JUDGED = """axe.run({exclude: %s}, {resultTypes: ["violations"], preload: false, %s}).then(said => said.violations
.filter(v => ["serious", "critical"].includes(v.impact) || v.id === "region")
.flatMap(v => v.nodes.map(n => `${v.id}: ${n.html.slice(0, 120)}`)))"""
RULES = {False: "", True: 'runOnly: ["color-contrast"]'}
DRAWN = """({formulas: document.querySelectorAll(".math").length
- document.querySelectorAll("mjx-container").length,
broken: document.querySelectorAll('[data-mml-node="merror"], mjx-merror').length})"""
# No colour fades: on a slow machine a long page was judged halfway between the two.
DARKEN = """document.head.insertAdjacentHTML("beforeend", "<style>*, ::before, ::after {transition: none !important;"
+ "animation: none !important}</style>");
document.documentElement.dataset.theme = "dark";
new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"""
PHONE = 390
WIDE = f'document.scrollingElement.scrollWidth > {PHONE} ? ["wider than a phone"] : []'


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


def judged(tab: Browser, *, dark: bool, code: bool = True) -> list[str]:
    """What axe finds on the open page."""
    tab.ask(f"{OPEN}; window.axe || (0, eval)({json.dumps(AXE)}); 1")
    assert tab.ask("document.documentElement.dataset.theme") in (None, ("light", "dark")[dark])
    return tab.ask(JUDGED % (json.dumps([] if code else [".highlight", ".sig"]), RULES[dark]))


def test_every_page_is_drawn_and_can_be_read_by_all(site: Path, tab: Browser) -> None:
    faults = {}
    tab.look(1280)
    for path in site_pages(site):
        code = path.name == WITH_CODE
        tab.open(path)
        wrong = [*tab.errors(), *judged(tab, dark=False, code=code)]
        tab.ask(DARKEN)
        wrong += judged(tab, dark=True, code=code)
        seen = tab.ask(DRAWN)
        if seen["formulas"] > 0 or seen["broken"]:
            wrong.append(f"formulas not drawn: {seen}")
        if wrong:
            faults[path.name] = wrong
    assert faults == {}


def test_no_page_is_wider_than_a_phone(site: Path, tab: Browser) -> None:
    tab.look(PHONE)
    faults = {}
    for path in site_pages(site):
        tab.open(path)
        if wrong := tab.ask(f"{OPEN}; {WIDE}"):
            faults[path.name] = wrong
    assert faults == {}


BAD = """<!doctype html><html lang="en"><head><meta name="viewport" content="width=device-width">
<title>t</title></head><body style="background:%s"><main><h1>T</h1>
<p style="color:#888;background:#999">grey on grey</p><input type="range"><pre style="width:900px">x</pre>
<script>undefined.Queue</script></main><p>in no landmark</p></body></html>"""


def test_planted_faults_are_seen(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(BAD % "white")
    tab.look(PHONE)
    tab.open(page)
    assert len(tab.errors()) == 1 and "Queue" in tab.errors()[0]
    assert tab.ask(WIDE) == ["wider than a phone"]
    seen = {line.split(":")[0] for line in judged(tab, dark=False)}
    assert seen == {"color-contrast", "label", "region"}
    assert {line.split(":")[0] for line in judged(tab, dark=True)} == {"color-contrast"}


def test_a_slider_moves_its_frames_and_says_so(tab: Browser, tmp_path: Path) -> None:
    from audiossl_lite.book.figures import slider_html

    page = tmp_path / "page.html"
    page.write_text(
        f"<!doctype html>{slider_html(['<i>1</i>', '<b>2</b>', '<u>3</u>'], ['a', 'b', 'c'], 't')}"
    )
    tab.open(page)
    seen = "[...document.querySelectorAll('.frames > div')].map(d => d.checkVisibility())"
    assert tab.ask(seen) == [False, True, False], "it starts in the middle"
    moved = "s = document.querySelector('input'); s.value = 2; s.dispatchEvent(new Event('input'));"
    assert tab.ask(f"{moved} s.ariaValueText") == "c"
    assert tab.ask(seen) == [False, False, True]


def test_a_wide_table_fades_until_its_end_is_seen_and_keeps_its_names(
    tab: Browser, tmp_path: Path
) -> None:
    row = "<tr><td>name</td>" + "<td style='min-width:200px'>1</td>" * 4 + "</tr>"
    wide = f'<div class="wide"><table class="table"><tbody>{row}</tbody></table></div>'
    inline = (
        '<mjx-container style="display:inline-block;width:9px;overflow:auto">xxxx</mjx-container>'
    )
    code = '<table><tr><td><code class="literal"><span class="pre">a/b_c.py</span></code></td></tr></table>'
    static = (ROOT / "book" / "_static").as_uri()
    page = tmp_path / "page.html"
    page.write_text(
        '<!doctype html><meta name="viewport" content="width=device-width">'
        f'<link rel="stylesheet" href="{static}/book.css"><script src="{static}/book.js">'
        f'</script><div class="bd-content">{wide}{inline}{code}</div>'
    )
    tab.look(PHONE)
    tab.open(page)
    fades = "getComputedStyle(document.querySelector('%s')).maskImage"
    assert "gradient" in tab.ask(fades % ".wide") and tab.ask(fades % "mjx-container") == "none"
    left = "document.querySelector('.wide td').getBoundingClientRect().left"
    at = tab.ask(left)
    tab.ask("document.querySelector('.wide').scrollLeft = 9999; new Promise(requestAnimationFrame)")
    tab.ask("new Promise(done => setTimeout(done, 200))")
    assert tab.ask(fades % ".wide") == "none" and abs(tab.ask(left) - at) < 5
    assert tab.ask("document.querySelector('code').innerHTML").count("<wbr>") == 2
    assert tab.ask("document.querySelector('code').textContent") == "a/b_c.py"


def test_on_paper_no_column_of_sentences_becomes_a_column_of_letters(
    tab: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audiossl_lite.book import notebook
    from audiossl_lite.experiments.settings.presets import preset_table

    shown: list[str] = []
    monkeypatch.setattr(notebook, "show_html", lambda page, text: shown.append(page))
    notebook.show_table(preset_table("audiomae"), digits=None)
    page = tmp_path / "page.html"
    css = (ROOT / "book" / "_static" / "book.css").as_uri()
    page.write_text(
        f'<!doctype html><link rel="stylesheet" href="{css}"><style>table {{ width: 100% }}</style>'
        f'<div class="bd-content" style="width:611px">{shown[0]}</div>'
    )
    tab.look(690)
    tab.open(page)
    tab.tell("Emulation.setEmulatedMedia", media="print")
    sizes = tab.ask("[...document.querySelectorAll('th')].map(c => c.offsetWidth)")
    table = tab.ask("document.querySelector('table').offsetWidth")
    tab.tell("Emulation.setEmulatedMedia", media="")
    assert len(sizes) == 7 and min(sizes) > 55 and min(sizes[-2:]) > 100
    assert table <= 640
