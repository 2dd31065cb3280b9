"""Read the stories that a person has: JSONL, JSON, CSV, a folder of texts, or one text with many stories.

Each story comes with the line where it begins, and with what its source says of it. Nothing is mended here: `import_`
does that.

>>> rows = read_rows([{"title": "A Lost Kitten", "text": "Mia had a kitten."}, "A dog ran."])
>>> [(row.line, row.topic, row.text) for row in rows.stories]
[(1, 'A Lost Kitten', 'Mia had a kitten.'), (2, None, 'A dog ran.')]
"""

import csv
import io
import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatsby_mlx import files
from gatsby_mlx.errors import CorpusError, UsageError

# What a field may be called, the likelier name first. The names of a file are compared in lower case.
FIELDS = {
    "text": ("story", "text", "content", "body", "completion", "output"),
    "topic": ("topic", "title", "subject", "about", "theme", "prompt"),
    "level": ("level", "dial", "strength"),
    "name": ("name", "hero", "character", "protagonist"),
    "writer": ("writer", "author", "model"),
    "split": ("split",),
}
DATA, TEXTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv"), (".txt", ".md", ".markdown", ".text")
SPLITS = {"train": "train", "training": "train", "test": "test"} | dict.fromkeys(
    ("validation", "valid", "val", "dev", "eval"), "validation"
)
HINT = "Stories come as .jsonl, .csv, .txt or .md, or as a folder of those: see gatsby corpus import --help"
TITLE_MAX = 60  # characters of a line without a full stop that is a title and not a story
_CONTROL = re.compile(r"^\[([A-Za-z][\w-]*) ?= ?([^\]\n]*)\](.*)$", re.MULTILINE)
_TOPIC_LINE = re.compile(r"\s*(topic|about|title|subject)[ \t]*[:=][ \t]*([^\n]*)(?:\n|\Z)", re.IGNORECASE)
_RULE = re.compile(
    r"^[ \t]*(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|={3,}|_{3,}|(?:#[ \t]*){3,}|~{3,})[ \t]*$", re.MULTILINE
)
_HEADING = re.compile(r"^#{1,6}[ \t]+(\S[^\n]*)$", re.MULTILINE)
_BLANK, _BLANKS = re.compile(r"\n[ \t]*\n\s*"), re.compile(r"\n[ \t]*\n[ \t]*\n\s*")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
DOUBLE_SHARE = 0.05  # of all runs of blank lines: where more are of two lines or more, those end the stories


@dataclass(frozen=True)
class Raw:
    """One story as its source has it. `where` is its file within the source ("" for a single one), `line` its line.

    `control` is the word of a control line, where the source has control lines, and `tag` its tag.
    """

    where: str
    line: int
    text: str
    topic: str | None = None
    level: Any = None
    name: str | None = None
    writer: str | None = None
    split: str | None = None
    tag: str | None = None
    control: str | None = None


@dataclass
class Source:
    """What was read: the stories, what could not be read as (where, line, reason), and `how` stories were told apart.

    `folded` counts what every text may have and no story misses: byte order marks and line ends of other systems.
    """

    stories: list[Raw] = field(default_factory=list)
    unread: list[tuple[str, int, str, str]] = field(default_factory=list)  # where, line, reason, text
    how: str = ""
    folded: dict[str, int] = field(default_factory=dict)

    def note(self, what: str, n: int) -> None:
        if n:
            self.folded[what] = self.folded.get(what, 0) + n


def parse_fields(given: str) -> dict[str, str]:
    """Return the fields that `topic=title,text=story` names; an empty name ("level=") means that no field is it.

    >>> parse_fields("topic=title, text=story")
    {'topic': 'title', 'text': 'story'}
    """
    fields = {}
    for part in filter(str.strip, given.split(",")):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or name not in FIELDS:
            message = f"Fields are given as NAME=FIELD, with a name of {', '.join(FIELDS)}, not {part.strip()!r}"
            raise UsageError(message, "Try --fields topic=title,text=story")
        fields[name] = value
    return fields


def read(path: Path, fields: Mapping[str, str] | None = None) -> Source:
    """Return the stories of a file or of a folder.

    `fields` says which field of JSON or which column of CSV is what (see `FIELDS`); those that it does not name are
    guessed. Raises CorpusError for what cannot be read at all, UsageError for a field that no story has.
    """
    source = Source()
    if not path.exists():
        raise CorpusError(f"There is nothing at {path}", HINT)
    if path.is_dir():
        _read_folder(path, fields or {}, source)
    elif path.suffix.lower() in DATA:
        _read_data(path, "", None, fields or {}, source)
    else:
        _read_text(decode(path, source), "", source, whole=False)
    if not source.stories and not source.unread:
        raise CorpusError(f"{path} has no story", HINT)
    return source


def read_rows(rows: Iterable[str | Mapping[str, Any]], fields: Mapping[str, str] | None = None) -> Source:
    """Return the stories of a list: texts, or mappings with fields as JSONL has them."""
    source = Source(how="one story each")
    _take_rows([(number, row) for number, row in enumerate(rows, 1)], "", None, fields or {}, source, "the list")
    return source


