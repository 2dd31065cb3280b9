// The stories that were told in this tab: kept over a reload, gone when the tab is closed. A kiosk keeps none.

const KEY = "stories";
const MOST = 60;

let list = [];
let at = -1;
let keeps = false;

// Starts keeping, and returns the story that was shown last, or null.
export function open() {
  keeps = true;
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY)) ?? {};
    if (Array.isArray(kept.list)) [list, at] = [kept.list, Math.min(kept.at ?? -1, kept.list.length - 1)];
  } catch {
    // a browser that keeps nothing, or a damaged note
  }
  return list[at] ?? null;
}

export function add(told) {
  if (!keeps) return;
  list = [...list, told].slice(-MOST);
  at = list.length - 1;
  save();
}

// Moves by -1 or 1 and returns the story there, or null where there is none.
export function leaf(by) {
  if (!list[at + by]) return null;
  at += by;
  save();
  return list[at];
}

export function place() {
  return { n: at + 1, all: list.length };
}

export function all() {
  return list;
}

function save() {
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ list, at }));
  } catch {
    // a full or forbidden storage: the stories are kept until a reload
  }
}
