// A story as a picture to take along: drawn in the page, saved as a PNG. Nothing leaves this machine.

import { mention } from "./story.js";

const WIDTH = 1200;
const BAY = 520;
const EDGE = 96;
const SCALE = 2; // device pixels
const SERIF = '"Iowan Old Style", "Palatino Linotype", Palatino, Georgia, "DejaVu Serif", serif';
const SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

function color(name) {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.className = `probe-${name}`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// Breaks the text into lines of [words, is a mention] pieces.
function lines(pen, text, width) {
  const broken = [];
  for (const paragraph of text.split("\n")) {
    let line = [];
    let used = 0;
    const pieces = paragraph.split(new RegExp(`(${mention("u").source})`, "iu"));
    pieces.forEach((piece, i) => {
      for (const word of piece.split(/(?<=\s)/u)) {
        const wide = pen.measureText(word).width;
        if (used + pen.measureText(word.trimEnd()).width > width && line.length) {
          broken.push(line);
          [line, used] = [[], 0];
        }
        line.push([word, i % 2 === 1]);
        used += wide;
      }
    });
    broken.push(line);
  }
  return broken;
}

// Returns the picture of a story, {title, topic, level, word, text, count}, as a PNG blob.
export function paint({ title, topic, level, word, text, count }) {
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d");
  const size = text.length > 1200 ? 25 : 30;
  const font = `${size}px ${SERIF}`;
  pen.font = font;
  const broken = lines(pen, text, WIDTH - 2 * EDGE);
  const leading = Math.round(size * 1.55);
  const height = BAY + 150 + broken.length * leading + 110;
  canvas.width = WIDTH * SCALE;
  canvas.height = height * SCALE;
  pen.scale(SCALE, SCALE);
  const [core, near, far] = ["core", "near", "far"].map(color);

  pen.fillStyle = "#0b1418";
  pen.fillRect(0, 0, WIDTH, height);
  const horizon = BAY * 0.55;
  const sky = pen.createLinearGradient(0, 0, 0, horizon);
  sky.addColorStop(0, "#060c10");
  sky.addColorStop(1, "#13262d");
  pen.fillStyle = sky;
  pen.fillRect(0, 0, WIDTH, horizon);
  const water = pen.createLinearGradient(0, horizon, 0, BAY);
  water.addColorStop(0, "#0f2027");
  water.addColorStop(1, "#0b1418");
  pen.fillStyle = water;
  pen.fillRect(0, horizon, WIDTH, BAY - horizon);
  pen.fillStyle = "#0a161b";
  pen.beginPath();
  pen.moveTo(WIDTH * 0.4, horizon);
  pen.bezierCurveTo(WIDTH * 0.6, horizon - 34, WIDTH * 0.8, horizon - 22, WIDTH, horizon - 14);
  pen.lineTo(WIDTH, horizon);
  pen.fill();
  const [x, y] = [WIDTH * 0.72, horizon - 34];
  for (const [radius, strength] of [[300, 0.5], [110, 1]]) {
    const halo = pen.createRadialGradient(x, y, 0, x, y, radius);
    halo.addColorStop(0, near);
    halo.addColorStop(0.35, far);
    halo.addColorStop(1, "transparent");
    pen.globalAlpha = 0.35 * strength;
    pen.fillStyle = halo;
    pen.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
  }
  pen.globalAlpha = 1;
  pen.fillStyle = core;
  pen.beginPath();
  pen.arc(x, y, 6, 0, 7);
  pen.fill();
  pen.strokeStyle = near;
  pen.lineWidth = 3;
  pen.lineCap = "round";
  for (let i = 0; i < 12; i += 1) {
    const wide = 8 + i * 3.4 + (i % 3) * 9;
    pen.globalAlpha = 0.8 - i * 0.06;
    pen.beginPath();
    pen.moveTo(x - wide, horizon + 14 + i * 15);
    pen.lineTo(x + wide * 0.8, horizon + 14 + i * 15);
    pen.stroke();
  }
  pen.globalAlpha = 1;
  pen.fillStyle = "#e7e5d8";
  pen.font = `64px ${SERIF}`;
  pen.fillText(title, EDGE, 150, WIDTH * 0.6);
  pen.font = `36px ${SERIF}`;
  pen.fillText(topic, EDGE, BAY + 40, WIDTH - 2 * EDGE);
  pen.font = `22px ${SANS}`;
  pen.fillStyle = "#9fada7";
  pen.fillText(`Level ${level}, ${word}. ${count}`, EDGE, BAY + 84);
  pen.font = font;
  broken.forEach((line, i) => {
    let left = EDGE;
    for (const [piece, marked] of line) {
      pen.fillStyle = marked ? near : "#e7e5d8";
      pen.shadowColor = marked ? far : "transparent";
      pen.shadowBlur = marked ? 18 : 0;
      pen.fillText(piece, left, BAY + 150 + i * leading);
      left += pen.measureText(piece).width;
    }
  });
  pen.shadowBlur = 0;
  pen.font = `20px ${SANS}`;
  pen.fillStyle = "#9fada7";
  pen.fillText("Told letter by letter by a very small model.", EDGE, height - 48);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

export async function save(name, told) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await paint(told));
  link.download = `${name.replace(/[^a-z0-9]+/giu, "-").replace(/^-|-$/gu, "") || "story"}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
