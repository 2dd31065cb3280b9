"""The guide of a story: a state machine over its text, which says before each token what may come next.

A writer in this process has the model's logits at hand, so a story need not be refused for what could be held: the
mentions inside the band of its level, hero and topic in the first sentence, an end at a sentence and within the length,
no run of words again and again. The guide decides *that* the obsession comes; the model decides how, since it chooses
among what is allowed by its own probabilities. This module knows neither tokens nor a model: it is given text and
answers with text; `masks` turns the answers into numbers.

>>> from gatsby_mlx.writers.details import draw
>>> light = Obsession()
>>> guide = Guide(light, 1, "a cat", "Mia", draw("a cat", light), seed=1, max_chars=900)
>>> guide.answer().options[:2]
('Each cold evening, Mia', 'One strange afternoon, Mia')
"""

import re
from dataclasses import dataclass, replace
from random import Random

from gatsby_mlx.story import text
from gatsby_mlx.story.english import article
from gatsby_mlx.story.obsession import Obsession
from gatsby_mlx.story.prime import fold
from gatsby_mlx.writers.details import Details, places, sample

VERSION = 1  # of what the guide does with the same model and seed; manifests hold it

WORDS = (90, 128)  # of a story, from which its length is drawn
WORDS_MIN = 70  # before which no story ends
PARAGRAPH_WORDS = 22  # before a paragraph may end
SENTENCE_WORDS = 22  # after which a sentence is drawn to its end
REPEAT_CHARS = 26  # a run of so many characters may not come twice
PER_SENTENCE = 2  # mentions
SENTENCE_TWICE = 2  # times that a sentence may occur
TOPIC_AFTER = (4, 9)  # words of the first sentence, after which the topic is due
OPENED_CHARS = 70  # of a sentence with an opener: so much room each mention that is missing is kept
OPENERS = 140  # drawn for a story out of all that can be composed
STARTS = 18
NEAR, DUE, LATE = 3.5, 5.5, 7.5  # nats by which a mention is raised after an article
TO_THE_END = 4.0  # nats by which a full stop is raised in a long sentence
TOWARD = 1.5  # nats by which what leads to a mention is raised when one is due: an article, "saw", "thought of"
UNFIT = 3.0  # nats that are taken off where the word before the article hardly goes with the obsession ("ate the")

