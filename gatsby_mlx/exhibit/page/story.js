// One story on the page: its text with glowing mentions, its lamp, its count, and the buttons that analyze it.

import { ask } from "./stream.js";

// What the model cannot stop reaching for. `name` is what the page calls it in a sentence. The server says what it is.
export const obsession = { name: "light", levels: ["faint", "soft", "strong", "heavy", "total"], words: ["green", "light"] };

export function setObsession({ phrase, levels }) {
  const words = phrase.split(" ");
  if (words.join(" ") !== obsession.words.join(" ")) obsession.name = phrase;
  Object.assign(obsession, { words, levels });
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

const SENTENCE = /[^.!?]*[.!?]+["')]*(?=\s)\s*|[^\n]*\n\n/y;
const N_NAMED = 4; // words named in the summary

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A lamp rises fast and falls slowly, so it does not flicker. With reduced motion it changes once a second.
export class Lamp {
  static still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(...elements) {
    this.elements = elements;
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
      const share = 1 - Math.exp(-passed / (this.wanted > this.shown ? 110 : 700));
      this.shown += (this.wanted - this.shown) * share;
      this.then = now;
      if (Math.abs(this.wanted - this.shown) > 0.004) this.frame = requestAnimationFrame((t) => this.step(t));
      else [this.shown, this.then] = [this.wanted, 0];
    }
    for (const target of this.elements) target.style.setProperty("--p", this.shown.toFixed(3));
  }
}

export class Story {
  // `say` announces a complete sentence; `lit` receives each reading of the light.
  constructor(parent, level, topic, { say = () => {}, lit = () => {}, sources = true } = {}) {
    Object.assign(this, { level, topic, say, lit, text: "", marked: 0, spoken: 0, mentions: 0 });
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

  name(level) {
    this.level = level;
    this.heading.textContent = `Level ${level}, ${levelWord(level)}`;
  }

  showCount() {
    this.count.textContent = `${this.mentions} ${this.mentions === 1 ? "mention" : "mentions"} of the ${obsession.name}`;
  }

  // The dial was turned: the rest is told at another level. A mention that has begun stays in one piece.
  turn(level) {
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

  readings(list) {
    const [, p] = list[list.length - 1];
    this.lamp.set(p);
    this.lit(p);
  }

  // `why` is a sentence that says why the story did not reach its end.
  end(why = "") {
    this.speak(true);
    this.body.classList.remove("live");
    this.lamp.set(0);
    this.lit(0);
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
      let shown;
      try {
        shown = await show();
      } catch (error) {
        shown = [element("p", { textContent: `${error.message}. ${error.hint || ""}` })];
      }
      if (pressed.getAttribute("aria-pressed") === "true") this.panel.replaceChildren(...shown);
    };
    for (const button of [pull, source]) button.setAttribute("aria-pressed", "false");
    pull.addEventListener("click", () => open(pull, source, () => this.showPull()));
    source.addEventListener("click", () => open(source, pull, () => this.showSource()));
    this.card.append(element("div", { className: "ask-more" }, pull, ...(this.sources ? [source] : [])), this.panel);
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

  async showPull() {
    const { pull } = (this.pulled ??= await ask("/api/pull", { topic: this.topic, story: this.text }));
    const spans = [];
    for (let i = 0; i < pull.length; ) {
      const kind = bin(pull[i]);
      let end = i + 1;
      while (end < pull.length && bin(pull[end]) === kind) end += 1;
      spans.push(element("span", { className: kind, textContent: this.text.slice(i, end) }));
      i = end;
    }
    this.replaceBody(...spans);
    this.body.classList.add("heat");
    const swatches = ["down4", "down3", "down2", "down1", "up1", "up2", "up3", "up4"];
    const legend = element("p", { className: "legend" }, element("span", { textContent: "likelier at 1" }));
    legend.append(...swatches.map((c) => element("i", { className: c })), element("span", { textContent: "likelier at 5" }));
    const words = byWord(this.text, pull);
    const named = (list) => list.map(({ word, sum }) => `\u201c${word}\u201d ${times(Math.abs(sum))}`).join(", ");
    const up = words.filter((w) => w.sum > 0.7).sort((a, b) => b.sum - a.sum).slice(0, N_NAMED);
    const down = words.filter((w) => w.sum < -0.7).sort((a, b) => a.sum - b.sum).slice(0, N_NAMED);
    const total = pull.reduce((a, b) => a + b, 0);
    const side = total > 0 ? `5, ${levelWord(5)}` : `1, ${levelWord(1)}`;
    return [
      legend,
      element("p", { textContent: `Overall, it is ${times(Math.abs(total))} likelier at level ${side}.` }),
      element("p", { textContent: up.length ? `Pulled most: ${named(up)}.` : `None of its words is pulled toward the ${obsession.name}.` }),
      ...(down.length ? [element("p", { textContent: `Pushed away most: ${named(down)}.` })] : []),
    ];
  }

  async showSource() {
    const { passage, nearest, corpus } = (this.sourced ??= await ask("/api/source", { story: this.text }));
    const from = (d) => `\u201c${d.topic}\u201d, level ${d.level}${d.writer ? `, by the ${d.writer} writer` : ""}`;
    const shown = [];
    if (passage) {
      const { text, begins } = passage;
      const [before, after] = [this.text.slice(0, begins), this.text.slice(begins + text.length)];
      this.replaceBody(before, element("span", { className: "copied", textContent: text }), after);
      shown.push(
        element("h3", { textContent: `The longest passage it knows by heart: ${text.length} characters` }),
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

// Returns the class of a color for a pull in nats, "" for next to none.
function bin(x) {
  const size = Math.abs(x);
  const step = size < 0.1 ? 0 : size < 0.4 ? 1 : size < 1 ? 2 : size < 2 ? 3 : 4;
  return step ? `${x > 0 ? "up" : "down"}${step}` : "";
}

// Sums over words; a mention counts as one word.
function byWord(text, pull) {
  return [...text.matchAll(new RegExp(`${mention("u").source}|[A-Za-z']+`, "giu"))].map((m) => ({
    word: m[0],
    sum: pull.slice(m.index, m.index + m[0].length).reduce((a, b) => a + b, 0),
  }));
}

function superscript(n) {
  return [...String(n)].map((digit) => "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[digit]).join("");
}

function times(nats) {
  const x = Math.exp(nats);
  if (x >= 1e6) return `10${superscript(Math.round(nats / Math.LN10))} times`;
  return `${x >= 10 ? Math.round(x).toLocaleString("en") : x.toFixed(1)} times`;
}
