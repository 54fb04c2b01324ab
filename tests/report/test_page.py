"""The page and the console's summary: nothing is lost, nothing is let in, nothing leaves; and they render with little."""

import base64
import re
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hf_ser.rendering import cautions, console, markdown, page
from hf_ser.rendering.blocks import Table, count, label, percent
from hf_ser.rendering.tables import CAPTIONS
from hf_ser.wording import per_cent

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """Pictures in little more than name."""
    for name in CAPTIONS:
        (tmp_path / f"{name}.png").write_bytes(PNG + name.encode())
    return {name: tmp_path / f"{name}.png" for name in CAPTIONS}


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


def share(value: float) -> str:
    return f"{per_cent(value):.1f} %"


def between(edges: list[float]) -> str:
    return "{:.1f} to {:.1f} %".format(*map(per_cent, edges))


def test_what_is_in_which_table(report: dict[str, Any]) -> None:
    reader = Reader(page(report, {}))
    tables, quality = reader.tables, report["quality"]
    overall, intervals = quality["overall"], quality["intervals"]
    (loss,) = [row for row in tables["All 239 clips"] if row[0] == "log loss, nats"]
    edges = (intervals[unit]["log_loss"] for unit in ("clips", "speakers"))
    assert loss[1:] == [f"{overall['log_loss']:.3f}", *("{:.3f} to {:.3f}".format(*pair) for pair in edges)]
    for caption, group in (("corpus", "corpora"), ("gender", "genders"), ("speaker", "speakers")):
        groups = quality[group]
        for key, name in (("recall", "Recall"), ("eer_by_emotion", "EER")):
            expected = [[who, *map(share, metrics[key].values())] for who, metrics in groups.items()]
            assert tables[f"{name} by {caption} and emotion"] == expected
        assert tables[f"By {caption}"] == [
            [who, str(metrics["clips"]), share(metrics["uar"]), between(metrics["intervals"]["uar"])]
            + [share(metrics[key]) for key in ("accuracy", "f1_weighted", "f1_macro", "eer", "ece")]
            + [f"{metrics['log_loss']:.3f}"]
            for who, metrics in groups.items()
        ]
    for caption, metrics in (("Clips", overall), ("ravdess: clips", quality["corpora"]["ravdess"])):
        rows = [row[1:] for row in tables[f"{caption} by true and predicted emotion"]]
        assert rows == [list(map(str, row)) for row in metrics["confusion_matrix"]]
    matrix = overall["confusion_matrix"]
    assert tables["By emotion"][1] == [
        "calm", "32", share(overall["recall"]["calm"]), between(quality["recall_intervals"]["calm"]),
        share(matrix[1][1] / sum(row[1] for row in matrix)), share(overall["eer_by_emotion"]["calm"]),
        between(quality["eer_by_emotion_intervals"]["calm"]),
    ]  # fmt: skip
    p = "McNemar's exact test, p: 0.7744"
    assert tables[f"This model and probe, by clips; {p}"][0][:5] == [
        "UAR",
        "58.8 %",
        "58.1 %",
        "+0.8",
        "-1.9 to +3.2",
    ]
    assert tables[f"This model and probe, by speakers; {p}"][-1][4:] == ["–", "–"]
    assert [row[1:] for row in tables["Clips that the models predict correctly"]] == [["133", "7"], ["5", "94"]]
    assert tables["Fairness between the genders"][0] == ["demographic parity", "33.0 %", "13.2 %", "19.8 %"]
    assert tables["Genders by emotion"][0][1:5] == ["16", "16", "10.8 %", "22.7 %"]
    assert tables["UAR by condition"][5][::3] == ["white noise, 0 dB SNR", "-22.1"]
    assert tables["Clips that were in training, too"] == [["ravdess/a", "crema_d/b", "0.9871", "nearly the same"]]
    assert tables["Latency: one clip, from its waveform to its probabilities"][1] == ["3 s", "57.9 ms", "62.6 ms", "20"]
    for words in ("hap=happy", report["made"]["command"], "transformers 5.23.0", *report["notes"], "8,848,149",
                  "true positive rate, female", "matrix products and convolutions", "resident memory"):  # fmt: skip
        assert words in reader.text


def test_groups_of_many_speakers_have_an_interval_by_speakers(report: dict[str, Any]) -> None:
    report["quality"]["corpora"]["ravdess"]["intervals_by_speaker"] = {"uar": [0.38, 0.66]}
    tables = Reader(page(report, {})).tables
    assert tables["By corpus"][0][4] == "38.0 to 66.0 %"
    assert len(tables["By gender"][0]) == len(tables["By corpus"][0]) - 1


