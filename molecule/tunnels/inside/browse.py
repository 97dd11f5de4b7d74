"""Opens a page in a browser without a screen, does what a user does there, and notes what is to be seen.

browse.py tensorboard NAME URL: once the charts are drawn; {"charts": {NAME: number of curves}, "runs": [TEXT, ...]}
browse.py notebook NAME URL: runs the first cell; {"output": what it prints}

That is in seen/NAME.json in the user's home, last of all, with the address in the end; seen/NAME.png is a picture.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 60
# TensorBoard's parts are documents within documents.
EVERYTHING = """
function* everything(root) {
    for (const element of root.querySelectorAll("*")) {
        yield element;
        if (element.shadowRoot) yield* everything(element.shadowRoot);
    }
}
const named = (name, root = document) => [...everything(root)].filter((element) => element.localName === name);
"""
# A curve is a path of many points; there are two in each colour, of which one is smooth.
CHARTS = """
return Object.fromEntries(named("tf-scalar-card").map((card) => [card.tag, new Set(
    named("path", card.shadowRoot).filter((path) => (path.getAttribute("d") || "").split("L").length > 10)
        .map((path) => getComputedStyle(path).stroke)).size]));
"""
TEXTS = """
return named("tf-runs-selector").flatMap((part) => [...everything(part.shadowRoot)])
    .filter((element) => element.childElementCount === 0).map((element) => element.textContent.trim());
"""
CONNECTED = "return Boolean(window.Jupyter?.notebook?.kernel?.is_connected());"


def tensorboard(browser: webdriver.Chrome) -> dict[str, object]:
    def drawn(_: object) -> dict[str, int]:
        charts: dict[str, int] = browser.execute_script(EVERYTHING + CHARTS)
        return charts if charts and all(charts.values()) else {}

    charts = WebDriverWait(browser, SECONDS).until(drawn)
    return {"charts": charts, "runs": browser.execute_script(EVERYTHING + TEXTS)}


def notebook(browser: webdriver.Chrome) -> dict[str, object]:
    wait = WebDriverWait(browser, SECONDS)
    wait.until(lambda _: browser.execute_script(CONNECTED))
    browser.find_element(By.CSS_SELECTOR, ".cell .input_area").click()
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
    output = wait.until(lambda _: browser.find_element(By.CSS_SELECTOR, ".output_stdout pre").text)
    return {"output": output}


def main(kind: str, name: str, url: str) -> None:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    seen = Path.home() / "seen" / name
    seen.parent.mkdir(mode=0o700, exist_ok=True)
    # What a browser leaves is not what a test looks for.
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = folder
        browser = webdriver.Chrome(options=options)
        try:
            browser.get(url)
            found = {"tensorboard": tensorboard, "notebook": notebook}[kind](browser)
            found["url"] = browser.current_url
        finally:
            browser.save_screenshot(f"{seen}.png")
            browser.quit()
    Path(f"{seen}.part").write_text(json.dumps(found))
    Path(f"{seen}.part").rename(f"{seen}.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
