"""What a model cannot do, as far as it follows from its corpora, split and size."""

from collections.abc import Sequence

from hf_ser.corpora import About
from hf_ser.hub.card.corpora import abouts
from hf_ser.hub.card.report import Report, has_fairness, kinds_of_conditions
from hf_ser.hub.card.split import speakers
from hf_ser.hub.card.words import Results, capital
from hf_ser.wording import counted, listed

#: The languages of the corpora.
LANGUAGES = {"en": "English"}


def all_acted(results: Results) -> bool:
    """Whether everything that it learned from is acted, as far as is known."""
    facts = abouts(results).values()
    return bool(facts) and all(each is not None and each.acted for each in facts)


def limitations(results: Results, report: Report | None = None) -> list[str]:
    """
    What holds for these corpora, this split and this size; each as a paragraph. What the run's `report` has measured is not
    said to be untested.
    """
    every = list(abouts(results).values())
    facts = [each for each in every if each]
    all_known = bool(facts) and len(facts) == len(every)
    people = [each for each in facts if each.labels != "computed"]
    found = []
    if len(people) < len(facts):
        found.append(
            f"**A made-up corpus.** What it learned from is{'' if not people and all_known else ', in part,'} babble that a "
            "computer made. Figures on that say that the code works, and nothing about people."
        )
    if people:
        found.append(_whose_labels(people))
    languages = {each.language for each in people}
    if all_known and len(people) == len(facts) and len(languages) == 1 and (language := languages.pop()) in LANGUAGES:
        texts = {each.text for each in people}
        kind = "" if "free" in texts else ", read sentences" if "read" in texts else ", fixed sentences"
        others = ", free speech and conversations" if kind else ""
        found.append(
            f"**{LANGUAGES[language]}{kind}.** It was fine-tuned on nothing else. Other languages{others} were not tested."
        )
    if varied := [each for each in people if each.text in ("read", "free")]:
        found.append(
            f"**Words.** In {listed(_names(varied))} the words are not the same in every emotion: part of what it learned may "
            "be words."
        )
    parts = results["split"]["parts"]
    train, test = parts.get("train", {}), parts.get("test", {})
    if learned := speakers(train):
        voices = counted(train["speakers"], "known voice" if train.get("clips_without_speaker") else "voice")
        text = f"**{capital(voices)}.** It learned from {learned}"
        text += f" and was tested on {speakers(test)}." if speakers(test) else "."
        genders = "" if report and has_fairness(report) else ", nor whether it serves women and men alike"
        found.append(f"{text} How it does for other ages, accents and ways of speaking was not measured{genders}.")
    if all_known and all(each.text != "free" for each in facts):
        untested = ["noise", "music", "several people at once", "telephones", "other microphones"]
        kinds = kinds_of_conditions(report) if report else set()
        if any("noise" in kind for kind in kinds):
            untested.remove("noise")
        if any("telephone" in kind for kind in kinds):
            untested.remove("telephones")
        others = capital(listed(untested))
    else:
        others = "Recordings other than those of its corpora"
    found.append(f"**The corpora's own recordings.** {others} were not tested.")
    found.append(
        f"**Always an answer.** It names one of its {len(results['emotions'])} emotions whatever it hears, silence too. The "
        "probabilities are those of a softmax; they were not calibrated."
    )
    return found


def _names(facts: Sequence[About]) -> list[str]:
    return [each.name.partition(" (")[0] for each in facts]


def _whose_labels(people: Sequence[About]) -> str:
    perceived_by = "say which emotion most of those perceived who listened or watched"
    asked = [each for each in people if each.labels == "asked for"]
    acted = [each for each in people if each.labels == "perceived" and each.acted]
    own = [each for each in people if each.labels == "perceived" and not each.acted]
    sentences = [f"**{'Acted' if asked or acted else 'Perceived'} emotions.**"]
    if asked:
        sentences.append(
            f"The speakers of {listed(_names(asked))} were asked to show an emotion, and the labels say which one was asked for."
        )
    if acted:
        sentences.append(f"The speakers of {listed(_names(acted))} acted; the labels {perceived_by}.")
    if own:
        sentences.append(f"The labels of {listed(_names(own))} {perceived_by}.")
    return " ".join([*sentences, "Whether the model tells what somebody feels was not tested."])
