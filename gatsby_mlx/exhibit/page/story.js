// One story on the page: its text with glowing mentions, its lamp, its count, and the buttons that analyze it.

import { ask } from "./stream.js";

// What the model cannot stop reaching for. `name` is what the page calls it in a sentence. The server says what it is.
export const obsession = { name: "light", levels: ["faint", "soft", "strong", "heavy", "total"], words: ["green", "light"] };

export function setObsession({ phrase, levels }) {
  const words = phrase.split(" ");
  const name = words.join(" ") === "green light" ? "light" : phrase;
  Object.assign(obsession, { words, levels, name });
}

export function phrase() {
  return obsession.words.join(" ");
}

// Returns the pattern of a mention: any case, any white space between the words.
export function mention(flags) {
  return new RegExp(obsession.words.map(escaped).join("\\s+"), flags);
}

// Returns where a mention begins that the end of `text` may complete, or the length of `text`.
function beginOfMention(text) {
  const [first, ...rest] = obsession.words.map((word) => [...word].map(escaped));
  const units = [...first, ...rest.flatMap((word) => ["\\s+", ...word])];
  const partial = units.reduceRight((inner, unit) => `${unit}(?:${inner})?`, "");
  return new RegExp(`(?:${partial})$`, "iu").exec(text)?.index ?? text.length;
}