def test_a_group_without_emotions(report: dict[str, Any]) -> None:
    """Of a model of emotions and dimensions: one corpus may have the ones, another the others."""
    speakers = report["quality"]["speakers"]
    first, *others = speakers
    speakers[first] = {key: speakers[first][key] for key in ("clips", "gender", "corpus")} | {"ccc": 0.512}
    tables = Reader(page(report, {})).tables
    assert [row[0] for row in tables["By speaker"]] == [first, *others]
    assert [row[0] for row in tables["Recall by speaker and emotion"]] == others


def test_groups_whose_clips_have_votes_alone(report: dict[str, Any]) -> None:
    report["quality"]["genders"] = {"female": {"clips": 3, "distribution": {"clips": 3, "kl": 0.1}}}
    assert "By gender" not in Reader(page(report, {})).tables
    assert "By gender" not in console(report)


def test_a_condition_without_a_prediction(report: dict[str, Any]) -> None:
    report["robustness"]["conditions"][1] |= {"clips": 0, "uar": None, "interval": None, "difference": None}
    reader = Reader(page(report, {}))
    assert reader.tables["UAR by condition"][1] == ["white noise, 30 dB SNR", "0", "–", "–", "–"]
    assert "under the worst of 32 conditions" in console(report)


def test_the_summary_is_on_top_with_the_interval_and_alarms(report: dict[str, Any]) -> None:
    html = page(report, {})
    top = html[html.index('id="summary"') : html.index("<nav")]
    edges = report["quality"]["intervals"]["speakers"]["uar"]
    assert "<strong>58.8 %</strong>" in top
    assert f"95 % interval by speakers: {between(edges)}; chance 12.5 %" in top
    assert top.count('class="alarm"') == 2
    for name in ("What it can do", "For whom", "Under what conditions", "At what cost"):
        assert f"<dt>{name}</dt>" in top
    report["robustness"] |= {"clips": 20}
    assert "On 20 of 239 clips: UAR" in page(report, {})


def test_text_is_escaped(report: dict[str, Any], pictures: dict[str, Path]) -> None:
    evil = '<script>alert("1")</script>'
    quality, clips = report["quality"], report["clips"]
    quality["corpora"] = {evil: quality["corpora"]["ravdess"]}
    quality["speakers"] = {evil: next(iter(quality["speakers"].values()))}
    clips |= {"corpora": {evil: 320}, "excluded": {evil: 1}}
    report["model"] |= {"name": evil, "base_model": evil}
    report["comparison"]["other"] = evil
    report["notes"] = report["leakage"]["speakers"] = [evil]
    report["leakage"]["duplicates"][0]["clip"] = '" onmouseover="alert(1)'
    report["robustness"]["conditions"][1]["name"] = evil
    report["cost"]["device"]["name"] = report["made"]["command"] = "</title>" + evil
    html = page(report, pictures)
    assert evil not in html
    assert html.count("<script") == 1
    reader = Reader(html)
    assert reader.text.count(evil) > 12
    assert {name for _, attributes in reader.tags for name in attributes if name.startswith("on")} == set()


def test_nothing_is_loaded_from_the_network(report: dict[str, Any], pictures: dict[str, Path]) -> None:
    html = page(report, pictures)
    reader = Reader(html)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttp", re.sub(r"base64,[^\"]*", "", html))
    for tag, attributes in reader.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), f"<{tag}> leaves the page"
    (policy,) = [meta["content"] for meta in reader.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_pictures_are_inside_and_described(report: dict[str, Any], pictures: dict[str, Path]) -> None:
    images = Reader(page(report, pictures)).all("img")
    inside = {base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) for image in images}
    assert inside == {path.read_bytes() for path in pictures.values()}
    assert all(len(image["alt"] or "") > 40 for image in images)
    assert Reader(page(report, {})).all("img") == []


def test_tables_and_headings_for_screen_readers(report: dict[str, Any]) -> None:
    html = page(report, {})
    reader = Reader(html)
    assert len(reader.all("caption")) == len(reader.all("table")) > 15
    assert {cell.get("scope") for cell in reader.all("th")} == {"col", "row"}
    anchors = {heading["id"] for heading in reader.all("h2")} - {"summary-title"}
    assert len(anchors) == 10
    for anchor in anchors:
        assert html.count(f'href="#{anchor}"') == 2
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert reader.all("html") == [{"lang": "en"}]