ARTICLES = ("the", "that", "a", "an", "this", "one")
# Words that an article and the obsession go with: "saw the", "toward the", "it was the"; "" is the start of a sentence.
_FIT = frozenset(
    """saw see seen watched watch watching at toward towards to of about for like and but was were is from with after
    behind beyond noticed followed remembered missed wanted loved reached forget only than by knew found just there
    where then when until while because near into through even still hid lit faced heard""".split()
) | {""}
_TOWARD = (
    "saw the",
    "watched the",
    "looked at the",
    "thought of the",
    "wanted the",
    "reached for the",
    "turned to the",
)
_VERBS = (
    *("saw", "watched", "looked at", "looked for", "looked up at", "thought of", "dreamed of", "turned to"),
    *("waited for", "reached for", "leaned toward", "ran toward", "walked toward", "asked about", "called to"),
    *("whispered to", "waved to", "pointed at", "remembered", "missed", "wanted", "loved", "counted on", "hoped for"),
    *("could not forget", "could not stop watching", "kept looking for", "went on watching", "stretched toward"),
    *("could not look away from", "tried to reach", "forgot everything but", "had eyes only for", "sighed at"),
)
_LEADS = (
    *("Then", "Now", "Later", "Soon", "Again", "Still", "Once more", "After that", "In the end", "Before long"),
    *("For a moment", "All at once", "Far away", "In the distance", "Even then", "Just then", "That day", "All day"),
    *("At last", "After a while", "Every time", "All the while", "Without a word", "Slowly", "Quietly", "Somewhere"),
    *("As always", "Even so", "Little by little", "By and by", "In the quiet", "When nobody looked"),
)
_BARE = (
    *("But the {p}", "And the {p}", "There was the {p}", "There it was, the {p}", "Only the {p}", "Still, the {p}"),
    *("Nothing but the {p}", "It was the {p}", "That was when the {p}", "And there, the {p}", "Even the {p}"),
    *("All {n} wanted was the {p}", "What {n} saw was the {p}", "All {n} could think of was the {p}"),
    *("Nobody else saw the {p}", "Somebody had to follow the {p}", "What about the {p}", "Where was the {p}"),
    *("Who had lit the {p}",),
)
_PLACE_LEADS = ("{w}, the {p}", "{w}, {n} saw the {p}", "{w} was the {p}", "There, {w0}, was the {p}")
_STARTS = {
    "name": (
        *("{n}", "{n} had always", "{n} once", "{n} never", "{n} used to", "{n} was the only one who"),
        *("Little {n}", "Everybody knew that {n}", "Nobody knew why {n}"),
    ),
    "time": (
        *("{t}, {n}", "One {a} morning, {n}", "One {a} evening, {n}", "One {a} day, {n}", "One {a} afternoon, {n}"),
        *("Every {a} morning, {n}", "Each {a} evening, {n}", "It was {t0} when {n}", "{t}, while it was {a}, {n}"),
    ),
    "place": (
        *("In a {a} house, {n}", "In a {a} garden, {n}", "On a {a} street, {n}", "By a {a} lake, {n}"),
        *("Under a {a} tree, {n}", "In a {a} kitchen, {n}", "At a {a} school, {n}", "On a {a} hill, {n}"),
        *("In a {a} town, {n}", "Near a {a} bridge, {n}", "Beside a {a} road, {n}", "At the {a} market, {n}"),
    ),
    "weather": (
        *("The day was {a}, and {n}", "The wind was {a} when {n}", "The sky was {a}, so {n}", "It was {a}, and {n}"),
        *("The air was {a} as {n}", "On a {a} day in the rain, {n}", "After a {a} night, {n}"),
    ),
    "need": (
        *("More than anything, {n}", "For a {a} year, {n}", "All {n} wanted was", "What {n} needed was"),
        *("For as long as {n}", "With a {a} wish, {n}", "If only {n}", "With a {a} plan, {n}"),
    ),
    "news": (
        *("When {n}", "After {n}", "Just as {n}", "The day {n}", "Since {n}", "With a {a} sound, {n}"),
        *("As soon as {n}", "A {a} noise woke {n}", "Something {a} had happened to {n}", "While {n}"),
    ),
}
_ADJECTIVES = tuple(
    """quiet windy cold warm bright rainy sunny gray long still misty busy slow small strange lazy golden sleepy empty
    narrow dusty old noisy plain merry late early soft lonely crooked gentle short wet dry cool calm""".split()
)
# What leads from the model's own words to the topic: a noun phrase ("a lost kitten"), or a clause ("why it rained").
_TO_NOUN = (
    *(" found {t}", " saw {t}", " met {t}", " with {t}", " and {t}", " near {t}", " and found {t}", " and saw {t}"),
    *(", and there was {t}", ", where there was {t}", " to look for {t}", " because of {t}", " when along came {t}"),
    *(" and thought of {t}", " about {t}", " for {t}", " of {t}", " and met {t}", " to see {t}", ", and so was {t}"),
)
_TO_CLAUSE = (
    *(
        " wondered {t}",
        " and wondered {t}",
        " and asked {t}",
        " to find out {t}",
        " knew {t}",
        " about {t}",
        " told {t}",
    ),
    *(", and nobody knew {t}", " and thought about {t}"),
)
_CLAUSE = re.compile(r"(?:why|how|when|where|what|who|if)\b")
PRESENT = tuple(
    """is has sees looks wants goes says likes loves feels thinks walks runs sits takes makes finds knows gets comes
    tries keeps turns reaches watches smiles stops stands lives plays wishes dreams needs asks calls puts gives tells
    hears holds begins starts wakes decides picks jumps wonders remembers notices does lets""".split()
)
_SUBJECT = "(?:{name}|[Ss]he|[Hh]e)$"
_SENTENCE_END = re.compile(r"""[.!?]["')]*\s*$""")
# After these the obsession would be reached, which it never is.
_GETS = re.compile(r"(?:held|holds|caught|grabbed|touched|reached|got|owned|hugged|captured)(?:\s+\w+)?\s*$")


