// A stand that nobody looks after: it begins anew when it is left alone, and tells stories to the empty room.

import { listen } from "./stream.js";
import { element } from "./story.js";

const REST_MS = 9000; // between two stories
const CLOSE = "560 0 900 420"; // the light in the middle, whatever the shape of the screen
const LINES = 200; // characters that stay on the screen

export function attach({ idle, topics, reset, lit }) {
  const stage = document.getElementById("attract");
  const tale = document.getElementById("tale");
  const scene = document.querySelector(".scene");
  const whole = scene.getAttribute("viewBox");
  let timer = 0;
  let control = null;

  const rest = (ms, signal) =>
    new Promise((done) => {
      const waiting = setTimeout(done, ms);
      signal.addEventListener("abort", () => (clearTimeout(waiting), done()));
    });

  async function attract() {
    reset();
    control = new AbortController();
    const { signal } = control;
    stage.hidden = false;
    scene.setAttribute("viewBox", CLOSE);
    document.body.classList.add("attracting");
    document.getElementById("begin").focus({ preventScroll: true });
    for (let turn = 0; !signal.aborted; turn += 1) {
      const topic = topics[Math.floor(Math.random() * topics.length)];
      try {
        await show(topic, 1 + (turn % 5), signal);
      } catch {
        // busy or gone: the page itself finds out, and begins anew when the server is back
      }
      await rest(REST_MS, signal);
    }
  }

  async function show(topic, level, signal) {
    const shown = element("span");
    tale.replaceChildren(shown);
    let text = "";
    await listen({ topic, green: level, temp: 0.7 }, signal, (name, data) => {
      if (signal.aborted || name !== "text") return;
      const { text: more, light } = data[level];
      if (light) lit(light[light.length - 1][1]);
      if (!more) return;
      text += more;
      const from = text.length > LINES ? text.indexOf(" ", text.length - LINES) + 1 : 0;
      shown.replaceChildren(from ? "\u2026 " : "", ...glow(text.slice(from)));
    });
    lit(0);
  }

  function wake(event) {
    clearTimeout(timer);
    timer = setTimeout(attract, 1000 * idle);
    if (stage.hidden) return;
    control.abort();
    stage.hidden = true;
    scene.setAttribute("viewBox", whole);
    tale.replaceChildren();
    document.body.classList.remove("attracting");
    reset();
    if (event.type === "keydown") event.preventDefault();
    document.getElementById("topic").focus({ preventScroll: true });
  }

  for (const sign of ["pointerdown", "keydown", "wheel", "touchstart"]) {
    addEventListener(sign, wake, { capture: true, passive: false });
  }
  addEventListener("contextmenu", (event) => event.preventDefault());
  timer = setTimeout(attract, 1000 * idle);
}

function glow(text) {
  return text.split(/(green\s+light)/i).map((part, i) => (i % 2 ? element("mark", { textContent: part }) : part));
}
