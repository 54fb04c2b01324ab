"""The page and the console's summary: nothing is lost, nothing is let in, nothing leaves; and it renders with little."""

import base64
import copy
import re
import shutil
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_ser.evaluation.paired import compare
from hf_ser.report.page import PICTURES, page, summary, warnings
from hf_ser.report.plots import draw
from hf_ser.wording import per_cent

#: What a headless browser needs to run anywhere, and to ask nothing of the network by itself.
BROWSER = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
           "--disable-background-networking", "--disable-component-update"]  # fmt: skip
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """Pictures in little more than name."""
    for name in PICTURES:
        (tmp_path / f"{name}.png").write_bytes(PNG + name.encode())
    return {name: tmp_path / f"{name}.png" for name in PICTURES}


class Reader(HTMLParser):
    """What is in a page: its text, tags and their attributes, and whether every tag is closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.caption = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}  # by caption, without their heads
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr" and "tbody" in self.open:
            self.tables[self.caption].append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.text += data
        if self.open[-1:] == ["caption"]:
            self.caption = data
            assert data not in self.tables
            self.tables[data] = []
        elif self.open[-3:-1] == ["tbody", "tr"]:
            self.tables[self.caption][-1].append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def forms(value: float) -> set[str]:
    """How a figure may be written: in per cent, points, seconds, thousands, as it is."""
    percent, plain = f"{100 * value:.1f}", f"{value:,.3f}"
    found = {
        percent,
        f"{100 * value:+.1f}",
        plain,
        f"{value:.4f}",
        f"{value:.1f}",
        f"{value:.2f}",
        f"{value:g}",
        f"{value:,.0f}",
    }
    for size in (60, 3600, 1e3, 1e6, 1e9):
        found |= {f"{value / size:.1f}", f"{value / size:,.3g}"}
    return found


def test_every_figure_and_name_of_the_report_is_on_the_page(report: dict[str, Any], pictures: dict[str, Path]) -> None:
    text = Reader(page(report, pictures)).text
    numbers = set(re.findall(r"[-+]?[\d,]*\.?\d+", text))
    # What is told in words, or by the place in a table: keys of the schema, and each speaker's confusion matrix.
    shown = copy.deepcopy(report)
    for figures in shown["quality"]["speakers"].values():
        del figures["confusion_matrix"], figures["gender"]
    for key in ("level", "resamples", "seed"):
        del shown["comparison"][key]
    for condition in shown["robustness"]["conditions"]:
        del condition["kind"], condition["unit"], condition["level"]
    del shown["cost"]["device"]["kind"], shown["quality"]["intervals"]["level"]
    for leaf in leaves(shown):
        if isinstance(leaf, bool) or leaf is None:
            continue
        if isinstance(leaf, int | float):
            assert forms(leaf) & numbers, f"{leaf} is not on the page"
    words = [*report["model"]["emotions"], "hap is happy", "facebook/hubert-base-ls960", "lora_qkv", report["made"]["command"],
             "transformers 5.20.0", *report["notes"], *report["clips"]["corpora"], "disgust", "silent", *report["quality"]["speakers"],
             "hubert-full", *(entry["name"] for entry in report["robustness"]["conditions"]), "true positive rate, female",
             "crema_d/b", "nearly the same", "matrix products and convolutions", "resident memory of the process"]  # fmt: skip
    for word in words:
        assert word in text, f"{word} is not on the page"


def test_what_is_in_which_table(report: dict[str, Any]) -> None:
    tables = Reader(page(report, {})).tables
    quality = report["quality"]
    overall = quality["overall"]

    def percent(share: float) -> str:
        return f"{per_cent(share):.1f} %"

    (loss,) = [row for row in tables["All 320 clips"] if row[0] == "log loss, nats"]
    edges = (quality["intervals"][unit]["log_loss"] for unit in ("clips", "speakers"))
    assert loss[1:] == [f"{overall['log_loss']:.3f}", *("{:.3f} to {:.3f}".format(*pair) for pair in edges)]
    for caption, group in (("corpus", "corpora"), ("gender", "genders"), ("speaker", "speakers")):
        groups = quality[group]
        for key, name in (("recall", "Recall"), ("eer_by_emotion", "EER")):
            expected = [[who, *map(percent, figures[key].values())] for who, figures in groups.items()]
            assert tables[f"{name} by {caption} and emotion"] == expected
        assert tables[f"By {caption}"] == [
            [who, str(figures["clips"])]
            + [percent(figures["uar"]), "41.0 to 63.0 %" if who == "ravdess" else "–"]
            + [percent(figures[key]) for key in ("accuracy", "f1_weighted", "f1_macro", "eer", "ece")]
            + [f"{figures['log_loss']:.3f}"]
            for who, figures in groups.items()
        ]
    for caption, figures in (("Clips", overall), ("ravdess: clips", quality["corpora"]["ravdess"])):
        rows = [row[1:] for row in tables[f"{caption} by true and recognised emotion"]]
        assert rows == [list(map(str, row)) for row in figures["confusion_matrix"]]
    matrix = overall["confusion_matrix"]
    low, high = quality["recall_intervals"]["happy"]
    assert tables["By emotion"][1] == [
        "happy", "80", percent(overall["recall"]["happy"]), f"{per_cent(low)} to {per_cent(high)} %",
        percent(matrix[1][1] / sum(row[1] for row in matrix)), percent(overall["eer_by_emotion"]["happy"]), "15.0 to 26.0 %",
    ]  # fmt: skip
    assert tables["This model and hubert-full"] == [
        ["UAR", "69.5 %", "66.3 %", "+3.2", "+1.0 to +5.4", "0.0413", "-0.8 to +7.1", "0.0873"],
        ["EER", "12.3 %", "13.6 %", "-1.2", "-3.1 to +0.6", "0.1879", "–", "–"],
    ]
    assert [row[1:] for row in tables["Clips that the models have right"]] == [["171", "47"], ["29", "73"]]
    assert tables["Fairness between the genders"] == [
        ["demographic parity", "8.1 %", "5.1 %", "9.2 %"],
        ["equality of odds", "13.6 %", "12.3 %", "17.1 %"],
    ]
    assert ["unknown", "8"] in tables["Clips of each gender"]
    assert tables["Genders by emotion"][0][1:6] == ["40", "39", "25.1 %", "24.1 %", "66.2 %"]
    assert tables["UAR by condition"][1] == [
        "white noise, 0 dB SNR",
        "31.0 %",
        "26.0 to 36.0 %",
        tables["UAR by condition"][1][3],
    ]
    assert tables["Clips that were in training, too"] == [["ravdess/a", "crema_d/b", "0.9871", "nearly the same"]]
    assert tables["Latency: one clip, from its waveform to its probabilities"][1] == ["3 s", "65.1 ms", "78.9 ms", "20"]


def test_a_condition_without_an_answer(report: dict[str, Any], tmp_path: Path) -> None:
    """Where no clip is left that the model can answer."""
    for place in (1, -1):
        report["robustness"]["conditions"][place] |= {"uar": None, "interval": None, "difference": None}
    reader = Reader(page(report, draw(report, tmp_path)))
    assert reader.tables["UAR by condition"][1] == ["white noise, 0 dB SNR", "–", "–", "–"]
    assert "under the worst of 10 conditions, pink noise, 0 dB SNR" in summary(report).replace("\n  ", " ")


def test_a_comparison_as_it_is_computed(report: dict[str, Any]) -> None:
    """The other model is the first, this one the second."""
    labels = np.tile([0, 1, 2, 3], 10)
    good = 0.1 + 0.6 * np.eye(4)[labels]
    bad = np.roll(good, 1, axis=1)
    bad[:12] = good[:12]
    report["comparison"] = {"other": "worse", **compare(bad, good, labels, resamples=20)}
    reader = Reader(page(report, {}))
    tables = reader.tables
    assert "With worse, on the same 40 clips." in reader.text
    assert "No interval by speaker: the clips' speakers are not known." in reader.text
    assert "McNemar's exact test, p: below 0.0001." in reader.text
    assert tables["This model and worse"][0][:4] == ["UAR", "100.0 %", "30.0 %", "+70.0"]
    assert [row[1:] for row in tables["Clips that the models have right"]] == [["12", "28"], ["0", "0"]]


def test_the_summary_is_on_top_with_the_interval_and_alarms(report: dict[str, Any]) -> None:
    html = page(report, {})
    top = html[html.index('id="summary"') : html.index("<nav")]
    main = report["quality"]["overall"]["uar"]
    low, high = report["quality"]["intervals"]["speakers"]["uar"]
    assert f"<strong>{100 * main:.1f} %</strong>" in top
    assert f"95 % interval by speakers: {100 * low:.1f} to {100 * high:.1f} %; chance 25.0 %" in top
    assert top.count('class="alarm"') == 2
    assert "1 speaker of these clips was in training, too (ravdess_03)" in top
    for name in ("What it can do", "For whom", "Under what conditions", "At what cost"):
        assert f"<dt>{name}</dt>" in top


def test_groups_of_many_speakers_have_an_interval_by_speakers(report: dict[str, Any]) -> None:
    report["quality"]["corpora"]["ravdess"]["intervals_by_speaker"] = {"uar": [0.38, 0.66]}
    tables = Reader(page(report, {})).tables
    assert {row[0]: row[3:5] for row in tables["By corpus"]} == {
        "ravdess": ["41.0 to 63.0 %", "38.0 to 66.0 %"],
        "crema_d": ["–", "–"],
    }
    assert len(tables["By gender"][0]) == len(tables["By corpus"][0]) - 1


def test_the_summary_says_if_robustness_is_of_some_clips_alone(report: dict[str, Any]) -> None:
    assert "</dt><dd>UAR" in page(report, {}).replace("\n", "")
    report["robustness"] |= {"clips": 20, "of": 320}
    assert "On 20 of 320 clips: UAR" in page(report, {})


def test_text_is_escaped(report: dict[str, Any], pictures: dict[str, Path]) -> None:
    evil = '<script>alert("1")</script>'
    quality, clips = report["quality"], report["clips"]
    clips["corpora"] = quality["corpora"] = {evil: quality["corpora"]["ravdess"]}
    clips["corpora"] = {evil: 320}
    quality["speakers"] = {evil: next(iter(quality["speakers"].values()))}
    clips["set_aside"] = {evil: 1}
    report["model"]["name"] = report["model"]["base_model"] = report["comparison"]["other"] = evil
    report["notes"] = report["leakage"]["speakers"] = [evil]
    report["leakage"]["duplicates"][0]["clip"] = '" onmouseover="alert(1)'
    report["fairness"]["by_emotion"] = {evil: {evil: 0.5}}
    report["robustness"]["conditions"][1]["name"] = evil
    report["cost"]["device"]["name"] = report["made"]["command"] = "</title>" + evil
    html = page(report, pictures)
    assert evil not in html
    assert html.count("<script") == 1
    reader = Reader(html)
    assert reader.text.count(evil) > 15
    assert {name for _, attributes in reader.tags for name in attributes if name.startswith("on")} == set()


def test_nothing_is_asked_of_the_network(report: dict[str, Any], pictures: dict[str, Path]) -> None:
    html = page(report, pictures)
    reader = Reader(html)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttp", re.sub(r"base64,[^\"]*", "", html))
    for tag, attributes in reader.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), f"<{tag}> leaves the page"
    (policy,) = [meta["content"] for meta in reader.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_pictures_are_inside_and_have_words_for_those_who_do_not_see_them(
    report: dict[str, Any], pictures: dict[str, Path]
) -> None:
    images = Reader(page(report, pictures)).all("img")
    inside = {base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) for image in images}
    assert inside == {path.read_bytes() for path in pictures.values()}
    assert all(len(image["alt"] or "") > 40 for image in images)
    assert Reader(page(report, {})).all("img") == []


def test_a_picture_without_a_place_is_not_lost_in_silence(report: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no place for cats; there is for confusion_matrix, recall"):
        page(report, {"cats": tmp_path / "cats.png"})


def test_tables_and_headings_for_screen_readers(report: dict[str, Any]) -> None:
    html = page(report, {})
    reader = Reader(html)
    tables = len(reader.all("table"))
    assert tables > 15
    assert len(reader.all("caption")) == tables
    assert {cell.get("scope") for cell in reader.all("th")} == {"col", "row"}
    anchors = {heading["id"] for heading in reader.all("h2")} - {"summary-title"}
    assert anchors == {
        "model",
        "clips",
        "quality",
        "groups",
        "comparison",
        "fairness",
        "robustness",
        "cost",
        "leakage",
        "notes",
    }
    for anchor in anchors:
        assert html.count(f'href="#{anchor}"') == 2
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert reader.all("html") == [{"lang": "en"}]
    assert html.lstrip().startswith("<!DOCTYPE html>")


def test_a_reduced_report(reduced: dict[str, Any], tmp_path: Path) -> None:
    html = page(reduced, draw(reduced, tmp_path))
    text = unescape(Reader(html).text)
    assert "Not in this report: comparison with another model, robustness and cost. The notes say why." in text
    assert "Whether speakers and clips were in training, too, is not known: the clips that it was trained on" in text
    assert "those by clips are too narrow for new speakers" in text
    assert "What is missing: no clip's gender is known." in text
    assert "95 % interval by clips: 51.0 to 62.0 %" in text
    assert text.count("Not in this report; the notes say why.") == 6
    assert "None" not in text.replace("None by speaker", "")
    assert "nan" not in text


@pytest.mark.parametrize(
    "part", ["model", "made", "notes", "clips", "quality", "comparison", "fairness", "robustness", "cost", "leakage"]
)
@pytest.mark.parametrize("gone", [True, False])
def test_each_part_may_be_missing(report: dict[str, Any], pictures: dict[str, Path], part: str, gone: bool) -> None:
    if gone:
        del report[part]
    else:
        report[part] = None
    Reader(page(report, pictures))
    assert all(len(line) <= 100 for line in summary(report).splitlines())


@pytest.mark.parametrize("part", ["clips", "quality", "comparison", "fairness", "robustness", "cost", "leakage"])
def test_each_part_of_a_part_may_be_none(report: dict[str, Any], pictures: dict[str, Path], part: str) -> None:
    whole = report[part]
    for name in whole:
        report[part] = {**whole, name: None}
        Reader(page(report, pictures))
        summary(report)


def test_of_nothing_at_all() -> None:
    assert "No figure" in Reader(page({}, {})).text
    assert "Not in this report: quality" in summary({})


def test_labels_that_may_be_other_words_for_the_emotions(report: dict[str, Any]) -> None:
    def told() -> list[str]:
        return [warning.text for warning in warnings(report) if "--label_map" in warning.text]

    report["clips"] |= {"emotions": {"neutral": 3}, "left_out": {"happy": 4}}
    report["model"]["emotions"] = ["fröhlich", "neutral", "wütend"]
    assert told()[0].startswith(
        "No clip is fröhlich or wütend. If these are other words for the emotions that are left out"
    )
    report["clips"]["left_out"] = {}
    assert told() == []


def test_what_is_warned_of(report: dict[str, Any]) -> None:
    def texts() -> list[str]:
        return [warning.text for warning in warnings(report) if warning.alarm]

    assert len(texts()) == 2
    report["leakage"] = {"speakers": [], "duplicates": [], "reason": None}
    assert texts() == []
    assert not any("training" in warning.text for warning in warnings(report))
    report["leakage"]["speakers"] = [f"speaker_{n}" for n in range(9)]
    assert "9 speakers of these clips were in training, too (speaker_0, speaker_1, " in texts()[0]
    assert "and 4 more)" in texts()[0]
    report["leakage"]["speakers"] = None
    report["clips"]["split"] = "random"
    assert texts() == [
        "The split is random: speakers may be in training and test. The figures say nothing about new ones."
    ]


def test_the_console_has_a_hundred_columns_and_plain_text(report: dict[str, Any]) -> None:
    report["quality"]["corpora"]["a corpus of a very long name\n\x1b[31m" + 80 * "x"] = report["quality"]["overall"]
    report["model"]["name"] = "m" * 300
    text = summary(report)
    lines = text.splitlines()
    assert max(len(line) for line in lines[1:]) <= 100
    assert "\x1b" not in text
    assert "! Leakage: 1 speaker of these clips was in training, too (ravdess_03)." in text
    uar = report["quality"]["overall"]["uar"]
    row = next(line for line in lines if line.startswith("UAR ") and "to" in line)
    assert row.split()[1:3] == [f"{100 * uar:.1f}", "%"]
    for name in ("This model and", "By corpus", "By gender", "UAR by condition", "Latency", "Notes", "a corpus of a"):
        assert any(line.startswith(name) for line in lines)
    assert "<" not in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs a Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=BROWSER)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, report: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the report in a browser; fails if anything was asked for but the page and what is inside it."""
    (tmp_path / "report.html").write_text(page(report, draw(report, tmp_path / "pictures")), encoding="utf-8")
    asked: list[str] = []
    said: list[str] = []
    tabs = []

    def open_(**settings: Any) -> Any:
        tab = browser.new_page(**settings)
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.goto((tmp_path / "report.html").as_uri())
        tabs.append(tab)
        return tab

    yield open_
    for tab in tabs:
        tab.close()
    assert {url for url in asked if not url.startswith("data:")} == {(tmp_path / "report.html").as_uri()}
    assert said == []


