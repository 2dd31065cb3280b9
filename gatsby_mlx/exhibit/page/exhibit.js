// The page: the form, the keys, the stories in progress, and the states of the server.

import { attach } from "./kiosk.js";
import { listen, state } from "./stream.js";
import { Lamp, Story, element, levelWord, obsession, setObsession } from "./story.js";

const LEVELS = [1, 2, 3, 4, 5];
const TURN_MS = 350; // how long the dial must rest before the story continues at the new level
const POLL_MS = { waking: 400, lost: 1500, kiosk: 3000, quiet: 10000 };
const SPOKEN = 12; // sentences kept in the live region
const SEED_MAX = 2 ** 32 - 1;
const $ = (id) => document.getElementById(id);

const bay = new Lamp($("bay"));
let server = null; // the latest answer of /api/state
let current = null; // the request in progress, or the last one
let turning = 0;

// ---- the form

function level() {
  return Number($("green").value);
}

function showDial() {
  const now = level();
  $("green").setAttribute("aria-valuetext", `${now}, ${levelWord(now)}`);
  for (const lamp of $("lamps").children) {
    lamp.classList.toggle("lit", Number(lamp.dataset.level) <= now);
    lamp.classList.toggle("on", Number(lamp.dataset.level) === now);
  }
}

function setDial(to) {
  if (to === level()) return;
  $("green").value = to;
  $("green").dispatchEvent(new Event("input", { bubbles: true }));
}

function showTemp() {
  $("temp-value").value = Number($("temp").value).toFixed(2);
}

function newSeed() {
  $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
}

function seed() {
  const given = $("seed").value.trim();
  return /^\d{1,10}$/.test(given) && Number(given) <= SEED_MAX ? Number(given) : null;
}

function note(text, wrong = false) {
  $("topic-note").textContent = text;
  $("topic-note").classList.toggle("wrong", wrong);
  $("topic").setAttribute("aria-invalid", String(wrong));
}