def test_a_reduced_report(reduced: dict[str, Any]) -> None:
    text = unescape(Reader(page(reduced, {})).text)
    assert "Not in this report: comparison with another model, robustness, cost and leakage. The notes say why." in text
    assert "Unknown: whether these speakers and clips were in training, too." in text
    assert "Intervals by clips are too narrow for new speakers." in text
    assert "Missing: no clip's gender is known." in text
    assert text.count("Not in this report; the notes say why.") == 7
    assert not re.search(r"\b(None|nan)\b", text)
    assert all(len(line) <= 100 for line in console(reduced).splitlines())


def test_cautions(report: dict[str, Any]) -> None:
    def alarms() -> list[str]:
        return [caution.text for caution in cautions(report) if caution.alarm]

    assert alarms()[0].startswith("Leakage: 1 speaker of these clips was in training, too.")
    assert alarms()[1].startswith("Leakage: 1 clip was in training, too, or nearly the same.")
    report["leakage"] = {"speakers": [], "duplicates": [], "reason": None}
    assert alarms() == []
    assert not any("training" in caution.text for caution in cautions(report))
    report["clips"]["split"] = "random"
    assert alarms() == [
        "The split is random: training and test may share speakers. The metrics say nothing about new ones."
    ]
    report["leakage"] = {"speakers": None, "duplicates": None, "reason": "the clips are not known"}
    texts = " ".join(caution.text for caution in cautions(report))
    assert "Unknown: whether these speakers and clips were in training, too: the clips are not known." in texts
    assert "label_map" not in texts
    report["model"]["emotions"] = ["fröhlich", "neutral", "wütend"]
    assert any(
        "No clip is fröhlich or wütend. If these are other words" in caution.text for caution in cautions(report)
    )


def test_the_console_has_a_hundred_columns_and_plain_text(report: dict[str, Any]) -> None:
    report["quality"]["corpora"]["a corpus of a very long name\n\x1b[31m" + 80 * "x"] = report["quality"]["overall"]
    report["model"]["name"] = "m" * 300
    lines = console(report).splitlines()
    assert max(map(len, lines)) <= 100
    assert not any("\x1b" in line or "<" in line for line in lines)
    assert any(line.startswith("! Leakage: 1 speaker of these clips was in training, too.") for line in lines)
    row = next(line for line in lines if line.startswith("UAR ") and "to" in line)
    assert row.split()[1:3] == ["58.8", "%"]
    for name in ("This model and", "By corpus", "By gender", "UAR by condition", "Latency", "Notes", "a corpus of a"):
        assert any(line.startswith(name) for line in lines)


def test_a_table_in_markdown() -> None:
    rows = [
        [label("x\ny"), count(1000), percent(None), percent(0.5)],
        [label("z"), count(2), percent(None), percent(None)],
    ]
    assert markdown(Table("", ["a|b", "clips", "empty", "UAR"], rows)).splitlines() == [
        "| a\\|b | clips | UAR |", "| --- | ---: | ---: |", "| x y | 1,000 | 50.0 % |", "| z | 2 | – |",
    ]  # fmt: skip


@pytest.fixture
def opened(
    browser: Any, report: dict[str, Any], drawn: dict[str, Path], tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    """Opens the report in a browser; fails if anything was asked for but the page and what is inside it."""
    (tmp_path / "report.html").write_text(page(report, drawn), encoding="utf-8")
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
    uars = sorted(
        (share(entry["uar"]) for entry in report["robustness"]["conditions"]), key=lambda text: float(text[:-2])
    )
    assert column(tab, "UAR by condition", 0) == names
    button = table.get_by_role("button", name="UAR")
    button.click()
    assert column(tab, "UAR by condition", 1) == uars[::-1]
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    button.press("Enter")
    assert column(tab, "UAR by condition", 1) == uars
    table.get_by_role("button", name="condition").click()
    assert column(tab, "UAR by condition", 0) == names  # as they are measured, 5 dB before 20
    assert table.locator("th[aria-sort]").count() == 1


def test_what_is_not_known_is_sorted_last(opened: Callable[..., Any]) -> None:
    tab = opened()
    caption = "Reliability: accuracy by the probability of the predicted emotion"
    button = tab.locator("table", has=tab.locator("caption", has_text=caption)).get_by_role("button", name="accuracy")
    for _ in range(2):
        button.click()
        assert column(tab, caption, 1)[-1] == "–"


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
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
    for selector in ("p", ".quiet", ".alarm", ".caution", "nav a", "thead th", "td", "figcaption"):
        assert tab.evaluate(contrast, selector) >= 4.5, selector


def test_on_paper_nothing_is_cut_off(opened: Callable[..., Any]) -> None:
    tab = opened(viewport={"width": 720, "height": 1000})
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("[...document.querySelectorAll('details')].every(part => part.open)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 720
