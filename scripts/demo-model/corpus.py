"""The text of the demo model: the King James Bible, cut into chapters and split.

Comes in: the output of Debian's `bible -f gen1:1-rev22:21` (packages bible-kjv
and bible-kjv-text 4.38), one verse a line, each with its reference in front.
Goes out: plain text of whole chapters, a title line and one verse a line,
chapters parted by an empty line.
"""

import hashlib
import re
from dataclasses import dataclass

# The digest of the text that the published model was trained on.
RAW_SHA256 = "cd45f0c9cedab8e4439bd6486c8952c77cc8b0ecc5d1f6ae3513f2039f47229d"

BOOKS = {
    "Ge": "Genesis", "Exo": "Exodus", "Lev": "Leviticus", "Num": "Numbers", "Deu": "Deuteronomy",
    "Josh": "Joshua", "Jdgs": "Judges", "Ruth": "Ruth", "1Sm": "1 Samuel", "2Sm": "2 Samuel",
    "1Ki": "1 Kings", "2Ki": "2 Kings", "1Chr": "1 Chronicles", "2Chr": "2 Chronicles",
    "Ezra": "Ezra", "Neh": "Nehemiah", "Est": "Esther", "Job": "Job", "Psa": "Psalm",
    "Prv": "Proverbs", "Eccl": "Ecclesiastes", "SSol": "Song of Solomon", "Isa": "Isaiah",
    "Jer": "Jeremiah", "Lam": "Lamentations", "Eze": "Ezekiel", "Dan": "Daniel", "Hos": "Hosea",
    "Joel": "Joel", "Amos": "Amos", "Obad": "Obadiah", "Jonah": "Jonah", "Mic": "Micah",
    "Nahum": "Nahum", "Hab": "Habakkuk", "Zep": "Zephaniah", "Hag": "Haggai", "Zec": "Zechariah",
    "Mal": "Malachi", "Mat": "Matthew", "Mark": "Mark", "Luke": "Luke", "John": "John",
    "Acts": "Acts", "Rom": "Romans", "1Cor": "1 Corinthians", "2Cor": "2 Corinthians",
    "Gal": "Galatians", "Eph": "Ephesians", "Phi": "Philippians", "Col": "Colossians",
    "1Th": "1 Thessalonians", "2Th": "2 Thessalonians", "1Tim": "1 Timothy", "2Tim": "2 Timothy",
    "Titus": "Titus", "Phmn": "Philemon", "Heb": "Hebrews", "Jas": "James", "1Pet": "1 Peter",
    "2Pet": "2 Peter", "1Jn": "1 John", "2Jn": "2 John", "3Jn": "3 John", "Jude": "Jude",
    "Rev": "Revelation",
}

CHAPTERS = 1189
VERSE = re.compile(r"^(\d?[A-Za-z]+)(\d+):(\d+) (.+)$")


@dataclass
class Chapter:
    title: str
    verses: list[str]

    def text(self) -> str:
        return "\n".join([self.title, *self.verses])


def parse(raw: str) -> list[Chapter]:
    """Cuts the raw text into its chapters; a line that is no verse is an error."""
    chapters: list[Chapter] = []
    for number, line in enumerate(raw.splitlines(), 1):
        match = VERSE.match(line)
        if not match:
            raise ValueError(f"line {number} is no verse: {line!r}")
        book, chapter, _, text = match.groups()
        title = f"{BOOKS[book]} {chapter}"
        if not chapters or chapters[-1].title != title:
            chapters.append(Chapter(title, []))
        chapters[-1].verses.append(" ".join(text.split()))
    if len(chapters) != CHAPTERS:
        raise ValueError(f"{len(chapters)} chapters, want {CHAPTERS}")
    return chapters


def read(path: str) -> list[Chapter]:
    with open(path, "rb") as file:
        raw = file.read()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != RAW_SHA256:
        print(f"note: {path} has SHA-256 {digest}, the published model was trained on {RAW_SHA256}")
    return parse(raw.decode("ascii"))


@dataclass
class Split:
    train: list[Chapter]
    validation: list[Chapter]  # chooses settings and the moment to stop
    evaluation: list[Chapter]  # embedded as the evaluation text; chooses nothing


def runs(chapter: Chapter, words: int = 8) -> list[str]:
    """Every run of that many consecutive words of the chapter."""
    text = " ".join(chapter.verses).split()
    return [" ".join(text[i : i + words]) for i in range(len(text) - words + 1)]


def split(chapters: list[Chapter]) -> Split:
    """Holds out every 20th chapter, in turn for evaluation and for validation.

    Some chapters of the Bible tell the same story in nearly the same words
    (2 Kings 18 and Isaiah 36). A held-out chapter of which more than a fifth of
    the eight-word runs also stand in the training text is dropped: it would
    measure memory.
    """
    held = [i for i in range(len(chapters)) if i % 20 == 10]
    train = [c for i, c in enumerate(chapters) if i % 20 != 10]
    known = {run for chapter in train for run in runs(chapter)}
    result = Split(train, [], [])
    for turn, i in enumerate(held):
        own = runs(chapters[i])
        shared = sum(run in known for run in own) / len(own)
        if shared > 0.2:
            print(f"held out and dropped: {chapters[i].title} ({shared:.0%} stands elsewhere)")
            continue
        (result.validation if turn % 2 else result.evaluation).append(chapters[i])
    return result


def join(chapters: list[Chapter]) -> str:
    return "\n\n".join(c.text() for c in chapters) + "\n"


def calibration(train: list[Chapter], size: int) -> list[Chapter]:
    """Training chapters spread evenly over the whole, about size bytes together."""
    total = sum(len(c.text()) + 2 for c in train)
    step = max(1, round(total / size))
    return train[step // 2 :: step]