function status(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function say(sentence) {
  $("said").append(element("p", { textContent: sentence }));
  while ($("said").children.length > SPOKEN) $("said").firstChild.remove();
}

function readOut(p) {
  $("percent").textContent = `${Math.round(100 * p)}%`;
  bay.set(p);
}

// ---- telling

function busy(on) {
  document.body.classList.toggle("telling", on);
  $("tell").hidden = $("five").hidden = on;
  $("stop").hidden = !on;
}

// `fresh` takes a new seed, unless the visitor keeps the old one.
function begin(levels, fresh) {
  const topic = $("topic").value.trim() || $("topic").placeholder;
  if (current?.live || !server?.ready) return;
  if (fresh && !$("keep").checked) newSeed();
  if (seed() === null) {
    status(`A seed is a whole number from 0 to ${SEED_MAX}.`);
    return $("seed").focus();
  }
  $("topic").value = topic;
  $("stories").replaceChildren();
  $("said").replaceChildren();
  $("share").hidden = $("link").hidden = true;
  document.body.classList.add("has-story");
  document.body.classList.toggle("fivefold", levels.length > 1);
  readOut(0);
  current = { topic, levels, seed: seed(), temp: Number($("temp").value), stories: new Map(), live: true };
  busy(true);
  $("stop").focus({ preventScroll: true });
  status("");
  run({ topic, green: levels, seed: current.seed, temp: current.temp });
}

async function run(body) {
  const mine = current;
  mine.control = new AbortController();
  const { signal } = mine.control;
  const onEvent = (name, data) => !signal.aborted && handle(mine, name, data);
  try {
    await listen(body, signal, onEvent);
    if (!signal.aborted && mine.live) finish(mine, "The exhibit closed before the story reached its end.");
  } catch (error) {
    if (signal.aborted) return;
    refused(mine, error);
  }
}

function handle(mine, name, data) {
  if (name === "start") {
    mine.topic = data.topic;
    const typed = $("topic").value.trim();
    note(typed.toLowerCase() === data.topic ? "" : `The model reads it as \u201c${data.topic}\u201d.`);
  } else if (name === "place") {
    status(data.place ? (data.ready ? `${ordinal(data.place)} in line. It begins by itself.` : "The model is waking.") : "");
    if (!data.place) show(mine);
  } else if (name === "text") {
    for (const [key, { text, light }] of Object.entries(data)) {
      const story = mine.stories.get(Number(key));
      if (text) story.append(text);
      if (light) story.readings(light);
    }
  } else if (name === "end") {
    for (const [key, end] of Object.entries(data)) {
      mine.open.delete(Number(key));
      mine.stories.get(Number(key)).end(end.finish === "context" ? full() : "");
    }
    if (!mine.open.size) finish(mine);
  } else if (name === "closed") {
    finish(mine, "The exhibit closed before the story reached its end.");
  }
}

function full() {
  return `Here the page is full: the model sees ${server.model.context.toLocaleString("en")} characters and no more.`;
}

function ordinal(n) {
  return n === 1 ? "Next" : `${n}${["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] || "th"}`;
}

// Makes a card for each story. After a turn of the dial, the existing card continues.
function show(mine) {
  const now = mine.levels;
  mine.open = new Set(now);
  if (mine.continued) {
    mine.continued.turn(now[0]);
    mine.stories = new Map([[now[0], mine.continued]]);
    return;
  }
  const several = now.length > 1;
  const brightest = new Map();
  for (const one of now) {
    const lit = (p) => {
      brightest.set(one, p);
      readOut(Math.max(...brightest.values()));
    };
    const options = { say: several ? undefined : say, lit, sources: server.sources };
    mine.stories.set(one, new Story($("stories"), one, mine.topic, options));
  }
  if (innerHeight < $("stories").getBoundingClientRect().top + 160) {
    $("stories").scrollIntoView({ behavior: Lamp.still.matches ? "auto" : "smooth", block: "center" });
  }
}

function finish(mine, why = "") {
  for (const one of mine.open ?? []) mine.stories.get(one)?.end(why);
  const held = document.activeElement === $("stop");
  mine.live = false;
  mine.continued = null;
  busy(false);
  readOut(0);
  $("share").hidden = !mine.stories.size;
  if (held) $(mine.stories.size ? "again" : "tell").focus({ preventScroll: true });
  const counts = [...mine.stories].map(([one, story]) => `${story.mentions} at ${levelWord(one)}`);
  const one = [...mine.stories.values()][0];
  if (why) status(mine.stories.size ? "" : why);
  else if (counts.length > 1) status(`Mentions of the ${obsession.name}: ${counts.join(", ")}.`);
  else if (one) status(`The ${obsession.name} came ${one.mentions === 1 ? "once" : `${one.mentions} times`}.`);
}

function stop() {
  if (!current?.live) return;
  current.control.abort();
  finish(current, "Stopped here.");
  status("Stopped.");
}

function refused(mine, error) {
  const because = error.hint ? `${error.message}. ${error.hint}.` : `${error.message}.`;
  finish(mine, mine.stories.size ? because : "");
  if (error.status === 422 && !mine.stories.size) {
    note(because, true);
    $("topic").focus();
  } else if (error.status) status(because);
  else lost();
}

// The dial was turned during a story: the text stays, and the story continues at the new level.
function turned() {
  showDial();
  clearTimeout(turning);
  if (!current?.live || current.levels.length > 1 || current.levels[0] === level()) return;
  turning = setTimeout(() => {
    if (!current?.live || current.levels[0] === level()) return;
    const story = [...current.stories.values()][0];
    current.control.abort();
    current.levels = [level()];
    current.continued = story?.text ? story : null;
    if (story && !story.text) $("stories").replaceChildren();
    if (!story?.text) current.stories = new Map();
    run({ topic: current.topic, green: current.levels, seed: current.seed, temp: current.temp, story: story?.text ?? "" });
  }, TURN_MS);
}

// ---- the link: its fragment fills in the form, but does not start a story

function fragment() {
  const parts = new URLSearchParams({ topic: current.topic, green: level(), seed: current.seed, temp: current.temp });
  if (current.levels.length > 1) parts.set("all", "1");
  return `${location.origin}/#${parts}`;
}

async function copy() {
  $("link").value = fragment();
  try {
    await navigator.clipboard.writeText($("link").value);
    status("The link is copied. It fills in the form and waits for Enter.");
  } catch {
    $("link").hidden = false;
    $("link").select();
    status("Copy the link from here.");
  }
}

function fill() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.get("topic")) return;
  $("topic").value = given.get("topic").slice(0, 200);
  if (LEVELS.includes(Number(given.get("green")))) setDial(Number(given.get("green")));
  if (/^\d{1,10}$/.test(given.get("seed") ?? "")) {
    $("seed").value = given.get("seed");
    $("keep").checked = true;
  }
  const temp = Number(given.get("temp"));
  if (given.has("temp") && temp >= 0 && temp <= 1.5) $("temp").value = temp;
  showTemp();
  status(`Filled in from a link. ${given.has("all") ? "\u201cAll five at once\u201d" : "Enter"} tells it.`);
  (given.has("all") ? $("five") : $("topic")).focus();
}

// ---- the server's state

function lost() {
  status("The light has gone out: the server does not answer. This page waits for it.");
  server = null;
  $("tell").disabled = $("five").disabled = true;
}

