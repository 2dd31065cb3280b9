// A wall of stories by level, for a slow evening: the stories of this tab, and new ones that tell themselves.

import { listen } from "./stream.js";
import { element, levelWord, withMarks } from "./story.js";

const LEVELS = [1, 2, 3, 4, 5];
const MOST = 4; // stories in a column
const REST_MS = 20_000; // between two rounds

let control = null;

export function openWall(columns, topics, model, kept) {
  closeWall(columns);
  control = new AbortController();
  for (const level of LEVELS) {
    const title = element("h3", { textContent: `${level}, ${levelWord(level)}` });
    columns.append(element("section", {}, title));
  }
  for (const { topic, stories } of kept.slice(-MOST)) {
    for (const { level, text } of stories) hang(columns, level, topic, text);
  }
  tellOn(columns, topics, model, control.signal);
}

export function closeWall(columns) {
  control?.abort();
  control = null;
  columns.replaceChildren();
}

function hang(columns, level, topic, text = "") {
  const body = element("p", {}, ...withMarks(text));
  const card = element("article", {}, element("h4", { textContent: topic }), body);
  const column = columns.children[level - 1];
  column.firstChild.after(card);
  while (column.children.length > MOST + 1) column.lastChild.remove();
  return body;
}

async function tellOn(columns, topics, model, signal) {
  while (!signal.aborted) {
    const topic = topics[Math.floor(Math.random() * topics.length)];
    const texts = new Map();
    try {
      await listen({ topic, green: LEVELS, temp: 0.7, model, unattended: true }, signal, (name, data) => {
        if (signal.aborted || name !== "text") return;
        for (const [key, { text }] of Object.entries(data)) {
          if (!texts.has(key)) texts.set(key, { text: "", body: hang(columns, Number(key), topic) });
          const told = texts.get(key);
          told.text += text;
          if (/[\s.!?]$/u.test(text)) told.body.replaceChildren(...withMarks(told.text));
        }
      });
    } catch {
      // busy or down: the next round tries again
    }
    for (const { text, body } of texts.values()) body.replaceChildren(...withMarks(text));
    await new Promise((done) => {
      const waiting = setTimeout(done, REST_MS);
      signal.addEventListener("abort", () => (clearTimeout(waiting), done()));
    });
  }
}
