"""A migration runs while a browser shows the page, and the page follows; it fits a desk and a telephone."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from support import embedding
from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.ledger.shadows import Shadowed, record
from vecmig.serve.site import Site, listen

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
)
WIDTHS = [1280, 390]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    """A browser without a window, which tells every request and every complaint."""
    options = ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path / 'browser'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = Chrome(options=options, service=ChromeService(DRIVER, env=os.environ | {"HOME": str(tmp_path)}))
    try:
        yield started
    finally:
        started.quit()


@contextmanager
def shown(lab: Lab) -> Iterator[str]:
    """Serve the page from a thread, looking at records often; give its address."""
    listening = listen("127.0.0.1", 0)
    application = Site(lab.config, every=0.2, pulse_every=0.2).application()
    settings = uvicorn.Config(application, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()


def _wait_for(browser: Chrome, text: str) -> None:
    WebDriverWait(browser, 60, poll_frequency=0.05).until(
        lambda it: text in it.execute_script("return document.body.innerText.replace(/\\s+/g, ' ')"),
        message=f"the page never said: {text}",
    )


def test_the_page_follows_a_migration_from_its_beginning_to_a_rollback(
    lab: Lab, model: embedding.Model, browser: Chrome
) -> None:
    lab.upgrade("r1")
    going_on = threading.Semaphore(0)

    def wait(_texts: list[str]) -> None:
        going_on.acquire(timeout=60)

    model.before = wait
    with shown(lab) as address:
        browser.get(address)
        _wait_for(browser, "Searches use toy/dim-64, which has 100 % of 20 records.")
        browser.execute_script("window.loaded = 'once'")
        upgrade = threading.Thread(target=lab.upgrade)
        upgrade.start()
        _wait_for(browser, "toy/dim-256 is being filled: 0 %")
        _wait_for(browser, "AT WORK")
        going_on.release()
        _wait_for(browser, "toy/dim-256 is being filled: 40 %")
        going_on.release(50)
        upgrade.join(60)
        _wait_for(browser, "Searches use toy/dim-256, which has 100 % of 20 records.")
        _wait_for(browser, "cutover: reads moved from toy/dim-64 to toy/dim-256")
        lab.downgrade(hold=True)
        _wait_for(browser, "Searches use toy/dim-64, which has 100 % of 20 records.")
        _wait_for(browser, "vecmig release r2")
        assert browser.execute_script("return window.loaded") == "once", "it followed, and was not loaded again"
        assert _complaints(browser) == []
        assert [url for url in _asked(browser, address) if not url.startswith((address, "data:"))] == []


@pytest.mark.upgraded
def test_what_a_reader_has_opened_stays_open_and_what_did_not_change_stays(lab: Lab, browser: Chrome) -> None:
    with shown(lab) as address:
        browser.get(address)
        _wait_for(browser, "Searches use toy/dim-256")
        browser.execute_script("document.querySelector('#c1-tags').dataset.mark = 'the same element'")
        runner.pause(lab.config, reason="to be seen")
        _wait_for(browser, "to be seen")
        mark = browser.execute_script("return document.querySelector('#c1-tags').dataset.mark")
        assert mark == "the same element"


@pytest.mark.upgraded("r2", until="expand")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits(lab: Lab, browser: Chrome, width: int, scheme: str) -> None:
    lab.backfill(limit=8)
    (lab.path / "evals").mkdir()
    queries = "".join(f"  - {{query: 'body {n}', relevant: [{n}]}}\n" for n in range(1, 4))
    (lab.path / "evals" / "of-a-long-name.yaml").write_text(f"collection: documents\nk: 10\nqueries:\n{queries}")
    runner.evaluate(lab.config)
    with lab.database.session() as connection:
        record(
            connection,
            "vecmig",
            Shadowed(lab.name, SMALL, LARGE, 10, 0.5, 0.7, True, 2.0, 3.0, None, "hash", "a query " * 30),
        )
    lab.sql("UPDATE documents SET body = 'edited' WHERE id > 16")
    with shown(lab) as address:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get(address)
        _wait_for(browser, "toy/dim-256 is being filled: 40 %")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        first = browser.find_element(By.CSS_SELECTOR, ".story")
        assert first.location["y"] + first.size["height"] < 900, "how it stands is seen without scrolling"
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        red = int(ground.partition("(")[2].partition(",")[0])
        assert (red < 128) == (scheme == "dark")


@pytest.mark.upgraded
def test_without_a_script_it_is_all_there(lab: Lab, browser: Chrome) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    with shown(lab) as address:
        browser.get(address)
        text = " ".join(browser.find_element(By.TAG_NAME, "body").text.split())
        assert "Searches use toy/dim-256, which has 100 % of 20 records." in text
        assert "Going back to toy/dim-64 takes less than a second: vecmig downgrade -1" in text


@pytest.mark.upgraded
def test_a_report_is_the_page_in_one_file(lab: Lab, browser: Chrome, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(Site(lab.config).report(), encoding="utf-8")
    browser.get(file.as_uri())
    _wait_for(browser, "Searches use toy/dim-256")
    styled = browser.execute_script("return getComputedStyle(document.querySelector('.card')).borderRadius")
    assert styled == "8px", "its own sheet is let in"
    assert _complaints(browser) == []


def _complaints(browser: Chrome) -> list[str]:
    """Return what the browser has refused."""
    logged = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in logged if entry["level"] == "SEVERE"]


def _asked(browser: Chrome, address: str) -> list[str]:
    """Return what the page at an address has asked for; a browser begins with a page of its own."""
    sent = [
        json.loads(entry["message"])["message"]
        for entry in browser.get_log("performance")  # type: ignore[no-untyped-call]
    ]
    asked = [one["params"] for one in sent if one["method"] == "Network.requestWillBeSent"]
    urls = [one["request"]["url"] for one in asked if one["documentURL"].startswith(address)]
    assert urls
    return urls


@pytest.mark.upgraded
def test_a_server_that_goes_away_is_told(lab: Lab, browser: Chrome) -> None:
    with shown(lab) as address:
        browser.get(address)
        _wait_for(browser, "Searches use toy/dim-256")
        assert browser.find_elements(By.CSS_SELECTOR, "body.lost") == []
    WebDriverWait(browser, 60).until(lambda it: it.find_elements(By.CSS_SELECTOR, "body.lost"))
    assert "Searches use toy/dim-256" in browser.find_element(By.TAG_NAME, "body").text, "what was seen stays"
