// An unattended kiosk: the page resets when nobody touches it, and tells stories to the empty room.

import { listen } from "./stream.js";
import { element, mention } from "./story.js";

const REST_MS = 9000; // between two stories
const CLOSE_UP = "560 0 900 420"; // keeps the light in the middle on a screen of any shape
const N_SHOWN = 200; // characters that stay on the screen

export function attach({ idle, topics, reset, lit }) {
  const stage = document.getElementById("attract");
  const tale = document.getElementById("tale");
  const scene = document.querySelector(".scene");
  const fullView = scene.getAttribute("viewBox");
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
    scene.setAttribute("viewBox", CLOSE_UP);
    document.body.classList.add("attracting");
    document.getElementById("begin").focus({ preventScroll: true });
    for (let turn = 0; !signal.aborted; turn += 1) {
      const topic = topics[Math.floor(Math.random() * topics.length)];
      try {
        await show(topic, 1 + (turn % 5), signal);
      } catch {
        // busy or down: the page itself notices, and reloads when the server is back
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
      const from = text.length > N_SHOWN ? text.indexOf(" ", text.length - N_SHOWN) + 1 : 0;
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
    scene.setAttribute("viewBox", fullView);
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
  return text.split(new RegExp(`(${mention("u").source})`, "iu")).map((part, i) => (i % 2 ? element("mark", { textContent: part }) : part));
}