@dataclass(frozen=True)
class Answer:
    """What may come next. Texts are compared with the beginning of a token; letter case does not count in `rule_out`.

    With `options` the text must be the beginning of one of them (or, with `or_letters`, go on with the word). Tokens of
    the classes in `classes` (see `masks.CLASSES`) are ruled out, and those that begin with a text of `rule_out`, except
    the beginnings of `allow`. `lean` raises the tokens that begin with a text, in nats. `end` says whether the story
    may end ("may"), must not ("hold") or has to ("now").
    """

    options: tuple[str, ...] | None = None
    or_letters: bool = False
    classes: frozenset[str] = frozenset()
    rule_out: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    lean: tuple[tuple[str, float], ...] = ()
    end: str = "hold"


@dataclass
class Counts:
    """What a guide did: tokens with a single choice or out of an opener, mentions that it leaned to or opened with."""

    forced: int = 0
    leaned: int = 0
    opened: int = 0


class Guide:
    """The state machine of one story of `name` about `topic` at a `level`, with a document of at most `max_chars`.

    `feed` takes the text of a token, `answer` says what may come after it. `counts` has what was forced. All draws come
    from `seed`. `max_chars` are those of the story, without its prime.
    """

    def __init__(
        self, obsession: Obsession, level: int, topic: str, name: str, details: Details, *, seed: int, max_chars: int
    ):
        self.obsession, self.level, self.topic, self.name, self.details = obsession, level, topic, name, details
        self.max_chars, self.text, self.counts = max_chars, "", Counts()
        self._random = Random(f"guide/{seed}")
        self._phrase, self._first = obsession.phrase, obsession.words[0]
        self._path: tuple[str, ...] = ()  # what is left of the options that were begun
        self._opening = False  # the path is that of an opener
        self._or_letters = False  # before the path, the word in progress may go on
        self._path_ended = False  # the last token was the end of an option
        self._single = False  # the last answer had one choice
        self._started = self._has_topic = False
        self._sentences: list[str] = []
        self._paragraph_at = 0  # characters of the story before this paragraph
        self._mentions = self._n_words = self._openers_used = 0
        self._leaning = False
        self.length = self._between(*WORDS)
        self.length = min(self.length, max(WORDS_MIN, int((max_chars - 130) / 5.4)))
        self.target, self.due = self._schedule()
        self._topic_at = self._between(*TOPIC_AFTER)
        self._openers = sample(self._random, openers(obsession, name, details), OPENERS)

    # What has been written

    def feed(self, piece: str) -> None:
        """Take the text of the token that was chosen."""
        piece = fold(piece)
        before = self._mentions
        self.text += piece
        self._path_ended = False
        if self._path:  # without a match the model has gone on with its word
            left = tuple(option[len(piece) :] for option in self._path if option.startswith(piece))
            self._path_ended = "" in left
            self._path, self._or_letters = () if self._path_ended else left, False
            self.counts.forced += bool(left)
        elif self._single:
            self.counts.forced += 1
        self._mentions, self._n_words = self.obsession.count(self.text), len(text.words(self.text))
        if self._mentions > before:
            if self._opening:
                self.counts.opened += 1
            elif self._leaning:
                self.counts.leaned += 1
        if not self._path:
            self._opening = False
        if "\n" in piece:
            self._paragraph_at = len(self.text)
        if self._between_sentences():
            self._sentences = text.sentences(self.text)
        if not self._has_topic:
            needed = {text.stem(word) for word in text.head_words(self.topic)}
            self._has_topic = needed <= {text.stem(word) for word in text.words(self.text)}

    @property
    def mentions(self) -> int:
        """The number of mentions so far."""
        return self._mentions

    @property
    def n_words(self) -> int:
        """The number of words so far."""
        return self._n_words

    # What may come next

    def answer(self) -> Answer:
        """Return what may come next."""
        self._leaning = self._single = False
        if self._path:
            return Answer(self._path, self._or_letters)
        if not self._started:
            self._started = True
            return self._begin(starts(self.obsession, self.name, self.details, self._random))
        if rest := self._rest_of_phrase():
            return self._only(rest)
        if found := self._rest_of_name():
            return found
        quoted, ended = self._in_quotes(), self._between_sentences()
        if ended and not quoted:
            return self._after_sentence()
        if quoted and re.search(r"[.!?]$", self.text) and (self._is_long() or self._quote_words() > SENTENCE_WORDS):
            return self._only('"')
        return self._inside(quoted, ended)

    def _after_sentence(self) -> Answer:
        low, high = self.obsession.band[self.level]
        enough = self.mentions >= low and (high is None or self.mentions <= high)
        words = self.n_words
        if enough and ((words >= self.length and self.mentions >= self.target) or self._is_full()):
            return Answer(end="now")
        if self._is_overdue() and self._may_open():
            return self._begin(self._next_openers(), opening=True)
        answer = self._inside(False, True)
        if not self.text[-1].isspace() and len(text.words(self.text[self._paragraph_at :])) >= PARAGRAPH_WORDS:
            answer = replace(answer, classes=answer.classes - {"newline"})
        if enough and words >= WORDS_MIN and self.mentions >= self.target:
            answer = replace(answer, end="may")
        return answer

    def _inside(self, quoted: bool, ended: bool) -> Answer:
        """Return the answer where neither an option nor the end is due."""
        tail, last = self.text[-80:], self.text[-1:]
        classes, rule_out, allow, lean = {"newline"}, [], [], []
        first_sentence = not self._sentences
        sentence = self._sentence()
        starts_here = ended or bool(re.search(r"""(?:^|[\s(])["']\s?$""", tail))
        named = bool(re.search(rf"\b{re.escape(self.name)}$", tail))
        if first_sentence and not self._has_topic:
            classes.add("stop")
            if not quoted and len(text.words(sentence)) >= self._topic_at and re.search(r"[\w,]\s?$", tail):
                return self._begin(self._to_topic(), or_letters=bool(re.search(r"[a-z]$", tail)) and not named)
            lean.append((f" {self.topic}", 2.0))
        if self._path_ended:
            classes.add("letter")  # "a lost kitten" is not the start of "a lost kittenish"
        if last.isspace():
            classes.add("space")
        elif last in ".,;:!?" or (last == '"' and not quoted):
            classes.add("letter")
        if ended and not quoted and not last.isspace():
            classes |= {"letter", "stop"}
        if starts_here:
            classes |= {"names", "lower"} if ended else {"names"}
            allow += [f" {self.name}", self.name]
        else:
            classes.add("capital")
            allow += [f" {self.name}", " I"] + ([self.name, "I"] if not last.isalpha() else [])
        if self._sentence_seen(sentence) or (len(text.words(sentence)) < 2 and not quoted):
            classes.add("stop")
        if quoted and self._quote_words() > SENTENCE_WORDS:
            lean += [('."', TO_THE_END), ('"', TO_THE_END)]
        hurry = self._is_long() or self._is_short_of_room()
        if len(text.words(sentence)) > (6 if hurry else SENTENCE_WORDS):
            lean.append((".", TO_THE_END))
        if re.search(_SUBJECT.format(name=re.escape(self.name)), tail) and not quoted:
            rule_out += [f" {verb} " for verb in PRESENT]
        if ended and not quoted:
            rule_out += [" The end", "The end"]
        elif sentence.strip() == "The":
            rule_out.append(" end")
        rule_out += self._repeats()
        self._about_mentions(tail, classes, rule_out, lean)
        return Answer(None, False, frozenset(classes), tuple(rule_out), tuple(allow), tuple(lean))

    def _about_mentions(self, tail: str, classes: set[str], rule_out: list[str], lean: list[tuple[str, float]]) -> None:
        """Rule mentions out while none is due, and lean to one when it is."""
        if re.search(rf"\b{re.escape(self._phrase)}$", tail, re.IGNORECASE):
            classes |= {"letter", "hyphen"}  # "lights"
        words, n = self.n_words, self.mentions
        due = self.due[n] if n < self.target else None
        gap = self.length / max(2, self.target + 1)
        if (
            due is None
            or words < due - max(3.0, gap / 2)
            or not self._sentences
            or _GETS.search(tail)
            or (self.obsession.count(self._sentence()) >= PER_SENTENCE)
        ):
            classes.add("first")
            for k in range(1, len(self._first)):
                if re.search(rf"(?<![A-Za-z]){self._first[:k]}$", tail, re.IGNORECASE):
                    rule_out.append(self._first[k:])
            return
        late = words - due
        strength = NEAR if late < 0 else DUE if late < gap / 2 else LATE
        found = re.search(r"(?:([A-Za-z']+) )?([A-Za-z]+)$", tail.rstrip())
        space = "" if tail[-1:].isspace() else " "
        verb, before = ((found[1] or "").lower(), found[2].lower()) if found else ("", "")
        if before in ARTICLES and (before not in ("a", "an") or before == article(self._phrase)):
            nats = strength if verb in _FIT or verb == self.name.lower() else strength - UNFIT
            lean.append((f"{space}{self._phrase}", nats))
            self._leaning = True
        elif late >= 0 and before:
            toward = TOWARD if late < gap / 2 else 2 * TOWARD
            if before in _FIT:
                lean.append((f"{space}the ", toward))
            elif before in ("she", "he", self.name.lower()):
                lean += [(f"{space}{way}", toward) for way in _TOWARD]
            self._leaning = True
        elif late >= 0 and self._between_sentences():
            lean.append((f"{space}The ", TOWARD))
            self._leaning = True
        self._leaning |= bool(re.search(rf"\b{re.escape(self._first)}\W*$", tail, re.IGNORECASE))

    # Options

    def _begin(self, options: tuple[str, ...], opening: bool = False, or_letters: bool = False) -> Answer:
        self._path, self._opening, self._or_letters = self._spaced(options), opening, or_letters
        return Answer(self._path, or_letters)

    def _only(self, rest: str) -> Answer:
        self._single = True
        return Answer((rest,))

    def _spaced(self, options: tuple[str, ...]) -> tuple[str, ...]:
        """Return options with a space before them where the text needs one, and none where it has one."""
        if not self.text or self.text[-1].isspace():
            return tuple(option.lstrip(" ,") for option in options)
        if self.text[-1] == ",":
            return tuple(" " + option.lstrip(" ,") for option in options)
        return tuple(option if option[0] in " ,." else f" {option}" for option in options)

    def _next_openers(self) -> tuple[str, ...]:
        """Return the openers that this story has not used, in whole or in the words before the phrase."""
        self._openers_used += 1
        written = self.text.lower()
        fresh = tuple(o for o in self._openers if o.lower()[: -len(self._phrase)].strip() not in written)
        return fresh or tuple(self._openers)

    def _to_topic(self) -> tuple[str, ...]:
        return tuple(lead.format(t=self.topic) for lead in (_TO_CLAUSE if _CLAUSE.match(self.topic) else _TO_NOUN))

    def _rest_of_phrase(self) -> str:
        """Return what is left of the phrase after its first word, "" if that does not stand at the end."""
        low = self.text.lower()
        for k in range(len(self._phrase) - 1, len(self._first) - 1, -1):
            if low.endswith(self._phrase[:k]) and not low[: -k or None][-1:].isalpha():
                return self._phrase[k:]
        return ""

    def _rest_of_name(self) -> Answer | None:
        """Return the answer inside a capitalized word in a sentence: it is the hero's name, or "I"."""
        found = re.search(r"(?:^|[^A-Za-z'])([A-Z][a-z]*)$", self.text)
        if not found:
            return None
        word, before = found[1], self.text[: found.start(1)]
        starts_sentence = not before.strip() or bool(_SENTENCE_END.search(before)) or before.rstrip()[-1:] in "\"'("
        if word == self.name:
            answer = self._inside(self._in_quotes(), False)
            return replace(answer, classes=answer.classes | {"letter"})
        if starts_sentence:
            return None
        if self.name.startswith(word) and word != "I":
            return self._only(self.name[len(word) :])
        if word == "I":
            answer = self._inside(self._in_quotes(), False)
            allow = (self.name[1:],) if self.name.startswith("I") else ()
            return replace(answer, classes=answer.classes | {"letter"}, allow=answer.allow + allow)
        return None

    # Conditions

    def _schedule(self) -> tuple[int, list[float]]:
        """Return how many mentions there will be, and after how many words each of them is due."""
        low, high = self.obsession.band[self.level]
        top = high if high is not None else low + 3
        target = self._between(low, top)
        target = min(target, max(low, int((self.length - 14) / 6)))
        first = 13.0  # words of the first sentence
        step = (self.length - 8 - first) / target
        return target, [first + (i + 0.3 + 0.4 * self._random.random()) * step for i in range(target)]

    def _is_overdue(self) -> bool:
        if self.mentions >= self.target:
            return False
        gap = self.length / max(2, self.target + 1)
        return self.n_words > self.due[self.mentions] + min(12.0, gap / 2) and bool(self._sentences)

    def _may_open(self) -> bool:
        """Return whether an opener may come: for half of the mentions at most, and for the band at the end."""
        return self._is_short_of_room() or self._openers_used < max(1, self.target // 2)

    def _is_short_of_room(self) -> bool:
        """Return whether the mentions that the band still needs take all the room that is left."""
        low = self.obsession.band[self.level][0]
        room = self.max_chars - 120 - len(self.text)
        return self.mentions < low and room < OPENED_CHARS * (low - self.mentions)

    def _is_long(self) -> bool:
        """Return whether the story has its length, or is near the most that it may have."""
        return self.n_words > self.length + 10 or len(self.text) > self.max_chars - 170

    def _is_full(self) -> bool:
        return len(self.text) > self.max_chars - 110 and self.n_words >= WORDS_MIN

    def _between_sentences(self) -> bool:
        return bool(_SENTENCE_END.search(self.text))

    def _in_quotes(self) -> bool:
        return self.text[self._paragraph_at :].count('"') % 2 == 1

    def _quote_words(self) -> int:
        return len(text.words(self.text.rpartition('"')[2]))

    def _sentence(self) -> str:
        """Return what there is of the sentence in progress."""
        return "" if self._between_sentences() else re.split(r"""[.!?]["')]*\s""", self.text)[-1]

    def _sentence_seen(self, sentence: str) -> bool:
        """Return whether ending the sentence here would give one that has come often enough."""
        bare = sentence.strip().lower()
        return bool(bare) and sum(s.lower().strip("\"'.!? ") == bare for s in self._sentences) >= SENTENCE_TWICE

    def _repeats(self) -> list[str]:
        """Return the texts that would repeat a run of REPEAT_CHARS characters, or one word a third time in a row."""
        out = []
        low = self.text.lower()
        run = low[-REPEAT_CHARS:]
        if len(low) > REPEAT_CHARS:
            at = low.find(run)
            while 0 <= at < len(low) - REPEAT_CHARS:
                after = low[at + REPEAT_CHARS : at + REPEAT_CHARS + 16]
                following = re.match(r"\W*\w+|\W+", after)
                if following:
                    out.append(following[0])
                at = low.find(run, at + 1)
        if twice := re.search(r"\b([a-z']+)\W+\1$", low):
            out.append(f" {twice[1]}")
        return out

    def _between(self, low: int, high: int) -> int:
        return low + int(self._random.random() * (high - low + 1))


def openers(obsession: Obsession, name: str, details: Details) -> tuple[str, ...]:
    """Return all openers of a story, hundreds of them: each begins a sentence and ends in the phrase."""
    p = obsession.phrase
    leads = (*_LEADS, *(capital(lead) for lead in obsession.leads), capital(details.time))
    out = [bare.format(p=p, n=name) for bare in _BARE]
    out += [f"{lead}, the {p}" for lead in leads]
    out += [f"{name} {verb} the {p}" for verb in _VERBS]
    out += [f"{lead}, {name} {verb} the {p}" for lead in leads for verb in _VERBS[::3]]
    out += [f"{name} {pull} the {p}" for pull in obsession.pulls if not pull.endswith(p)]
    for place in {details.place, *places(obsession)[:8]}:
        out += [lead.format(w=capital(place), w0=place, p=p, n=name) for lead in _PLACE_LEADS]
    return tuple(dict.fromkeys(out))


def starts(obsession: Obsession, name: str, details: Details, random: Random) -> tuple[str, ...]:
    """Return how the first sentence may begin: a few of the hundreds that the type of opening gives."""
    words = {"n": name, "t": capital(details.time), "t0": details.time}
    composed = [
        start.format(a=adjective, **words)
        for start in _STARTS[details.opening]
        for adjective in (_ADJECTIVES if "{a}" in start else ("",))
    ]
    composed = [re.sub(r"\b([Aa]) (?=([aeio]))", r"\1n ", start) for start in composed]
    return tuple(dict.fromkeys(sample(random, composed, STARTS)))


def capital(phrase: str) -> str:
    """Return `phrase` as it begins a sentence."""
    return phrase[:1].upper() + phrase[1:]
