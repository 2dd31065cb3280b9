// The page: the form, the keys, the stories in progress, and the states of the server.

import { follow, look as lookAgain, stopFollowing } from "./follow.js";
import { closeWall, openWall } from "./gallery.js";
import * as kept from "./kept.js";
import { attach } from "./kiosk.js";
import { save } from "./picture.js";
import { listen, state } from "./stream.js";
import { Lamp, Story, element, levelWord, obsession, phrase, setObsession } from "./story.js";

const LEVELS = [1, 2, 3, 4, 5];
const TURN_MS = 350; // how long the dial must rest before the story continues at the new level
const TURN_CHARS = 160; // a sentence that is longer is left at the end of a word
const POLL_MS = { waking: 400, lost: 1500, kiosk: 3000, quiet: 10000 };
const SPOKEN = 12; // sentences kept in the live region
const SEED_MAX = 2 ** 32 - 1;
const $ = (id) => document.getElementById(id);
const root = document.documentElement;

const bay = new Lamp($("bay"), $("percent"));
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

// The name of the chosen model, where there is a choice.
function model() {
  return $("teller").hidden ? undefined : $("model").value;
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

// Moves the focus, and the page with it if the place cannot be seen.
function focusOn(place) {
  place.focus({ preventScroll: true });
  inView(place);
}

function inView(place) {
  place.scrollIntoView({ block: "nearest", behavior: "instant" });
}

// The picture grows again after a story, and pushes down what is below it.
$("bay").addEventListener("transitionend", ({ target, currentTarget, propertyName }) => {
  if (target === currentTarget && propertyName === "height" && document.activeElement === $("again")) inView($("again"));
});

// ---- telling

function busy(on) {
  root.classList.toggle("telling", on);
  $("tell").disabled = $("five").disabled = on || !server?.ready;
  $("stop").hidden = !on;
}

// Sets the page for stories at `levels`; `old` stays beside the new one.
function clear(levels, old = null) {
  $("stories").replaceChildren(...(old ? [old.card] : []));
  $("said").replaceChildren();
  $("share").hidden = $("link").hidden = true;
  root.classList.add("has-story");
  root.classList.toggle("fivefold", levels.length > 1);
  root.classList.toggle("beside", Boolean(old));
  old?.card.classList.add("old");
  $("share").after($("chips"));
  $("chips").classList.add("after");
}

// `fresh` takes a new seed, unless the visitor keeps the old one. `beside` leaves the story before in view.
function begin(levels, { fresh = false, beside = false } = {}) {
  const topic = $("topic").value.trim() || $("topic").placeholder;
  if (current?.live || !server?.ready) return;
  if (fresh && !$("keep").checked) newSeed();
  if (seed() === null) {
    status(`A seed is a whole number from 0 to ${SEED_MAX}.`);
    return focusOn($("seed"));
  }
  $("topic").value = topic;
  note("");
  const before = beside && levels.length === 1 && current?.stories.size === 1 ? [...current.stories.values()][0] : null;
  clear(levels, before);
  bay.set(0);
  current = { topic, levels, seed: seed(), temp: Number($("temp").value), model: model(), stories: new Map(), live: true };
  busy(true);
  focusOn($("stop"));
  status("");
  run(current);
}

// Asks for the stories, or for the rest of one that has begun. A full line is waited for.
async function run(mine, story = "") {
  mine.control = new AbortController();
  const { signal } = mine.control;
  const body = { topic: mine.topic, green: mine.levels, seed: mine.seed, temp: mine.temp, model: mine.model };
  if (story) body.story = story;
  const onEvent = (name, data) => !signal.aborted && handle(mine, name, data);
  try {
    await listen(body, signal, onEvent);
    if (!signal.aborted && mine.live) finish(mine, "The exhibit closed before the story reached its end.");
  } catch (error) {
    if (signal.aborted) return;
    if (error.wait && server?.ready) return waitInLine(mine, story, error);
    refused(mine, error);
  }
}

function waitInLine(mine, story, error) {
  let left = error.wait;
  const count = () => {
    if (mine !== current || !mine.live || mine.control.signal.aborted) return;
    if (left <= 0) return run(mine, story);
    status(`${error.message}. It asks again in ${left} s.`);
    left -= 1;
    setTimeout(count, 1000);
  };
  count();
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
    for (const [key, { text, chance }] of Object.entries(data)) {
      const story = mine.stories.get(Number(key));
      if (mine.turnTo && text && turnAt(mine, story, text)) return;
      if (text) story.append(text);
      if (chance) story.chance(chance[chance.length - 1][1]);
    }
    lookAgain();
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
  return `The page is full: this model can look back over ${chosen(server).context.toLocaleString("en")} characters and no more.`;
}

function ordinal(n) {
  return n === 1 ? "Next" : `${n}${["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] || "th"}`;
}

// Makes a card for each story. After a turn of the dial, the existing card continues.
function show(mine) {
  const now = mine.levels;
  mine.open = new Set(now);
  if (mine.continued) {
    if (mine.continued.level !== now[0]) mine.continued.turn(now[0]);
    mine.stories = new Map([[now[0], mine.continued]]);
    return follow(mine.continued.body);
  }
  const several = now.length > 1;
  const brightest = new Map();
  for (const one of now) {
    const lit = (p) => {
      brightest.set(one, p);
      bay.set(Math.max(...brightest.values()));
    };
    const options = { say: several ? undefined : say, lit, sources: chosen(server).sources, model: mine.model };
    mine.stories.set(one, new Story($("stories"), one, mine.topic, options));
  }
  const first = mine.stories.get(now[0]);
  if (several) first.card.scrollIntoView({ behavior: Lamp.still.matches ? "instant" : "smooth", block: "start" });
  else follow(first.body);
}

function finish(mine, why = "") {
  for (const one of mine.open ?? []) mine.stories.get(one)?.end(why);
  const held = document.activeElement === $("stop") || document.activeElement === document.body;
  mine.live = false;
  mine.continued = mine.turnTo = null;
  clearTimeout(turning);
  stopFollowing();
  busy(false);
  bay.set(0);
  if (mine.stories.size) remember(mine);
  showShare();
  if (held) focusOn($(mine.stories.size ? "again" : "tell"));
  const counts = [...mine.stories].map(([one, story]) => `${story.mentions} at ${levelWord(one)}`);
  const one = [...mine.stories.values()][0];
  if (why) status(mine.stories.size ? "" : why);
  else if (counts.length > 1) status(`Mentions of the ${obsession.name}: ${counts.join(", ")}.`);
  else if (one) status(`The ${obsession.name} came ${times(one.mentions)}.`);
}

function times(n) {
  return n === 1 ? "once" : `${n} times`;
}

function stop() {
  if (!current?.live) return;
  current.control.abort();
  finish(current, "Stopped here.");
  status("Stopped.");
}

function refused(mine, error) {
  const said = error.status ? [error.message, error.hint] : ["The server does not answer, and the story ends here"];
  const because = said.filter(Boolean).map((sentence) => `${sentence.replace(/[.]$/u, "")}.`).join(" ");
  finish(mine, mine.stories.size ? because : "");
  if (error.status === 422 && !mine.stories.size) {
    if (server?.kiosk) $("topic").value = "";
    note(because, true);
    focusOn($("topic"));
  } else if (error.status) status(because);
  else lost();
}

// ---- the dial turned during a story: the sentence ends first, then the story continues at the new level

function turned() {
  showDial();
  clearTimeout(turning);
  if (!current?.live || current.levels.length > 1) return;
  if (current.levels[0] === level()) {
    current.turnTo = null;
    return status("");
  }
  turning = setTimeout(() => {
    const mine = current;
    if (!mine?.live || mine.levels[0] === level()) return;
    const story = [...mine.stories.values()][0];
    if (story?.text) {
      mine.turnTo = { level: level(), since: story.text.length };
      return status(`The next sentence is told at ${levelWord(level())}.`);
    }
    mine.control.abort();
    mine.levels = [level()];
    if (story) story.card.remove();
    mine.stories = new Map();
    run(mine);
  }, TURN_MS);
}

// Turns where a sentence has ended, or a word if the sentence is long; returns whether it did. `more` is not shown yet.
function turnAt(mine, story, more) {
  const begun = story.text.length;
  const text = story.text + more;
  const slow = begun - mine.turnTo.since > TURN_CHARS;
  const ends = slow ? /(?=\s)/gu : /(?<=[.!?]["')]*)(?=\s)/gu;
  ends.lastIndex = begun;
  const end = ends.exec(text);
  if (!end) return false;
  mine.control.abort();
  if (end.index > begun) story.append(text.slice(begun, end.index));
  mine.levels = [mine.turnTo.level];
  mine.turnTo = null;
  mine.continued = story;
  status("");
  run(mine, story.text);
  return true;
}

// ---- what was told: kept in the tab, leafed through, taken along

function remember(mine) {
  const stories = [...mine.stories.values()].filter((story) => story.text.trim());
  if (!stories.length) return;
  const { topic, seed: from, temp, levels } = mine;
  kept.add({ topic, levels, seed: from, temp, model: mine.model, stories: stories.map((story) => story.kept()) });
}

function showShare() {
  const { n, all } = kept.place();
  $("share").hidden = !current?.stories.size;
  $("leaf").hidden = all < 2;
  $("leaf-place").textContent = `${n} of ${all}`;
  $("earlier").disabled = n <= 1;
  $("later").disabled = n >= all;
  $("picture").hidden = !(current?.stories.size === 1);
}

function restore(told) {
  const { topic, levels, temp } = told;
  clear(levels);
  current = { ...told, stories: new Map(), live: false };
  $("topic").value = topic;
  $("seed").value = told.seed;
  $("temp").value = temp;
  if (told.model) $("model").value = told.model;
  if (levels.length === 1) setDial(levels[0]);
  showTemp();
  for (const one of told.stories) {
    const story = Story.restore($("stories"), one, topic, { sources: chosen(server).sources, model: told.model });
    current.stories.set(story.level, story);
  }
  showShare();
  status("");
}

function leaf(by) {
  if (current?.live) return;
  const told = kept.leaf(by);
  if (told) restore(told);
}

function takeAlong() {
  const [[one, story]] = current.stories;
  const count = `The ${obsession.name} came ${times(story.mentions)}.`;
  save(current.topic, { title: $("title").textContent, topic: current.topic, level: one, word: levelWord(one), text: story.text, count });
  status("The picture is in your downloads.");
}

// The link: its fragment fills in the form, but does not start a story.
function fragment() {
  const parts = new URLSearchParams({ topic: current.topic, green: level(), seed: current.seed, temp: current.temp });
  if (current.model) parts.set("model", current.model);
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
  showWall();
  if (server?.kiosk) return;
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
  if ([...$("model").options].some((option) => option.value === given.get("model"))) chooseModel(given.get("model"));
  showTemp();
  status(`Filled in from a link. ${given.has("all") ? "\u201cAll five at once\u201d" : "Enter"} tells it.`);
  focusOn(given.has("all") ? $("five") : $("topic"));
}

// ---- the wall of stories

function showWall() {
  const on = location.hash === "#gallery" && Boolean(server?.ready);
  if (on === !$("wall").hidden) return;
  root.classList.toggle("gallery", on);
  $("wall").hidden = !on;
  if (!on) return closeWall($("wall-columns"));
  openWall($("wall-columns"), server.topics, model(), kept.all());
  $("wall-title").focus({ preventScroll: true });
}

// ---- the server's state

function lost() {
  status("The light has gone out: the server does not answer. This page waits for it and keeps what was told.");
  server = null;
  $("tell").disabled = $("five").disabled = true;
}

// A page under /visit is a visitor's own, whatever the stand is.
function asServed(now) {
  return location.pathname === "/visit" ? { ...now, kiosk: false } : now;
}

async function look() {
  let wait = POLL_MS.quiet;
  try {
    const before = server;
    const now = asServed(await state());
    if (look.life && look.life !== now.life && now.kiosk) return location.reload();
    const returned = look.life && (look.life !== now.life || !before);
    look.life = now.life;
    server = now;
    root.classList.toggle("kiosk", now.kiosk);
    if (!before) arrive(now);
    showObsession(chosen(now));
    $("tell").disabled = $("five").disabled = !now.ready || Boolean(current?.live);
    about(chosen(now), now.version);
    if (now.failed) status("The model has stopped. Start it again with: gatsby serve");
    else if (!now.ready) status("The model is waking.");
    else if (returned && !current?.live) status("The light is back.");
    else if ($("status").textContent === "The model is waking.") status("");
    if (now.ready) showWall();
    wait = now.ready ? (now.kiosk ? POLL_MS.kiosk : POLL_MS.quiet) : POLL_MS.waking;
  } catch {
    if (!current?.live) lost();
    wait = POLL_MS.lost;
  }
  setTimeout(look, wait);
}

// What the chosen model is, and what it cannot stop reaching for.
function chosen(now) {
  const found = now.models.find(({ name }) => name === model()) ?? now.models[0];
  return { ...found, levels: Object.values(found.levels) };
}

function chooseModel(name) {
  $("model").value = name;
  showObsession(chosen(server));
  about(chosen(server), server.version);
}

// The page is written for the green light; another obsession brings its words and its color.
function showObsession({ obsession: { phrase: words, title }, levels }) {
  setObsession({ phrase: words, levels });
  if (words !== $("phrase").textContent) {
    document.title = $("title").textContent = title;
    $("phrase").textContent = words;
    const green = words === "green light";
    $("lede").textContent = green ? $("lede").dataset.green : `Name anything. Turn the dial up. However the story begins, it comes to the ${words}.`;
    $("dial-label").textContent = `How strong the ${obsession.name} is`;
    showColor(words);
  }
  for (const lamp of $("lamps").children) lamp.textContent = levelWord(Number(lamp.dataset.level));
  showDial();
}

// A word of the phrase that names a color is the lamp's color; else the lamp is the yellow of most lamps.
function showColor(words) {
  const name = words.split(" ").find((word) => CSS.supports("color", word)) ?? "gold";
  if (name === "green") {
    root.style.removeProperty("--hue");
    return root.style.removeProperty("--sat");
  }
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  pen.fillStyle = name;
  pen.fillRect(0, 0, 1, 1);
  const [r, g, b] = pen.getImageData(0, 0, 1, 1).data;
  const [most, least] = [Math.max(r, g, b), Math.min(r, g, b)];
  const spread = most - least || 1;
  const hue = most === r ? ((g - b) / spread) % 6 : most === g ? (b - r) / spread + 2 : (r - g) / spread + 4;
  root.style.setProperty("--hue", String(Math.round(60 * hue + 360) % 360));
  root.style.setProperty("--sat", String(most === least ? 0 : 1));
}

function arrive(now) {
  $("lede").dataset.green ??= $("lede").textContent;
  const chips = [...now.topics].sort(() => Math.random() - 0.5).slice(0, now.kiosk ? 3 : 5);
  $("topic").placeholder = chips[0] ?? $("topic").placeholder;
  $("chips").replaceChildren(...chips.map((topic) => element("li", {}, element("button", { type: "button", textContent: topic }))));
  const names = now.models.map(({ name }) => name);
  const was = $("model").value;
  $("model").replaceChildren(...names.map((name) => element("option", { value: name, textContent: name })));
  if (names.includes(was)) $("model").value = was;
  $("teller").hidden = names.length < 2;
  if (now.code) {
    $("code").firstElementChild.src = "/code.svg";
    $("code").hidden = location.pathname === "/visit";
  }
  if (arrive.done) return;
  arrive.done = true;
  if (now.kiosk) {
    attach({ idle: now.idle_s, topics: now.topics, reset, lit: (p) => bay.set(p), telling: () => Boolean(current?.live), words: countWords });
    return;
  }
  const told = kept.open();
  const arrived = performance.getEntriesByType("navigation")[0]?.type;
  if (told && !(location.hash.includes("topic=") && arrived === "navigate")) restore(told);
  else fill();
}

// How much there is to read: the words of the stories on the page.
function countWords() {
  return [...document.querySelectorAll(".story .text")].reduce((n, p) => n + p.textContent.split(/\s+/u).length, 0);
}

function about({ name, parameters, layers, width, context, replaced, sources }, version) {
  const size = parameters >= 1e6 ? `${(parameters / 1e6).toFixed(1)} million` : parameters.toLocaleString("en");
  const text =
    `The model \u201c${name}\u201d has ${size} parameters in ${layers} layers of ${width}, and can look back over ${context.toLocaleString("en")} ` +
    `characters. It writes letter by letter, on this machine. gatsby-mlx ${version}.`;
  const unknown = sources ? "" : " The stories that it learned from are not on this machine.";
  const newer = replaced ? " A newer one is on the disk: restart the exhibit to use it." : "";
  $("about").textContent = `${text}${unknown}${newer}`;
}

// Reset the page, as if nobody had been here.
function reset() {
  if (current?.live) current.control.abort();
  clearTimeout(turning);
  current = null;
  stopFollowing();
  busy(false);
  root.classList.remove("fivefold", "has-story", "beside");
  $("ask").reset();
  $("topic-note").after($("chips"));
  $("chips").classList.remove("after");
  newSeed();
  setDial(3);
  showDial();
  showTemp();
  note("");
  status("");
  bay.set(0);
  for (const id of ["stories", "said"]) $(id).replaceChildren();
  $("share").hidden = $("link").hidden = true;
  if (server) showObsession(chosen(server));
  history.replaceState(null, "", location.pathname);
  scrollTo(0, 0);
}

// ---- wiring

function again() {
  begin(current.levels.length > 1 ? LEVELS : [level()], { fresh: true, beside: true });
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  begin([level()], { fresh: Boolean(current) });
});
$("five").addEventListener("click", () => begin(LEVELS, { fresh: Boolean(current) }));
$("stop").addEventListener("click", stop);
$("again").addEventListener("click", again);
$("picture").addEventListener("click", takeAlong);
$("copy").addEventListener("click", copy);
$("earlier").addEventListener("click", () => leaf(-1));
$("later").addEventListener("click", () => leaf(1));
$("green").addEventListener("input", turned);
$("temp").addEventListener("input", showTemp);
$("seed").addEventListener("input", () => ($("keep").checked = true));
$("topic").addEventListener("input", () => note(""));
$("model").addEventListener("change", () => chooseModel($("model").value));
$("wall-close").addEventListener("click", () => {
  location.hash = "";
  focusOn($("topic"));
});
$("lamps").addEventListener("click", (event) => {
  const lamp = event.target.closest("li");
  if (lamp) setDial(Number(lamp.dataset.level));
});
$("chips").addEventListener("click", (event) => {
  if (event.target.tagName !== "BUTTON") return;
  $("topic").value = event.target.textContent;
  note("");
  focusOn($("topic"));
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Enter" && event.repeat) return event.preventDefault(); // a key that is held down tells one story
  const { tagName, type } = event.target;
  const writing = (tagName === "INPUT" && type === "text") || tagName === "SELECT";
  if (event.key === "Escape") stop();
  else if (/^[1-5]$/.test(event.key) && !writing) setDial(Number(event.key));
  else if (event.key === "Enter" && !writing && !["BUTTON", "A", "SUMMARY"].includes(tagName)) {
    event.preventDefault();
    if (current?.stories.size) again();
    else begin([level()]);
  }
});
addEventListener("hashchange", fill);

newSeed();
showDial();
showTemp();
look();
