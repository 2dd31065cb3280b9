"""What models write around a story: titles, labels, turns of a chat, talk about the story, words to the user.

`has_chatter` is what the gate asks. `without_edges` takes such text off the beginning and the end of a draft, so that a
sound story is not lost for it.

>>> draft = "The Lost Hat\\n\\nA hat lay in the lane. Mia saw it.\\n\\nThe End.\\n\\nUser: thanks!"
>>> without_edges(draft, "the lost hat")
'A hat lay in the lane. Mia saw it.'
"""

import re
from functools import cache

from gatsby_mlx.story import text
from gatsby_mlx.story.obsession import Obsession

TITLE_WORDS = 9  # the most words of a title
_SMALL = frozenset("a an and as at but by for from in into of off on or over the to up with".split())
_ROLE = r"(?:user|assistant|system|model|human|ai|bot|chatgpt)"
_BEFORE_STORY = r"(?:assistant|model|ai|bot|response|output|answer|story|final(?:\ (?:answer|story|draft))?)"
_LABEL = rf"""(?:{_ROLE}|{_BEFORE_STORY}|title|topic|hero|name|level|theme|words?|notes?
    |(?:the\ )?moral(?:\ of\ \w+\ \w+)?|author|setting|summary|illustrations?|image|picture|characters?
    |plot|genre|lesson|prompt|instructions?|scene|draft
    |thinking|thoughts?|reasoning|analysis|narrator|readers?|questions?|reading\ level|age|end)"""