def column(tab: Any, caption: str, number: int) -> list[str]:
    rows = tab.locator("table", has=tab.locator("caption", has_text=re.compile(f"^{caption}$"))).locator("tbody tr")
    return [row.locator("th, td").nth(number).inner_text() for row in rows.all()]


def test_tables_are_sorted_by_a_click_and_by_the_keyboard(opened: Callable[..., Any], report: dict[str, Any]) -> None:
    tab = opened()
    table = tab.locator("table", has=tab.locator("caption", has_text="UAR by condition"))
    names = [entry["name"] for entry in report["robustness"]["conditions"]]
    by_uar = [entry["name"] for entry in sorted(report["robustness"]["conditions"], key=lambda entry: -entry["uar"])]
    assert column(tab, "UAR by condition", 0) == names
    button = table.get_by_role("button", name="UAR")
    button.click()
    assert column(tab, "UAR by condition", 0) == by_uar
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    button.press("Enter")
    assert column(tab, "UAR by condition", 0) == by_uar[::-1]
    table.get_by_role("button", name="condition").click()
    assert column(tab, "UAR by condition", 0) == names  # as they are measured, 5 dB before 20
    assert table.locator("th[aria-sort]").count() == 1


def test_what_is_not_known_is_sorted_last(opened: Callable[..., Any]) -> None:
    tab = opened()
    caption = "Reliability: how sure the model is, and how often it is right then"
    button = tab.locator("table", has=tab.locator("caption", has_text=caption)).get_by_role("button", name="right")
    for _ in range(2):
        button.click()
        assert column(tab, caption, 1)[-1] == "–"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_the_screen_and_can_be_read(opened: Callable[..., Any], width: int, scheme: str) -> None:
    tab = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 100)")
    # WCAG's contrast of text and ground, of what stands in the page and in its warnings.
    contrast = """selector => {
        const part = document.querySelector(selector), style = getComputedStyle(part);
        const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
            .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
            .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
        let ground = part;
        while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
        const [a, b] = [light(style.color), light(getComputedStyle(ground).backgroundColor)];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }"""
    for selector in ("p", ".quiet", ".alarm", ".caution", "nav a", "thead th", "td", "figcaption", ".tiles small"):
        assert tab.evaluate(contrast, selector) >= 4.5, selector


def test_on_paper_nothing_is_cut_off(opened: Callable[..., Any]) -> None:
    tab = opened(viewport={"width": 720, "height": 1000})
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("[...document.querySelectorAll('details')].every(part => part.open)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 720
