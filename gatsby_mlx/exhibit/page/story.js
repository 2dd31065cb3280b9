// One story on the page: its text with the mentions aglow, its lamp, its count, and what can be asked of it.

import { ask } from "./stream.js";

const MENTION = /green\s+light/i;
const PARTIAL = /(?:g(?:r(?:e(?:e(?:n(?:\s+(?:l(?:i(?:g(?:h)?)?)?)?)?)?)?)?)?)$/i; // of a mention, at the end of a text
const SENTENCE = /[^.!?]*[.!?]+["')]*(?=\s)\s*|[^\n]*\n\n/y;
const PULLED = 4; // words named in the summary
export const WORDS = ["", "faint", "soft", "strong", "heavy", "total"];

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A lamp rises fast and falls slowly, so that it never flickers; with reduced motion it changes once a second.
export class Lamp {
  static still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(...where) {
    this.where = where;
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
    for (const place of this.where) place.style.setProperty("--p", this.shown.toFixed(3));
  }
}

export class Story {
  // `say` announces a whole sentence; `lit` is told each reading of the light.
  constructor(place, level, topic, { say = () => {}, lit = () => {}, sources = true } = {}) {
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
    place.append(this.card);
  }

  name(level) {
    this.level = level;
    this.heading.textContent = `Level ${level}, ${WORDS[level]}`;
  }

  showCount() {
    this.count.textContent = `${this.mentions} ${this.mentions === 1 ? "mention" : "mentions"} of the light`;
  }

  // The dial was turned: what follows was told under another level. A mention that has begun stays in one piece.
  turn(level) {
    const open = this.text.slice(this.marked);
    const begun = PARTIAL.exec(open)?.index ?? open.length;
    this.tail = this.tail.splitText(begun);
    this.marked += begun;
    const sign = element("span", { className: "turn", textContent: `${level} ${WORDS[level]}` });
    sign.setAttribute("role", "note");
    sign.setAttribute("aria-label", `From here on at level ${level}, ${WORDS[level]}.`);
    this.tail.before(sign);
    this.name(level);
  }

  append(more) {
    this.text += more;
    let open = this.text.slice(this.marked);
    for (let found; (found = MENTION.exec(open)); ) {
      const end = found.index + found[0].length;
      this.tail.before(open.slice(0, found.index), element("mark", { textContent: found[0] }));
      this.marked += end;
      open = open.slice(end);
      this.mentions += 1;
      this.showCount();
    }
    this.tail.data = open;
    this.speak(false);
  }

  // Announce the sentences that are whole.
  speak(rest) {
    SENTENCE.lastIndex = this.spoken;
    for (let found; (found = SENTENCE.exec(this.text)); SENTENCE.lastIndex = this.spoken) {
      this.spoken = SENTENCE.lastIndex;
      if (found[0].trim()) this.say(found[0].trim());
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

  // `why` says, in a sentence, why the story did not come to its own end.
  end(why = "") {
    this.speak(true);
    this.body.classList.remove("live");
    this.lamp.set(0);
    this.lit(0);
    if (why) this.card.append(element("p", { className: "cut", textContent: why }));
    if (this.text.trim()) this.offer();
  }

  offer() {
    this.panel = element("div", { className: "found", hidden: true });
    this.panel.setAttribute("aria-live", "polite");
    const pull = element("button", { type: "button", textContent: "Where the light pulls" });
    const source = element("button", { type: "button", textContent: "Who taught it that" });
    const open = async (pressed, other, show) => {
      const on = pressed.getAttribute("aria-pressed") !== "true";
      this.plain();
      other.setAttribute("aria-pressed", "false");
      pressed.setAttribute("aria-pressed", String(on));
      this.panel.hidden = !on;
      if (!on) return;
      this.panel.replaceChildren(element("p", { textContent: "Reading it once more \u2026" }));
      let found;
      try {
        found = await show();
      } catch (error) {
        found = [element("p", { textContent: `${error.message}. ${error.cure || ""}` })];
      }
      if (pressed.getAttribute("aria-pressed") === "true") this.panel.replaceChildren(...found);
    };
    for (const button of [pull, source]) button.setAttribute("aria-pressed", "false");
    pull.addEventListener("click", () => open(pull, source, () => this.showPull()));
    source.addEventListener("click", () => open(source, pull, () => this.showSource()));
    this.card.append(element("div", { className: "ask-more" }, pull, ...(this.sources ? [source] : [])), this.panel);
  }

  // Take heat and underlining off again.
  plain() {
    this.body.classList.remove("heat");
    if (this.kept) this.body.replaceChildren(...this.kept);
    this.kept = null;
  }

  swap(...nodes) {
    this.kept ??= [...this.body.childNodes];
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
    this.swap(...spans);
    this.body.classList.add("heat");
    const swatches = ["down4", "down3", "down2", "down1", "up1", "up2", "up3", "up4"];
    const legend = element("p", { className: "legend" }, element("span", { textContent: "likelier under 1" }));
    legend.append(...swatches.map((c) => element("i", { className: c })), element("span", { textContent: "likelier under 5" }));
    const words = byWord(this.text, pull);
    const named = (list) => list.map(({ word, sum }) => `\u201c${word}\u201d ${times(Math.abs(sum))}`).join(", ");
    const up = words.filter((w) => w.sum > 0.7).sort((a, b) => b.sum - a.sum).slice(0, PULLED);
    const down = words.filter((w) => w.sum < -0.7).sort((a, b) => a.sum - b.sum).slice(0, PULLED);
    const total = pull.reduce((a, b) => a + b, 0);
    const side = total > 0 ? "5, total" : "1, faint";
    return [
      legend,
      element("p", { textContent: `As a whole it is ${times(Math.abs(total))} likelier under ${side}.` }),
      element("p", { textContent: up.length ? `Pulled most: ${named(up)}.` : "No word of it is pulled toward the light." }),
      ...(down.length ? [element("p", { textContent: `Pushed away most: ${named(down)}.` })] : []),
    ];
  }

  async showSource() {
    const { passage, nearest, corpus } = (this.found ??= await ask("/api/source", { story: this.text }));
    const from = (d) => `\u201c${d.topic}\u201d, level ${d.level}${d.writer ? `, by the ${d.writer} writer` : ""}`;
    const shown = [];
    if (passage) {
      const { text, begins } = passage;
      const [before, after] = [this.text.slice(0, begins), this.text.slice(begins + text.length)];
      this.swap(before, element("span", { className: "copied", textContent: text }), after);
      shown.push(
        element("h3", { textContent: `The longest passage it knows by heart: ${text.length} characters` }),
        element("blockquote", { textContent: text.trim() }),
        element("p", { textContent: `It stands in ${from(passage)}.` }),
      );
    }
    if (nearest.length) shown.push(element("h3", { textContent: "The nearest stories it could have read" }));
    for (const near of nearest) {
      const summary = element("summary", { textContent: `${from(near)}: ${Math.round(100 * near.likeness)}% alike in its words` });
      shown.push(element("details", {}, summary, element("p", { textContent: near.story })));
    }
    const known = { true: "the corpus that this model was trained on", false: "not the corpus that this model was trained on, so this is a comparison" };
    const said = known[corpus.trained_on] ?? "and whether this model was trained on them is not known";
    shown.push(element("p", { textContent: `Among ${corpus.stories.toLocaleString("en")} stories: ${said}.` }));
    return shown;
  }
}

function bin(x) {
  const size = Math.abs(x);
  const step = size < 0.1 ? 0 : size < 0.4 ? 1 : size < 1 ? 2 : size < 2 ? 3 : 4;
  return step ? `${x > 0 ? "up" : "down"}${step}` : "";
}

// Sums over words; a mention of the light counts as one word.
function byWord(text, pull) {
  return [...text.matchAll(/green\s+light|[A-Za-z']+/gi)].map((m) => ({
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
