"""What a model learned from: its corpora, their labels, and the clips that were left out."""

from collections.abc import Mapping

from hf_ser.corpora import ABOUT, About
from hf_ser.hub.card.words import Results, capital, table
from hf_ser.wording import listed


def about(corpus: str, entry: Results | None) -> About | None:
    """
    The facts about a corpus, where it was read by its own reader: a data set or a manifest that is called as one of the known
    corpora is another. `entry` is what `results.json` has of it; older ones do not name the reader.
    """
    entry = entry or {}
    return ABOUT.get(entry.get("read_as") or ("dataset" if entry.get("hub_dataset") else corpus))


def abouts(results: Results) -> dict[str, About | None]:
    """The facts about each corpus, `None` where they are not known."""
    return {corpus: about(corpus, entry) for corpus, entry in (results.get("corpora") or {}).items()}


def corpus_name(corpus: str, entry: Results | None) -> str:
    """A corpus as people call it: `RAVDESS` for `ravdess`; one that is not known keeps its name."""
    facts = about(corpus, entry)
    return facts.name.partition(" (")[0] if facts else corpus


def corpus_link(corpus: str, entry: Results) -> str:
    """Its name, linked to where it is to be had."""
    if dataset := entry.get("hub_dataset"):
        return f"[{dataset}](https://huggingface.co/datasets/{dataset})"
    facts = about(corpus, entry)
    name = corpus_name(corpus, entry)
    return f"[{name}]({facts.homepage})" if facts and facts.homepage else name


def corpora_table(results: Results) -> str:
    """Each corpus with what was used of it, and its licence."""
    rows = [
        [
            corpus_link(corpus, entry),
            _licence(corpus, entry),
            entry.get("clips"),
            _known_speakers(entry),
            _hours(entry.get("hours")),
        ]
        for corpus, entry in (results.get("corpora") or {}).items()
    ]
    return table(["Corpus", "Licence", "Clips used", "Speakers", "Hours"], rows, left=(0, 1))


def _hours(hours: float | None) -> str:
    return "" if hours is None else f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def _known_speakers(entry: Results) -> str:
    number = entry.get("speakers")
    return f"{number:,}{' known' if entry.get('clips_without_speaker') else ''}" if number else ""


def _licence(corpus: str, entry: Results) -> str:
    if entry.get("hub_dataset"):
        return "see its page"
    facts = about(corpus, entry)
    return facts.licence if facts else "not known to hf_ser"


def corpora_list(results: Results) -> str:
    """What is said in each known corpus, and by whom."""
    return "\n".join(
        f"- **{facts.name.partition(' (')[0]}**: {facts.speech}. {capital(facts.speakers)}."
        for facts in abouts(results).values()
        if facts
    )


def labels_note(results: Results) -> str:
    """Emotions that were merged, and those that were left out."""
    sentences = []
    if merged := results.get("merged_emotions"):
        pairs = [f"*{source}* counts as *{target}*" for source, target in sorted(merged.items())]
        sentences.append(f"{capital(listed(pairs))}.")
    if left := {emotion: count for emotion, count in (results.get("left_out") or {}).items() if count}:
        clips = [f"{count:,} of *{emotion}*" for emotion, count in sorted(left.items())]
        sentences.append(f"Clips of other emotions were left out: {listed(clips)}.")
    return " ".join(sentences)


def set_aside_note(results: Results) -> str:
    """Clips that could not be used, and why."""
    reasons = results.get("set_aside")
    if not isinstance(reasons, Mapping):
        return ""
    parts = []
    for corpus, counts in reasons.items():
        told = [f"{count:,} {reason}" for reason, count in counts.items() if count]
        if told:
            parts.append(f"{listed(told)} in {_name_of(results, corpus)}")
    return f"Clips that were set aside before the split: {'; '.join(parts)}." if parts else ""


def left_out_note(results: Results) -> str:
    """Clips that no part of the split has."""
    left = [
        f"{count:,} of {_name_of(results, corpus)}"
        for corpus, count in (results.get("left_out_by_split") or {}).items()
    ]
    return f"Clips that are in no part of the split: {listed(left)}." if left else ""


def _name_of(results: Results, corpus: str) -> str:
    return corpus_name(corpus, (results.get("corpora") or {}).get(corpus))
