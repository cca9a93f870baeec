"""A person at Open WebUI, played in a headless chromium: ``python browse.py URL MODEL PICTURE`` prints what they saw.

Runs in Open WebUI's environment, which has playwright for it: nothing of ours can be imported here.
"""

import json
import sys
import time
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright  # type: ignore[import-not-found]

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
QUESTION = "Describe a lighthouse in three sentences."
EMAIL, PASSWORD = "ann@example.org", "a lighthouse of her own"
SIZE = {"width": 900, "height": 560}
ANSWER_S = 120  # a slow machine's longest answer

ANSWER = "() => document.querySelector('.chat-assistant .markdown-prose')?.innerText ?? ''"


def sign_up(page: Page, url: str) -> None:
    """The first account is the administrator's."""
    page.goto(url)
    page.get_by_role("button", name="Get started").click()
    page.locator("input[autocomplete=name]").fill("Ann")
    enter(page)
    page.get_by_role("button", name="Okay, Let's Go!").click()


def log_in(page: Page, url: str) -> None:
    """With the account that is there by now."""
    page.goto(url)
    enter(page)


def enter(page: Page) -> None:
    """Fill in the form, and wait until it is gone."""
    page.locator("input[autocomplete=email]").fill(EMAIL)
    page.locator("input[type=password]").fill(PASSWORD)
    page.locator("button[type=submit]").click()
    page.locator("#chat-input").wait_for()


def choose(page: Page, model: str) -> None:
    """Choose the model from the list."""
    page.locator("#model-selector-model-button").click()
    page.get_by_role("option", name=f"Select {model} model").click()


def ask(page: Page) -> list[int]:
    """Send the question; the lengths that the answer had while it grew, in characters."""
    page.locator("#chat-input").click()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    ended = page.locator(".copy-response-button")
    lengths: list[int] = []
    deadline = time.monotonic() + ANSWER_S
    while not ended.is_visible():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the answer has not ended after {ANSWER_S} s; it grew as {lengths}")
        lengths.append(len(page.evaluate(ANSWER)))
        page.wait_for_timeout(50)
    lengths.append(len(page.evaluate(ANSWER)))
    return sorted(set(lengths))


def main(url: str, model: str, picture: str) -> None:
    """Sign up, choose, ask, take a picture; then log in anew and find the chat."""
    outside: set[str] = set()
    failed: set[str] = set()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)

        def fresh_page() -> Page:
            page = browser.new_context(viewport=SIZE).new_page()
            page.set_default_timeout(30_000)
            page.on("request", lambda sent: outside.add(sent.url) if leaves(sent.url) else None)
            page.on("response", lambda got: failed.add(f"{got.status} {got.url}") if got.status >= 400 else None)
            return page

        page = fresh_page()
        sign_up(page, url)
        choose(page, model)
        lengths = ask(page)
        page.get_by_role("button", name="Voice mode").wait_for()  # title and the like have been made too
        page.locator("[data-sonner-toast]").last.wait_for(state="detached")
        page.screenshot(path=picture)
        chat = page.url
        again = fresh_page()
        log_in(again, url)
        again.goto(chat)
        again.locator(".chat-assistant .markdown-prose").wait_for()
        kept = again.evaluate(ANSWER)
        browser.close()
    print(json.dumps({"lengths": lengths, "kept": len(kept), "outside": sorted(outside), "failed": sorted(failed)}))


def leaves(url: str) -> bool:
    """Whether a request goes to another machine."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1"


if __name__ == "__main__":
    main(*sys.argv[1:])
