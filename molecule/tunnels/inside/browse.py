"""Opens a page in a browser without a screen, does what a user does there, and says what is to be seen, as JSON.

browse.py tensorboard URL PICTURE: all charts are open; {"charts": {NAME: number of curves}, "runs": [NAME, ...]}
browse.py notebook URL PICTURE: the first cell is run; {"output": what it has printed}
browse.py page URL PICTURE: {"text": all there is to be read}
"""

from __future__ import annotations

import json
import sys

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 60
# A curve that has been drawn is a path of many points.
CHARTS = """
const charts = {};
for (const card of document.querySelectorAll("tf-scalar-card")) {
    const curves = [...card.querySelectorAll("svg .scatter-plot, svg path")].filter(
        (path) => (path.getAttribute("d") || "").split(/[LC]/).length > 5);
    charts[card.tag] = curves.length;
}
return charts;
"""
RUNS = "return [...document.querySelectorAll('tf-runs-selector .name')].map((name) => name.textContent.trim());"
CONNECTED = "return Boolean(window.Jupyter?.notebook?.kernel?.is_connected());"


def tensorboard(browser: webdriver.Chrome) -> dict[str, object]:
    def drawn(_: object) -> dict[str, int]:
        charts: dict[str, int] = browser.execute_script(CHARTS)
        return charts if charts and all(charts.values()) else {}

    charts = WebDriverWait(browser, SECONDS).until(drawn)
    return {"charts": charts, "runs": browser.execute_script(RUNS)}


def notebook(browser: webdriver.Chrome) -> dict[str, object]:
    wait = WebDriverWait(browser, SECONDS)
    wait.until(lambda _: browser.execute_script(CONNECTED))
    browser.find_element(By.CSS_SELECTOR, ".cell .input_area").click()
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
    output = wait.until(lambda _: browser.find_element(By.CSS_SELECTOR, ".output_stdout pre").text)
    return {"output": output}


def page(browser: webdriver.Chrome) -> dict[str, object]:
    return {"text": browser.find_element(By.TAG_NAME, "body").text}


def main(kind: str, url: str, picture: str) -> None:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options)
    try:
        browser.get(url)
        seen = {"tensorboard": tensorboard, "notebook": notebook, "page": page}[kind](browser)
        print(json.dumps({"url": browser.current_url, "title": browser.title, **seen}))
    finally:
        browser.save_screenshot(picture)
        browser.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