_THINGS = r"(?:this|the|my|your)\ (?:short\ |little\ |simple\ )?(?:story|tale|text)"
# Sentences about the story or to the user. In direct speech they may be part of a story, so quotations are left out.
_TALK = re.compile(
    rf"""
        \b{_THINGS}\ (?:follows|meets|uses|contains|includes|has|keeps|mentions|is\ (?:written|told|\d)|was\ written)
      | \b(?:mentioned|used|named|appears?)\b.*\bin\ (?:this|the)\ (?:short\ )?(?:story|tale|text)\b
      | \bas\ (?:you\ )?(?:requested|instructed|asked|required|specified)\b
      | \b(?:i|we)\ (?:need|want|have|was\ asked|am\ asked|am\ going|are\ going|will|should|must|can|would\ love)
        \ (?:to\ )?(?:write|create|craft|tell|make\ sure|come\ up|help)\b
      | \blet(?:'s|\ me|\ us)\ (?:write|start|begin|think|craft|create|know|try)\b
      | ^[^\w\n]*(?:please\ )?write\ (?:a|an|the|me|your)\b
      | \bwould\ you\ like\b | \bis\ there\ anything\b | \bfeel\ free\ to\b
      | \bhappy\ to\ (?:help|write|revise|adjust|make)\b
      | \bi\ hope\ (?:you|this|these|it|that)\b | \bdear\ (?:reader|child|children|friend)s?\b
      | \b(?:the|your|all)\ (?:instructions|prompt|guidelines|requirements|constraints)\b
      | \brules\ (?:you|that\ you)\ gave\b
      | \b(?:past|present|future)\ tense\b | \bword\ (?:count|limit)\b | ^[^\w\n]*(?:about\ )?\d+\ words[^\w\n]*$
      | \bas\ an\ ai\b | \blanguage\ model\b
      | ^[^\w\n]*(?:the\ end|fin|finis|end|(?:the\ )?end\ of\ (?:the\ |this\ |my\ )?(?:story|tale))[^\w\n]*$
      | ^[^\w\n]*(?:sure|certainly|absolutely|of\ course|okay|ok|thinking|thanks|thank\ you)[^\w\n]*$
      | ^[^\w\n]*(?:sure|certainly|of\ course|okay|ok)[,!.:]\W*(?:here|i|so\ i)\b
      | ^[^\w\n]*here\ (?:goes|we\ go|you\ go|it\ is|they\ are)\b[^.!?]*[:!.]?[^\w\n]*$ | ^[^\w\n]*here\ goes\b
      | \bhere(?:'s|\ is|\ are)\ (?:the|a|your|another|some|my)\ (?:\w+\ ){{0,3}}(?:story|tale|topics?)\b
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
# Anywhere, direct speech included: what is markup, a form of the corpus, or a part of the prompt.
_LEFTOVER = r"""
        ^LABEL\b(?:\ \w+){0,2}\ ?: | [.!?]["']?\ (?=(?-i:[A-Z]))LABEL\ ?: | ^ROLE\ ?$
      | ^chapter\ (?:\d+|[ivx]+|one|two|three)\b | ^\d+[.)]\s
      | \bassistantfinal\b | ^analysis(?-i:[A-Z])
      | \b(?:obsession|{tag})\s*= | \btopic: | \blevel\ [1-5]\b
      | \b(?:word\ count|\d+\ words)\b
      | <[a-z/|][^>]{0,30}> | \|\w+\|> | https?:// | [{}|\\~#^]
      | ^[-+]\ .*[.!?]["']?\ [-+]\ (?-i:[A-Z"])
      | \b(?:{phrase})\ \(\w+
      | \bno\ (?:title|list|notes)\b
      | \b(?:say|mention|repeat|write)(?:s|ed|ing)?\ the\ words?\ "?{phrase}
      | \b(?:sa(?:y|ys|id|ying)|mention(?:s|ed|ing)?|repeat(?:s|ed|ing)?|wr(?:ite|ites|ote|iting))\b[^.!?]{0,20}
        {phrase}"?,?\ (?:\w+|twenty-\w+)\ times\b
""".replace("LABEL", _LABEL).replace("ROLE", _ROLE)
_LABEL_LINE = re.compile(rf"\W*{_LABEL}\b(?:\ \w+){{0,2}}\W{{0,2}}:", re.IGNORECASE | re.VERBOSE)
_ROLE_LINE = re.compile(rf"\W*{_ROLE}\W{{0,3}}(?::|$)", re.IGNORECASE | re.VERBOSE)
_BEFORE = re.compile(rf"\A\W{{0,4}}{_BEFORE_STORY}\W{{0,2}}:\W*?(?=[\w\"'])", re.IGNORECASE | re.VERBOSE)
_NUMBER = re.compile(r"\A\s*\d{1,3}[.)]\s+")
_CHAPTER = re.compile(r"\W*(?:chapter|part)\W+\w+\W*", re.IGNORECASE)
_SPECIAL = re.compile(r"<\|?/?[A-Za-z_|][A-Za-z0-9_|]{0,30}\|?>")
_QUOTED = re.compile(r'"[^"\n]*"')
# Three capitalized words in a row are a title that has run into the text.
_RUN_IN = re.compile(r"\b(?:[A-Z][a-z]+ ){2}[A-Z][a-z]+\b")


@cache
def _leftover(obsession: Obsession) -> re.Pattern[str]:
    pattern = _LEFTOVER.replace("{tag}", obsession.tag).replace("{phrase}", re.escape(obsession.phrase))
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE | re.VERBOSE)


def has_chatter(story: str, obsession: Obsession) -> bool:
    """Return whether a cleaned `story` has text in it that is no part of a story.

    A sentence may speak of a story or to a reader inside quotation marks only.
    """
    if _leftover(obsession).search(story) or _RUN_IN.search(story):
        return True
    paragraphs = story.split("\n\n")
    if any(_is_title(paragraph) for paragraph in paragraphs) or paragraphs[0].endswith(":"):
        return True
    unquoted = "\n\n".join(_QUOTED.sub('""', paragraph) for paragraph in paragraphs)
    return is_talk("\n".join(text.sentences(unquoted)))


def is_talk(sentences: str) -> bool:
    """Return whether one of some sentences, one a line and without direct speech, is about the story or to the user.

    >>> [is_talk(s) for s in ("This story follows the rules.", "Let me know if you need more", "Mia told a story.")]
    [True, True, False]
    """
    return bool(_TALK.search(sentences))


def _is_title(line: str, topic: str = "") -> bool:
    """Return whether a line or a paragraph is a title: short, and either in title case or without an end.

    >>> [_is_title(s) for s in ("Nora and the Old Clock!", "A clock", "Nora ran!", '"Hello, Nora!"')]
    [True, True, False, False]
    """
    words = text.words(line)
    if not words or len(words) > TITLE_WORDS or '"' in line:
        return False
    if " ".join(words).lower() == topic.lower() or not re.search(r"[.!?,;:)'-][^\w\n]*$", line):
        return True
    return len(words) > 1 and all(w[0].isupper() or w in _SMALL for w in words) and words[-1] not in _SMALL


def without_edges(draft: str, topic: str) -> str:
    """Return a writer's text without what stands before and after the story; what is inside the story stays.

    `draft` is the text as the writer sent it, in which lines still tell a title from a sentence.
    """
    draft = _SPECIAL.sub("", text.fold(draft.rpartition("assistantfinal")[2]))
    lines = draft.strip().splitlines()
    while lines and _is_edge(lines[0], topic):
        del lines[0]
    turn = next((i for i, line in enumerate(lines) if i and _ROLE_LINE.match(line)), len(lines))
    del lines[turn:]
    while lines and _is_edge(lines[-1], topic):
        del lines[-1]
    story = _BEFORE.sub("", _NUMBER.sub("", "\n".join(lines)))
    while (first := text.SENTENCE.match(story)) and _is_talk_or_label(first[0]):
        story = story[first.end() :].lstrip()
    while (last := _last_sentence(story)) and _is_talk_or_label(last):
        story = story[: -len(last)].rstrip()
    return story


def _is_talk_or_label(sentence: str) -> bool:
    return is_talk(_QUOTED.sub('""', sentence)) or bool(_LABEL_LINE.match(sentence))


def _is_edge(line: str, topic: str) -> bool:
    """Return whether a first or last line is no part of the story."""
    bare = line.strip().strip("*_#~=- ")
    if not text.words(bare):
        return True
    if len(text.sentences(bare)) > 1:
        return False  # the story is on the same line
    marked = _LABEL_LINE.match(bare) or _ROLE_LINE.match(bare) or _CHAPTER.fullmatch(bare) or bare.endswith(":")
    return bool(marked) or is_talk(_QUOTED.sub('""', bare)) or _is_title(bare, topic)


def _last_sentence(story: str) -> str:
    """Return the last sentence of `story` as it stands there, without the space before it; "" if it has none."""
    matches = [m for m in text.SENTENCE.finditer(story) if m[0].strip()]
    return story[matches[-1].start() :].lstrip() if matches else ""
