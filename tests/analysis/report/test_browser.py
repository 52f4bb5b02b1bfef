"""The report works in a real browser: by mouse, by keyboard, for a screen reader, light and dark."""

import itertools
import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from analysis.report.page import command

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,1000"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Return a headless Chromium."""
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        text = "needs a browser: apt-get install chromium chromium-driver"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(paths[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def file(reach_runs, tmp_path_factory):
    """Return a report of two real runs."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    command([str(reach_runs), "--out", str(path)])
    return path


@pytest.fixture
def page(browser, file):
    """Return the browser with the report freshly opened from disk."""
    browser.get(file.as_uri())
    return browser


def visible_outcomes(page):
    return page.execute_script(
        "return [...document.querySelectorAll('#list > tbody:not([hidden])')].map(e => e.dataset.outcome)"
    )


def focused(page):
    return page.switch_to.active_element


def test_it_loads_nothing_but_itself_and_reports_no_error(page):
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_failures_stand_first_and_filters_narrow_the_list(page):
    outcomes = visible_outcomes(page)
    failures = outcomes.count("failure")
    assert len(outcomes) == 80
    assert failures >= 2
    assert outcomes[:failures] == ["failure"] * failures
    Select(page.find_element(By.CSS_SELECTOR, "[data-filter=outcome]")).select_by_visible_text("failure")
    assert visible_outcomes(page) == ["failure"] * failures
    assert page.find_element(By.ID, "shown").text == f"{failures} of 80 episodes"
    Select(page.find_element(By.CSS_SELECTOR, "[data-filter=run]")).select_by_visible_text("reach: expert, steady")
    assert visible_outcomes(page) == []


def test_the_text_filter_looks_into_what_was_done(page):
    page.find_element(By.ID, "search").send_keys("far side failure")
    assert set(visible_outcomes(page)) <= {"failure"}
    page.find_element(By.ID, "search").send_keys(" no such words")
    assert visible_outcomes(page) == []


def test_the_header_sorts_by_keyboard_and_says_so(page):
    button = next(b for b in page.find_elements(By.CSS_SELECTOR, ".sort") if b.accessible_name == "Sort by Steps")
    header = button.find_element(By.XPATH, "..")
    steps = "return [...document.querySelectorAll('#list > tbody')].map(e => Number(e.rows[0].cells[6].textContent))"
    button.send_keys(Keys.ENTER)
    assert header.get_attribute("aria-sort") == "ascending"
    assert page.execute_script(steps) == sorted(page.execute_script(steps))
    button.send_keys(Keys.SPACE)
    assert header.get_attribute("aria-sort") == "descending"
    assert page.execute_script(steps) == sorted(page.execute_script(steps), reverse=True)
    assert len(page.find_elements(By.CSS_SELECTOR, "th[aria-sort=none]")) == 6


def test_a_failure_opens_by_keyboard_with_its_film_and_its_motions(page):
    button = page.find_element(By.CSS_SELECTOR, "tbody[data-outcome=failure] .open")
    details = page.find_element(By.ID, button.get_attribute("aria-controls"))
    assert not details.is_displayed()
    button.send_keys(Keys.SPACE)
    assert button.get_attribute("aria-expanded") == "true"
    assert details.is_displayed()
    assert "Said" in details.text
    assert "move" in details.text
    film = details.find_element(By.TAG_NAME, "video")
    page.execute_script("arguments[0].preload = 'auto'; arguments[0].load()", film)
    WebDriverWait(page, 20).until(lambda _: page.execute_script("return arguments[0].readyState >= 2", film))
    assert page.execute_script("return arguments[0].videoWidth", film) == 64
    button.send_keys(Keys.SPACE)
    assert not details.is_displayed()


def test_the_first_tab_stop_skips_to_the_episodes(page):
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert focused(page).text == "Skip to the episodes"
    focused(page).send_keys(Keys.ENTER)
    assert page.execute_script("return document.activeElement.id || location.hash") in ("episodes", "#episodes")


def test_every_control_has_a_name_and_every_table_a_caption_and_headers(page):
    controls = page.find_elements(By.CSS_SELECTOR, "header button, .filters select, .filters input, .sort, .open")
    names = [control.accessible_name for control in controls[:30]]
    assert all(names)
    assert len(set(names[:12])) == 12
    assert page.execute_script("return [...document.querySelectorAll('table')].every(t => t.caption)")
    assert page.execute_script("return [...document.querySelectorAll('th')].every(t => t.scope)")
    assert page.execute_script("return [...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))")
    levels = page.execute_script("return [...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(page, theme):
    button = page.find_element(By.ID, "theme")
    if (button.get_attribute("aria-pressed") == "true") != (theme == "dark"):
        button.click()
    lightness = "return Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert (page.execute_script(lightness) < 128) == (theme == "dark")
    worst = page.execute_script(
        """
        const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const light = (c) => c.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
          .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
        const behind = (e) => { for (; e; e = e.parentElement) {
          const colour = getComputedStyle(e).backgroundColor;
          if (!/, 0\\)$/.test(colour)) return colour; } };
        let worst = [99, ""];
        for (const e of document.querySelectorAll("p, th, td, a, button, h1, h2, caption, label, .key")) {
          const pair = [light(rgb(getComputedStyle(e).color)), light(rgb(behind(e)))].sort((a, b) => b - a);
          const ratio = (pair[0] + .05) / (pair[1] + .05);
          if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 80)];
        }
        return worst;
        """
    )
    assert worst[0] >= 4.5, worst


def test_the_page_fits_a_phone_without_scrolling_sideways(page):
    page.set_window_size(500, 900)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.set_window_size(1280, 1000)
