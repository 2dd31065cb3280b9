// An unattended kiosk: the page starts over when nobody is there, and tells stories to the empty room.
//
// Telling and reading hold the clock. Before the page starts over it asks, and a touch that answers does nothing else.

import { ask, listen } from "./stream.js";
import { element, withMarks } from "./story.js";

const ASK_S = 15; // how long the question stands
const WORD_S = 0.4; // to read a word, at leisure
const REST_MS = 20_000; // between two stories to the empty room
const TALES = 10; // told to the empty room, then told again from memory: the machine rests
const N_SHOWN = 200; // characters that stay on the screen
const SWALLOW_MS = 700; // what a waking touch still sends
const $ = (id) => document.getElementById(id);

// `telling()` says whether a story is in progress, `words()` how many words are on the page.
export function attach({ idle, topics, reset, lit, telling, words }) {
  const tales = [];
  let control = null; // of the story to the empty room
  let swallowing = 0;
  let touched = Date.now();
  let lastTelling = false;

  // ---- the clock

  function patience() {
    return 1000 * Math.max(idle, WORD_S * words());
  }

  function tick() {
    if (!$("attract").hidden || document.hidden) return;
    const now = Date.now();
    const busy = telling();
    if (busy || lastTelling) touched = now; // the time to read begins when the story has ended
    lastTelling = busy;
    const over = now - touched - patience();
    if (over < 0) return;
    const unused = !words() && !$("topic").value;
    if (unused || over >= 1000 * ASK_S) return attract();
    $("still-count").textContent = String(Math.ceil(ASK_S - over / 1000));
    if ($("still").hidden) {
      $("still").hidden = false;
      $("still-here").focus({ preventScroll: true });
    }
  }

  // ---- the empty room

  const rest = (ms, signal) =>
    new Promise((done) => {
      const waiting = setTimeout(done, ms);
      signal.addEventListener("abort", () => (clearTimeout(waiting), done()));
    });

  async function attract() {
    $("still").hidden = true;
    reset();
    control = new AbortController();
    const { signal } = control;
    $("attract").hidden = false;
    document.documentElement.classList.add("attracting");
    $("begin").focus({ preventScroll: true });
    for (let turn = 0; !signal.aborted; turn += 1) {
      try {
        const fresh = tales.length < TALES || turn % TALES === TALES - 1;
        if (!document.hidden) await (fresh ? tell(1 + (turn % 5), signal) : tellAgain(signal));
      } catch {
        // busy or down: the page itself notices, and reloads when the server is back
      }
      await rest(REST_MS, signal);
    }
  }

  function stage() {
    const shown = element("span");
    $("tale").replaceChildren(shown);
    let text = "";
    return (more, p) => {
      if (p !== undefined) lit(p);
      if (!more) return;
      text += more;
      const from = text.length > N_SHOWN ? text.indexOf(" ", text.length - N_SHOWN) + 1 : 0;
      shown.replaceChildren(from ? "\u2026 " : "", ...withMarks(text.slice(from)));
    };
  }

  async function tell(level, signal) {
    const topic = topics[Math.floor(Math.random() * topics.length)];
    const put = stage();
    const pieces = [];
    const begun = Date.now();
    await listen({ topic, green: level, temp: 0.7, unattended: true }, signal, (name, data) => {
      if (signal.aborted || name !== "text") return;
      const { text, chance } = data[level];
      const p = chance?.[chance.length - 1][1];
      pieces.push([Date.now() - begun, text, p]);
      put(text, p);
    });
    lit(0);
    tales.push(pieces);
    if (tales.length > TALES) tales.shift();
  }

  async function tellAgain(signal) {
    const put = stage();
    let last = 0;
    for (const [at, text, p] of tales[Math.floor(Math.random() * tales.length)]) {
      await rest(at - last, signal);
      if (signal.aborted) return;
      last = at;
      put(text, p);
    }
    lit(0);
  }

  // ---- a visitor

  function wake() {
    control.abort();
    $("attract").hidden = true;
    $("tale").replaceChildren();
    document.documentElement.classList.remove("attracting");
    reset();
    $("topic").focus({ preventScroll: true });
    ask("/api/visit", {}).catch(() => {});
    // Both need a visitor's touch, and both may be refused: a stand that is set up as one has them already.
    document.documentElement.requestFullscreen?.().catch(() => {});
    stayAwake();
  }

  function stayAwake() {
    if (document.visibilityState === "visible") navigator.wakeLock?.request("screen").catch(() => {});
  }

  const asleep = () => !$("attract").hidden;
  const asked = () => !$("still").hidden;

  function swallow(event) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  // A sign of life. One that wakes the page, or answers its question, does nothing else.
  function sign(event) {
    touched = Date.now();
    if (!asleep() && !asked()) return;
    swallow(event);
    if (event.type === "touchstart" || event.type === "pointerdown") {
      swallowing = Date.now() + SWALLOW_MS;
      return;
    }
    answer();
  }

  function answer() {
    touched = Date.now();
    $("still").hidden = true;
    if (asleep()) wake();
    else $("topic").focus({ preventScroll: true });
  }

  // The end of the touch: browsers grant full screen only then.
  function end(event) {
    touched = Date.now();
    if (!asleep() && !asked()) {
      const pressed = event.type === "click" && !event.detail; // by a key, or by a form that is sent
      if (Date.now() < swallowing && !pressed) swallow(event);
      return;
    }
    swallowing = Date.now() + SWALLOW_MS;
    swallow(event);
    answer();
  }

  const capture = { capture: true, passive: false };
  for (const name of ["pointerdown", "touchstart", "keydown", "wheel"]) addEventListener(name, sign, capture);
  for (const name of ["click", "touchend"]) addEventListener(name, end, capture);
  addEventListener("pointermove", () => (touched = asked() ? touched : Date.now()), { passive: true });
  addEventListener("scroll", () => (touched = asked() ? touched : Date.now()), { passive: true });
  addEventListener("contextmenu", (event) => event.preventDefault());
  document.addEventListener("visibilitychange", stayAwake);
  stayAwake();
  setInterval(tick, 500);
}