def decode(path: Path, source: Source | None = None) -> str:
    """Return the text of a file, with plain line ends and without a byte order mark; note both in `source`.

    Raises CorpusError for a file that is not text in UTF-8 or, with its byte order mark, in UTF-16.
    """
    source = source or Source()
    files.refuse_pointer(path, CorpusError)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror}", HINT) from None
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        hint = f"Save it as UTF-8, or try: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8.txt"
        raise CorpusError(f"{path} is not text in UTF-8 (byte {error.start})", hint) from None
    if "\0" in text:
        raise CorpusError(f"{path} is not text: it has a NUL character", HINT)
    source.note("byte order mark removed", int(data[:3] == b"\xef\xbb\xbf" or encoding == "utf-16"))
    source.note("line ends of another system", len(_LINE_ENDS.findall(text)))
    return _LINE_ENDS.sub("\n", text)


def _read_folder(path: Path, fields: Mapping[str, str], source: Source) -> None:
    found = sorted(
        (p for p in path.rglob("*") if p.is_file() and not any(q.startswith(".") for q in p.relative_to(path).parts)),
        key=lambda p: _natural(p.relative_to(path).as_posix()),
    )
    if raw := [p for p in found if p == path / "raw.txt"]:
        _read_text(decode(raw[0], source), "", source, whole=False)
        return
    data = [p for p in found if p.suffix.lower() in DATA and p.name not in ("manifest.json", "source.json")]
    texts = [p for p in found if p.suffix.lower() in TEXTS and not p.stem.upper().startswith(("README", "LICENSE"))]
    if not data and not texts:
        raise CorpusError(f"{path} has no .txt, .md, .jsonl or .csv file", HINT)
    if data:
        # A repository may have its versions side by side (v1, v2, v3): the last folder is the newest.
        newest = max((p.parent for p in data), key=lambda p: _natural(p.relative_to(path).as_posix()))
        data = [p for p in data if p.parent == newest]
        for one in data:
            _read_data(one, one.relative_to(path).as_posix(), _split_of(one), fields, source)
        if newest != path:
            source.how += f", from the folder {newest.relative_to(path).as_posix()}"
        return
    for one in texts:
        _read_text(decode(one, source), one.relative_to(path).as_posix(), source, whole=True)
    source.how = "one story a file"


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts v2 before v10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _split_of(path: Path) -> str | None:
    """Return the split that a file's name names: "train" for train-00000-of-00002.jsonl."""
    return SPLITS.get(re.split(r"[-_.\d]", path.stem.lower())[0])


def _read_data(path: Path, where: str, split: str | None, fields: Mapping[str, str], source: Source) -> None:
    text, kind = decode(path, source), path.suffix.lower()
    rows: list[tuple[int, Any]] = []
    if kind in (".csv", ".tsv"):
        rows = _csv_rows(text, "\t" if kind == ".tsv" else None)
    elif kind == ".json":
        try:
            content = json.loads(text)
        except ValueError as error:
            raise CorpusError(f"{path} is not JSON: {error}", "One object a line is .jsonl: rename it") from None
        content = (
            next((v for v in content.values() if isinstance(v, list)), content)
            if isinstance(content, dict)
            else content
        )
        if not isinstance(content, list):
            raise CorpusError(f"{path} is not a list of stories", HINT)
        rows = list(enumerate(content, 1))
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    rows.append((number, json.loads(line)))
                except ValueError as error:
                    source.unread.append((where, number, f"not JSON ({getattr(error, 'msg', error)})", line))
    source.how = (
        "one story a row" if kind in (".csv", ".tsv") else "one story each" if kind == ".json" else "one story a line"
    )
    _take_rows(rows, where, split, fields, source, str(path))


def _csv_rows(text: str, delimiter: str | None) -> list[tuple[int, Any]]:
    csv.field_size_limit(2**31 - 1)
    if delimiter is None:
        head = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows, line = [], 2
    for row in reader:
        rows.append((line, {k: v for k, v in row.items() if k is not None}))
        line = reader.line_num + 1
    return rows


