// Keeps the end of a growing text in view. It lets go when the visitor scrolls, and takes up again at the text's end.

const MARGIN = 48; // pixels that stay free below the text
const SHARE = 0.2; // of the way, for each frame
const KEYS = ["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End", " "];
const still = matchMedia("(prefers-reduced-motion: reduce)");

let text = null;
let following = false;
let frame = 0;
let last = 0; // where the page was

export function follow(element) {
  [text, following] = [element, true];
  look();
}

// Calls for a look at where the text ends by now.
export function look() {
  if (following && text?.isConnected && !frame) frame = requestAnimationFrame(step);
}

export function stopFollowing() {
  following = false;
  text = null;
}

function step() {
  frame = 0;
  if (!following || !text?.isConnected) return;
  const missing = below();
  if (missing <= 0) return;
  const most = document.documentElement.scrollHeight - innerHeight - scrollY;
  const move = Math.min(most, still.matches ? missing : Math.max(1, missing * SHARE));
  if (move < 1) return;
  scrollBy({ top: move, behavior: "instant" });
  last = scrollY; // the event of this scroll is not the visitor's
  if (!still.matches) look();
}

function below() {
  return text.getBoundingClientRect().bottom + MARGIN - innerHeight;
}

function letGo() {
  following = false;
}

addEventListener("wheel", letGo, { passive: true });
addEventListener("touchmove", letGo, { passive: true });
addEventListener("keydown", ({ key, target }) => {
  if (KEYS.includes(key) && !["INPUT", "BUTTON", "SELECT"].includes(target.tagName)) letGo();
});
addEventListener("pointerdown", ({ target, clientX }) => {
  if (target === document.documentElement && clientX >= target.clientWidth) letGo(); // the scroll bar
});
addEventListener(
  "scroll",
  () => {
    const down = scrollY > last;
    last = scrollY;
    if (down && !following && text?.isConnected && below() <= MARGIN) following = true;
  },
  { passive: true },
);
