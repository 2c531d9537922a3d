"""Chromium or Chrome without a network, told over its own socket what to open, to try and to say."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import requests
import websocket
from bs4 import BeautifulSoup

from audiossl_lite.book.build import HEADLESS, browser

BROWSER = browser()
ANSWER_S = 240
READY = """(window.MathJax?.startup ? MathJax.startup.promise : Promise.resolve())
.then(() => new Promise(done => setTimeout(done, 300)))"""


class Browser:
    """One tab; `with Browser(folder of its own) as tab`."""

    def __init__(self, profile: Path) -> None:
        options = (
            "--remote-debugging-port=0",
            "--remote-allow-origins=*",
            f"--user-data-dir={profile}",
        )
        port, deadline = profile / "DevToolsActivePort", time.monotonic() + ANSWER_S
        port.unlink(missing_ok=True)  # of a browser that had this profile before
        self.process = subprocess.Popen(
            [BROWSER, *HEADLESS, *options, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (port.is_file() and port.read_text().count("\n")) and time.monotonic() < deadline:
            time.sleep(0.05)
        address = f"http://127.0.0.1:{port.read_text().split()[0]}/json"
        tabs = requests.get(address, timeout=ANSWER_S).json()
        url = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        self.socket = websocket.create_connection(url, timeout=ANSWER_S)
        self.numbers, self.events = itertools.count(1), []
        for part in ("Page", "Runtime"):
            self.tell(f"{part}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(ANSWER_S)

    def tell(self, method: str, **options: Any) -> dict[str, Any]:
        """Send one command and return its result; what happens meanwhile is kept in `events`."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": options}))
        while (said := json.loads(self.socket.recv())).get("id") != number:
            self.events.append(said)
        assert "error" not in said, (method, said)
        return said["result"]

    def look(self, width: int, *, dark: bool = False) -> None:
        """Be a screen of this width; the next page is light or dark."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path, query: str = "") -> None:
        """Open a page, until its formulas are drawn; one that leads on to another is followed."""
        leads_on = 'http-equiv="refresh"' in page.read_text()[:200].lower()
        self.events = []
        self.tell("Page.navigate", url=page.resolve().as_uri() + query)
        while sum(event["method"] == "Page.loadEventFired" for event in self.events) < 1 + leads_on:
            self.events.append(json.loads(self.socket.recv()))
        self.ask(READY)

    def ask(self, script: str) -> Any:
        """The value of a script, waited for."""
        said = self.tell(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def errors(self) -> list[str]:
        """What scripts of the page threw and nobody caught."""
        thrown = (e["params"] for e in self.events if e["method"] == "Runtime.exceptionThrown")
        details = (one["exceptionDetails"] for one in thrown)
        return [d.get("exception", {}).get("description", d["text"])[:300] for d in details]


def drawn(page: Path, profile: Path) -> BeautifulSoup:
    """The page after its scripts have run."""
    with Browser(profile) as tab:
        tab.open(page)
        return BeautifulSoup(tab.ask("document.documentElement.outerHTML"), "html.parser")
