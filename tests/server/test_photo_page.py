"""The photo page in Chromium: clicks, sizes, languages, and what it fetches."""

import gzip
import shutil

import cv2
import numpy as np
import pytest

from edgerestore.imaging.scenes import drawn_scene
from edgerestore.server.photo_routes import STATIC

from .serving import start_server, stop_server

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
PATIENT_MS = 60_000


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    process, port = start_server(tmp_path_factory.mktemp("page"))
    yield port
    assert "Traceback" not in stop_server(process)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "garden.png"
    assert cv2.imwrite(str(path), (drawn_scene(5, 96) * 140).astype(np.uint8))
    return str(path)


@pytest.fixture
def page(browser, port):
    context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(PATIENT_MS)
    wrong, asked = [], []
    opened.on("console", lambda one: one.type == "error" and wrong.append(one.text))
    opened.on("pageerror", lambda one: wrong.append(str(one)))
    opened.on("request", lambda one: asked.append(one.url))
    opened.goto(f"http://127.0.0.1:{port}/")
    yield opened
    context.close()
    assert not [line for line in wrong if "415" not in line]  # a refused file is one, too
    own = (f"http://127.0.0.1:{port}/", "blob:")
    assert not [url for url in asked if not url.startswith(own)]


def choose(page, photo):
    with page.expect_file_chooser() as chooser:
        page.locator("#drop").click()
    chooser.value.set_files(photo)
    page.locator("#auto:enabled").wait_for()


def done(page):
    page.get_by_text("Done.").wait_for()


def test_four_clicks_from_the_page_to_the_saved_picture(page, photo, tmp_path):
    choose(page, photo)  # 1
    page.locator("#auto").click()  # 2
    page.locator("#save:enabled").click()  # 3
    with page.expect_download() as saved:
        page.locator("#confirm").click()  # 4
    assert saved.value.suggested_filename == "garden-restored.png"
    saved.value.save_as(tmp_path / "saved.png")
    made, given = cv2.imread(str(tmp_path / "saved.png")), cv2.imread(photo)
    assert made is not None
    assert given is not None
    assert made.shape == given.shape
    assert made.mean() > given.mean() + 5  # it was dark


def test_undo_and_redo_run_the_recipe_anew(page, photo):
    choose(page, photo)
    page.locator("#op-deblur").check()
    done(page)
    page.locator("#op-denoise").check()
    page.locator("#save:enabled").wait_for()
    page.keyboard.press("Control+z")
    page.locator("#redo:enabled").wait_for()
    assert page.locator("#op-deblur").is_checked()
    assert not page.locator("#op-denoise").is_checked()
    page.keyboard.press("Control+Shift+z")
    page.locator("#redo:disabled").wait_for()
    page.locator("#save:enabled").wait_for()
    assert page.locator("#op-denoise").is_checked()
    page.locator("#reset").click()
    page.locator("#save:enabled").wait_for()
    assert not page.locator("#op-deblur").is_checked()


def test_what_is_blocked_says_why(page, photo):
    page.get_by_text("Choose a photo first.").wait_for()
    assert page.locator("#auto").is_disabled()
    assert page.locator("#save").is_disabled()
    choose(page, photo)
    assert page.locator("#op-cutout").is_disabled()
    assert page.locator("#why-cutout").inner_text() == "Not installed here"


def test_a_file_that_is_no_picture_is_told(page, tmp_path):
    path = tmp_path / "letter.jpg"
    path.write_text("Dear Sir or Madam")
    with page.expect_file_chooser() as chooser:
        page.locator("#drop").click()
    chooser.value.set_files(str(path))
    page.locator("#status.wrong").wait_for()
    assert "letter.jpg" in page.locator("#status").inner_text()


def test_the_language_is_changed_and_remembered(page):
    page.locator("#language").select_option("uk")
    assert page.locator("h1").inner_text() == "Відновлення фото"
    page.reload()
    page.get_by_text("Виберіть фото", exact=True).wait_for()


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080), (390, 844)])
def test_targets_are_large_and_nothing_overflows(page, photo, width, height):
    page.set_viewport_size({"width": width, "height": height})
    choose(page, photo)
    page.locator("#op-deblur").check()
    done(page)
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input[type=range], label.switch")]
          .filter((one) => one.checkVisibility())
          .map((one) => [one.id || one.textContent, one.getBoundingClientRect()])
          .filter(([, box]) => box.height < 48 || box.width < 48).map(([name]) => name)"""
    )
    assert small == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_texts_are_complete_in_each_language(page):
    keys = page.evaluate(
        "import('/texts.js').then(({ TEXTS }) =>"
        " Object.values(TEXTS).map((one) => Object.keys(one).join()))"
    )
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_the_page_is_small():
    files = [path.read_bytes() for path in STATIC.iterdir()]
    assert sum(len(gzip.compress(one)) for one in files) <= 60_000