def _take_rows(
    rows: list[tuple[int, Any]], where: str, split: str | None, fields: Mapping[str, str], source: Source, named: str
) -> None:
    keys = list(
        dict.fromkeys(key for _, row in rows if isinstance(row, Mapping) for key in row if isinstance(key, str))
    )
    lower = {key.lower().strip(): key for key in reversed(keys)}
    chosen = {}
    for name, guesses in FIELDS.items():
        given = fields.get(name)
        if given and given not in keys:
            message = f"No story of {named} has the field {given!r}; its fields are {', '.join(keys) or 'none'}"
            raise UsageError(message, f"Name one of them: --fields {name}=FIELD")
        guessed = next((lower[guess] for guess in guesses if guess in lower), None)
        chosen[name] = given if given is not None else guessed
    if keys and not chosen["text"]:
        message = f"{named} has no field of text: its fields are {', '.join(keys[:12])}"
        raise UsageError(message, "Say which one is the story: --fields text=FIELD")
    for number, row in rows:
        if isinstance(row, str):
            source.stories.append(Raw(where, number, row, split=split))
            continue
        text = row.get(chosen["text"]) if isinstance(row, Mapping) else None
        if not isinstance(text, str):
            what = (
                f"no text in the field {chosen['text']!r}" if isinstance(row, Mapping) else "neither a text nor fields"
            )
            source.unread.append((where, number, what, json.dumps(row, ensure_ascii=False, default=str)))
            continue
        values = {
            k: row.get(key) if (key := chosen[k]) else None for k in ("topic", "level", "name", "writer", "split")
        }
        words = {k: str(v) for k, v in values.items() if k != "level" and v not in (None, "")}
        if "split" in words:
            words["split"] = SPLITS.get(words["split"].lower(), "train")
        elif split:
            words["split"] = split
        level = values["level"] if values["level"] not in (None, "") else None
        source.stories.append(Raw(where, number, text, level=level, **words))


def _read_text(text: str, where: str, source: Source, whole: bool) -> None:
    """Take the stories of one text; with `whole` it is one story, unless it has control lines."""
    if _CONTROL.search(text):
        source.how = "by their control lines"
        _read_documents(text, where, source)
        return
    if whole:
        source.stories.append(_titled(where, _line_at(text)(len(text) - len(text.lstrip())), text))
        return
    line_at = _line_at(text)
    separator, source.how = _separator(text)
    title: tuple[int, str] | None = None
    start = 0
    for match in [*separator.finditer(text), None]:
        end = match.start() if match else len(text)
        line, block = line_at(start + len(text[start:end]) - len(text[start:end].lstrip())), text[start:end].strip()
        if block:
            if title:
                source.stories.append(Raw(where, title[0], block, topic=title[1]))
                title = None
            elif "\n" not in block and _is_title(block) and match:
                title = line, block
            else:
                source.stories.append(_titled(where, line, block))
        if match and separator is _HEADING:
            title = line_at(match.start()), match[1].strip(" #*")
        start = match.end() if match else end


def _line_at(text: str) -> Callable[[int], int]:
    """Return a function from a position in `text` to the number of its line."""
    ends = [match.start() for match in re.finditer("\n", text)]
    return lambda position: bisect_left(ends, position) + 1


def _separator(text: str) -> tuple[re.Pattern[str], str]:
    """Return what ends a story in a text with several, and its name."""
    body = text.strip()
    if _RULE.search(body):
        return _RULE, "between rules"
    if len(_HEADING.findall(body)) > 1:
        return _HEADING, "under headings"
    runs = [run.count("\n") for run in re.findall(r"\n\s*\n", body)]
    if runs and sum(n > 2 for n in runs) >= DOUBLE_SHARE * len(runs):
        return _BLANKS, "between two or more blank lines"
    return _BLANK, "between blank lines"


def _is_title(line: str) -> bool:
    return (
        len(line) <= TITLE_MAX and line[:1].isupper() and not re.search(r"[.!?:;,\u2026\"'\u201d\u2019]$", line.strip())
    )


def _titled(where: str, line: int, block: str) -> Raw:
    """Return a story, whose first line may be its title."""
    lines = block.strip().split("\n")
    rest = "\n".join(lines[1:]).strip()
    first = lines[0].strip()
    heading = re.fullmatch(r"#{1,6}[ \t]+(\S.*)|\*\*([^*]+)\*\*", first)
    named = _TOPIC_LINE.fullmatch(first)
    if rest and (heading or named):
        topic = (heading[1] or heading[2]) if heading else named[2] if named else ""
        return Raw(where, line, rest, topic=topic.strip(" #*") or None)
    if rest and _is_title(first) and re.match(r"[\"'\u201c\u2018A-Z\u00c0-\u00de\u0410-\u042f]", rest):
        return Raw(where, line, rest, topic=first)
    return Raw(where, line, block)


def _read_documents(text: str, where: str, source: Source) -> None:
    """Take the documents of a damaged or foreign corpus file: a control line, a topic line and a story each."""
    controls, line_at = list(_CONTROL.finditer(text)), _line_at(text)
    if before := text[: controls[0].start()].strip():
        source.unread.append((where, 1, "text before the first control line", before))
    for match, end in zip(controls, [*(m.start() for m in controls[1:]), len(text)], strict=True):
        body = text[match.end() : end].lstrip("\n")
        topic = _TOPIC_LINE.match(body)
        story = body[topic.end() :] if topic else body
        word = re.search(r"obsession ?= ?([^\s\]]+)", match[3])
        voice = re.search(r"voice ?= ?(\S+)", match[3])
        source.stories.append(
            Raw(
                where,
                line_at(match.start()),
                story,
                topic=topic[2].strip() or None if topic else None,
                level=match[2].strip(),
                writer=voice[1] if voice else None,
                tag=match[1],
                control=word[1] if word else None,
            )
        )