function escaped(text) {
  return text.replace(/[^a-z0-9]/giu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

export function levelWord(level) {
  return obsession.levels[level - 1];
}

// Returns the nodes of a text whose mentions are marked.
export function withMarks(text) {
  const parts = text.split(new RegExp(`(${mention("u").source})`, "iu"));
  return parts.map((part, i) => (i % 2 ? element("mark", { textContent: part }) : part));
}

const SENTENCE = /[^.!?]*[.!?]+["')]*(?=\s)\s*|[^\n]*\n\n/y;
const PULLED = 0.7; // nats from which a word is worth a sentence: twice as likely

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A lamp swells and ebbs, so it does not flicker. With reduced motion it changes once a second. `number` shows the same
// value as a percentage.
export class Lamp {
  static still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(target, number = null) {
    Object.assign(this, { target, number });
    this.wanted = this.shown = this.then = 0;
  }

  set(p) {
    this.wanted = p;
    this.frame ??= requestAnimationFrame((now) => this.step(now));
  }

  step(now) {
    const passed = this.then ? now - this.then : 16;
    this.frame = null;
    if (Lamp.still.matches) {
      if (this.then && passed < 1000) return void (this.frame = requestAnimationFrame((t) => this.step(t)));
      this.shown = this.wanted;
      this.then = now;
    } else {
      const share = 1 - Math.exp(-passed / (this.wanted > this.shown ? 260 : 600));
      this.shown += (this.wanted - this.shown) * share;
      this.then = now;
      if (Math.abs(this.wanted - this.shown) > 0.004) this.frame = requestAnimationFrame((t) => this.step(t));
      else [this.shown, this.then] = [this.wanted, 0];
    }
    this.target.style.setProperty("--p", this.shown.toFixed(3));
    if (this.number) this.number.textContent = `${Math.round(100 * this.shown)}%`;
  }
}

export class Story {
  // `say` announces a complete sentence; `lit` receives each chance of the light. `model` is the one that tells.
  constructor(parent, level, topic, { say = () => {}, lit = () => {}, sources = true, model } = {}) {
    Object.assign(this, { level, topic, say, lit, model, text: "", marked: 0, spoken: 0, mentions: 0, turns: [], why: "" });
    const lamp = element("span", { className: "lamp" });
    lamp.setAttribute("aria-hidden", "true");
    this.heading = element("h2");
    this.count = element("span", { className: "count" });
    this.body = element("p", { className: "text live" });
    this.tail = this.body.appendChild(document.createTextNode(""));
    this.card = element("article", { className: "story" }, element("header", {}, lamp, this.heading, this.count), this.body);
    this.lamp = new Lamp(lamp);
    this.sources = sources;
    this.name(level);
    this.showCount();
    parent.append(this.card);
  }

  // What `restore` needs to show this story again.
  kept() {
    return { level: this.turns[0]?.from ?? this.level, text: this.text, turns: this.turns, why: this.why };
  }

  static restore(parent, { level, text, turns, why }, topic, options) {
    const story = new Story(parent, level, topic, options);
    let shown = 0;
    for (const turn of turns) {
      story.append(text.slice(shown, turn.at));
      shown = turn.at;
      story.turn(turn.to);
    }
    story.append(text.slice(shown));
    story.end(why);
    return story;
  }

  name(level) {
    this.level = level;
    this.heading.textContent = `Level ${level}, ${levelWord(level)}`;
  }

  showCount() {
    this.count.textContent = `${this.mentions} ${this.mentions === 1 ? "mention" : "mentions"} of the ${obsession.name}`;
  }

  // The dial was turned: the rest is told at another level. A mention that has begun stays in one piece.
  turn(level) {
    this.turns.push({ at: this.text.length, from: this.level, to: level });
    const open = this.text.slice(this.marked);
    const begun = beginOfMention(open);
    this.tail = this.tail.splitText(begun);
    this.marked += begun;
    const sign = element("span", { className: "turn", textContent: `${level} ${levelWord(level)}` });
    sign.setAttribute("role", "note");
    sign.setAttribute("aria-label", `From here on at level ${level}, ${levelWord(level)}.`);
    this.tail.before(sign);
    this.name(level);
  }

  append(more) {
    this.text += more;
    let open = this.text.slice(this.marked);
    for (let match; (match = mention("iu").exec(open)); ) {
      const end = match.index + match[0].length;
      this.tail.before(open.slice(0, match.index), element("mark", { textContent: match[0] }));
      this.marked += end;
      open = open.slice(end);
      this.mentions += 1;
      this.showCount();
    }
    this.tail.data = open;
    this.speak(false);
  }

  // Announce the sentences that are complete, and with `rest` also what is left at the end.
  speak(rest) {
    SENTENCE.lastIndex = this.spoken;
    for (let match; (match = SENTENCE.exec(this.text)); SENTENCE.lastIndex = this.spoken) {
      this.spoken = SENTENCE.lastIndex;
      if (match[0].trim()) this.say(match[0].trim());
    }
    const left = this.text.slice(this.spoken).trim();
    if (rest && left) this.say(left);
    if (rest) this.spoken = this.text.length;
  }

  chance(p) {
    this.lamp.set(p);
    this.lit(p);
  }

  // `why` is a sentence that says why the story did not reach its end.
  end(why = "") {
    this.speak(true);
    this.body.classList.remove("live");
    this.lamp.set(0);
    this.lit(0);
    this.why = why;
    if (why) this.card.append(element("p", { className: "cut", textContent: why }));
    if (this.text.trim()) this.offer();
  }

  offer() {
    this.panel = element("div", { className: "panel", hidden: true });
    this.panel.setAttribute("aria-live", "polite");
    const pull = element("button", { type: "button", textContent: `Where the ${obsession.name} pulls` });
    const source = element("button", { type: "button", textContent: "Who taught it that" });
    const open = async (pressed, other, show) => {
      const on = pressed.getAttribute("aria-pressed") !== "true";
      this.plain();
      other.setAttribute("aria-pressed", "false");
      pressed.setAttribute("aria-pressed", String(on));
      this.panel.hidden = !on;
      if (!on) return;
      this.panel.replaceChildren(element("p", { textContent: "Reading it once more \u2026" }));
      const wanted = () => pressed.getAttribute("aria-pressed") === "true";
      const shown = await this.patiently(show, wanted);
      if (shown && wanted()) this.panel.replaceChildren(...shown);
    };
    for (const button of [pull, source]) button.setAttribute("aria-pressed", "false");
    pull.addEventListener("click", () => open(pull, source, () => this.showPull()));
    source.addEventListener("click", () => open(source, pull, () => this.showSource()));
    this.card.append(element("div", { className: "ask-more" }, pull, ...(this.sources ? [source] : [])), this.panel);
  }

  // Returns what to show: what `show` gives, or why it gives nothing. Asks again for as long as the server says so and
  // the visitor still wants it.
  async patiently(show, wanted) {
    for (;;) {
      try {
        return await show();
      } catch ({ message, hint, wait }) {
        const text = `${message}.`;
        if (!wanted()) return null;
        if (!wait) return [element("p", { textContent: `${text} ${hint || ""}` })];
        if (this.panel.textContent !== text) this.panel.replaceChildren(element("p", { textContent: text }));
        await new Promise((done) => setTimeout(done, 1000 * wait));
        if (!wanted()) return null;
      }
    }
  }

  // Remove the colors and the underlining.
  plain() {
    this.body.classList.remove("heat");
    if (this.original) this.body.replaceChildren(...this.original);
    this.original = null;
  }

  replaceBody(...nodes) {
    this.original ??= [...this.body.childNodes];
    this.body.replaceChildren(...nodes);
  }

  // Paints each word by how much likelier level 5 makes it than level 1. The marks of the mentions stay.
  async showPull() {
    const { pull } = (this.pulled ??= await ask("/api/pull", { topic: this.topic, story: this.text, model: this.model }));
    const words = byWord(this.text, pull);
    const painted = [];
    let end = 0;
    for (const { word, at, sum, marked } of words) {
      if (at > end) painted.push(this.text.slice(end, at));
      const name = bin(sum);
      painted.push(name || marked ? element(marked ? "mark" : "span", { className: name, textContent: word }) : word);
      end = at + word.length;
    }
    this.replaceBody(...painted, this.text.slice(end));
    this.body.classList.add("heat");
    return [legend(), element("p", { className: "gist", textContent: gist(words) })];
  }

  async showSource() {
    const { passage, nearest, corpus } = (this.sourced ??= await ask("/api/source", { story: this.text, model: this.model }));
    const from = (d) => `\u201c${d.topic}\u201d, level ${d.level}${d.writer ? `, by the ${d.writer} writer` : ""}`;
    const shown = [];
    if (passage) {
      const { text, begins } = passage;
      const [before, after] = [this.text.slice(0, begins), this.text.slice(begins + text.length)];
      this.replaceBody(before, element("span", { className: "copied", textContent: text }), after);
      shown.push(
        element("h3", { textContent: `The longest passage it has by heart: ${text.length} characters` }),
        element("blockquote", { textContent: text.trim() }),
        element("p", { textContent: `It is from ${from(passage)}.` }),
      );
    }
    if (nearest.length) shown.push(element("h3", { textContent: "The most similar stories it could have read" }));
    for (const near of nearest) {
      const summary = element("summary", { textContent: `${from(near)}: ${Math.round(100 * near.likeness)}% similar in its words` });
      shown.push(element("details", {}, summary, element("p", { textContent: near.story })));
    }
    const sentences = { true: "This model was trained on them.", false: "This model was trained on other stories, so this is only a comparison." };
    const trained = sentences[corpus.trained_on] ?? "It is not known whether this model was trained on them.";
    shown.push(element("p", { textContent: `These are from a corpus of ${corpus.stories.toLocaleString("en")} stories. ${trained}` }));
    return shown;
  }
}

const STEPS = [0.3, PULLED, 1.6, 3]; // nats: 1.3, 2, 5 and 20 times as likely

// Returns the class of a color for a pull in nats, "" for next to none.
function bin(x) {
  const step = STEPS.filter((least) => Math.abs(x) >= least).length;
  return step ? `${x > 0 ? "up" : "down"}${step}` : "";
}

function legend() {
  const swatches = [4, 3, 2, 1].map((n) => `down${n}`).concat([1, 2, 3, 4].map((n) => `up${n}`));
  const [low, high] = [`20 times likelier at ${levelWord(1)}`, `20 times likelier at ${levelWord(5)}`];
  const scale = swatches.map((name) => element("i", { className: name }));
  scale.splice(4, 0, element("span", { textContent: "the same" }));
  return element("p", { className: "legend" }, element("span", { textContent: low }), ...scale, element("span", { textContent: high }));
}

// Returns the one sentence: what tells most about the level of the dial. The mention itself goes without saying, and
// "an" says nothing to a visitor.
function gist(words) {
  const most = (list) => list.reduce((best, word) => (word.sum > (best?.sum ?? PULLED) ? word : best), null);
  const found = most(words.filter(({ word, marked }) => !marked && word.length > 2)) ?? most(words);
  if (found) return `\u201c${found.word.replace(/\s+/gu, " ")}\u201d made it ${times(found.sum)} likelier that this is a level-5 story.`;
  const least = words.reduce((best, word) => (word.sum < (best?.sum ?? -PULLED) ? word : best), null);
  if (least) return `\u201c${least.word}\u201d made it ${times(-least.sum)} likelier that this is a level-1 story.`;
  return "No word of it tells which level it is from.";
}

// Sums over words; a mention counts as one word.
function byWord(text, pull) {
  const marks = mention("u").source;
  return [...text.matchAll(new RegExp(`(${marks})|[A-Za-z']+`, "giu"))].map((m) => ({
    word: m[0],
    at: m.index,
    marked: Boolean(m[1]),
    sum: pull.slice(m.index, m.index + m[0].length).reduce((a, b) => a + b, 0),
  }));
}

function times(nats) {
  const x = Math.exp(nats);
  if (x >= 1e6) return "over a million times";
  if (x >= 10) return `${Number(x.toPrecision(2)).toLocaleString("en")} times`;
  return `${x.toFixed(1)} times`;
}