async function look() {
  let wait = POLL_MS.quiet;
  try {
    const before = server;
    const now = await state();
    if (look.life && look.life !== now.life && now.kiosk) return location.reload();
    const returned = look.life && (look.life !== now.life || !before);
    look.life = now.life;
    server = now;
    document.body.classList.toggle("kiosk", now.kiosk);
    showObsession(now);
    if (!before) arrive(now);
    $("tell").disabled = $("five").disabled = !now.ready;
    about(now);
    if (now.failed) status("The model has stopped. Start it again with: gatsby serve");
    else if (!now.ready) status("The model is waking.");
    else if (returned && !current?.live) status("The light is back.");
    else if ($("status").textContent === "The model is waking.") status("");
    wait = now.ready ? (now.kiosk ? POLL_MS.kiosk : POLL_MS.quiet) : POLL_MS.waking;
  } catch {
    if (!current?.live) lost();
    wait = POLL_MS.lost;
  }
  setTimeout(look, wait);
}

// The page is written for the green light; the words of another obsession come from the server.
function showObsession({ obsession: { phrase, title }, levels }) {
  const words = Object.values(levels);
  const changed = phrase !== $("phrase").textContent;
  setObsession({ phrase, levels: words });
  if (changed) {
    document.title = $("title").textContent = title;
    $("phrase").textContent = phrase;
  }
  for (const lamp of $("lamps").children) lamp.textContent = levelWord(Number(lamp.dataset.level));
  showDial();
}

function arrive(now) {
  const chosen = [...now.topics].sort(() => Math.random() - 0.5).slice(0, now.kiosk ? 3 : 5);
  $("topic").placeholder = chosen[0] ?? $("topic").placeholder;
  $("chips").replaceChildren(...chosen.map((topic) => element("li", {}, element("button", { type: "button", textContent: topic }))));
  if (now.kiosk && !look.kiosk) look.kiosk = attach({ idle: now.idle_s, topics: now.topics, reset, lit: (p) => bay.set(p) });
}

function about({ model, version }) {
  const { name, parameters, layers, width, context, replaced } = model;
  const size = parameters >= 1e6 ? `${(parameters / 1e6).toFixed(1)} million` : parameters.toLocaleString("en");
  const text =
    `The model, ${name}, has ${size} parameters in ${layers} layers of ${width}, and sees ${context.toLocaleString("en")} ` +
    `characters at a time. It writes letter by letter, on this machine. gatsby-mlx ${version}.`;
  $("about").textContent = replaced ? `${text} A newer one is on the disk: restart the exhibit to use it.` : text;
}

// Reset the page, as if nobody had been here.
function reset() {
  if (current?.live) current.control.abort();
  clearTimeout(turning);
  current = null;
  busy(false);
  document.body.classList.remove("fivefold", "has-story");
  $("ask").reset();
  newSeed();
  setDial(3);
  showDial();
  showTemp();
  note("");
  status("");
  readOut(0);
  for (const id of ["stories", "said"]) $(id).replaceChildren();
  $("share").hidden = $("link").hidden = true;
  history.replaceState(null, "", "/");
  scrollTo(0, 0);
}

// ---- wiring

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  begin([level()], Boolean(current));
});
$("five").addEventListener("click", () => begin(LEVELS, Boolean(current)));
$("stop").addEventListener("click", stop);
$("again").addEventListener("click", () => begin(current.levels.length > 1 ? LEVELS : [level()], true));
$("copy").addEventListener("click", copy);
$("green").addEventListener("input", turned);
$("temp").addEventListener("input", showTemp);
$("seed").addEventListener("input", () => ($("keep").checked = true));
$("topic").addEventListener("input", () => note(""));
$("lamps").addEventListener("click", (event) => {
  const lamp = event.target.closest("li");
  if (lamp) setDial(Number(lamp.dataset.level));
});
$("chips").addEventListener("click", (event) => {
  if (event.target.tagName !== "BUTTON") return;
  $("topic").value = event.target.textContent;
  note("");
  $("topic").focus({ preventScroll: document.body.classList.contains("kiosk") });
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Enter" && event.repeat) return event.preventDefault(); // a key that is held down tells one story
  const { tagName, type } = event.target;
  const writing = tagName === "INPUT" && type === "text";
  if (event.key === "Escape") stop();
  else if (/^[1-5]$/.test(event.key) && !writing) setDial(Number(event.key));
  else if (event.key === "Enter" && !writing && !["BUTTON", "A", "SUMMARY"].includes(tagName)) {
    event.preventDefault();
    begin(current && current.levels.length > 1 ? LEVELS : [level()], Boolean(current));
  }
});
addEventListener("hashchange", fill);

newSeed();
showDial();
showTemp();
fill();
look();
