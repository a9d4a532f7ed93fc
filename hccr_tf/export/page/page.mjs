// The page: drawing and images in, candidates out.

import { Drawing } from "./drawing.mjs";
import { WORDS, preferred } from "./words.mjs";

const READ_SIDE = 320; // pixels at which a drawing is read
const IMAGE_SIDE = 2048; // of the longer side of an image: what's larger is made smaller at once
const byId = (id) => document.getElementById(id);
const canvas = byId("drawing");
const drawing = new Drawing();
let image; // in place of a drawing
let candidates = [];
let words;
let said = () => words.loading;
let isReady = false;
let isBusy = false;
let isWaiting = false; // for the worker, to be given what's new

// === Words ===

function speak(language) {
  words = WORDS[language];
  document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
  document.title = words.title;
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = words[element.dataset.text];
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", words[element.dataset.label]);
  }
  byId("language").lang = words.otherLanguageCode;
  say(said);
  showCandidates();
}

/** Shows a function of the words, and shows it anew when the language changes. */
function say(message) {
  said = message;
  const text = message();
  // A reader of the screen speaks what changes only.
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

// === Reading ===

const worker = new Worker("./worker.mjs", { type: "module" });

worker.onmessage = ({ data }) => {
  isBusy = false;
  if (data.ready) {
    isReady = true;
    say(() => words.ready);
  } else if (data.failed && !isReady) {
    say(() => words.failed(data.failed));
  } else if (!drawing.isEmpty || image) {
    candidates = data.candidates ?? [];
    const [best] = candidates;
    say(() => (best ? words.read(best[0], percent(best[1])) : (data.failed ?? words.blank)));
    showCandidates();
  }
  if (isWaiting) read();
};
worker.onerror = (event) => say(() => words.failed(event.message ?? ""));

/** Reads what's drawn or shown now; while the worker reads, the newest waits. */
function read() {
  isWaiting = isBusy || !isReady;
  byId("undo").disabled = drawing.isEmpty;
  byId("clear").disabled = drawing.isEmpty && !image;
  if (drawing.isEmpty && !image) {
    isWaiting = false;
    candidates = [];
    showCandidates();
    if (isReady) say(() => words.ready);
  } else if (!isWaiting) {
    isBusy = true;
    const { width, height, data } =
      image ??
      pixels(READ_SIDE, READ_SIDE, (context) => {
        context.fillStyle = "#fff";
        context.fillRect(0, 0, READ_SIDE, READ_SIDE);
        drawing.draw(context, READ_SIDE, "#000");
      });
    worker.postMessage({ width, height, data });
  }
}

function pixels(width, height, draw) {
  const sheet = Object.assign(document.createElement("canvas"), { width, height });
  const context = sheet.getContext("2d", { willReadFrequently: true });
  draw(context);
  return context.getImageData(0, 0, width, height);
}

function showCandidates() {
  const items = candidates.map(([character, share], i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", words.candidate(character, percent(share), i + 1));
    button.onclick = () => copy(character);
    for (const [name, text] of [
      ["character", character],
      ["bar", ""],
      ["probability", percent(share)],
    ]) {
      const part = document.createElement("span");
      part.className = name;
      part.textContent = text;
      if (name === "character") part.lang = "zh-Hans";
      if (name === "bar") part.style.setProperty("--share", `${100 * share}% 100%`);
      button.append(part);
    }
    const item = document.createElement("li");
    item.append(button);
    return item;
  });
  byId("candidates").replaceChildren(...items);
}

async function copy(character) {
  try {
    await navigator.clipboard.writeText(character);
    say(() => words.copied(character));
  } catch {
    // A browser may refuse; the character can be read all the same.
  }
}

// === Drawing ===

function show() {
  const side = Math.round(canvas.clientWidth * devicePixelRatio);
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  context.clearRect(0, 0, side, side);
  if (image) {
    const scale = side / Math.max(image.width, image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    context.drawImage(image.bitmap, (side - width) / 2, (side - height) / 2, width, height);
    return;
  }
  context.strokeStyle = style.getPropertyValue("--grid");
  context.setLineDash([side / 60, side / 60]);
  context.lineWidth = devicePixelRatio;
  context.beginPath();
  for (const [x, y] of [
    [0, 0.5],
    [0.5, 0],
  ]) {
    context.moveTo(x * side, y * side);
    context.lineTo((1 - x) * side, (1 - y) * side);
  }
  context.stroke();
  context.setLineDash([]);
  drawing.draw(context, side, style.getPropertyValue("--text"));
}

function changed() {
  show();
  read();
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  const inner = canvas.clientWidth;
  return [
    (event.clientX - box.left - canvas.clientLeft) / inner,
    (event.clientY - box.top - canvas.clientTop) / inner,
  ];
}

canvas.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button) return;
  canvas.setPointerCapture(event.pointerId);
  image = undefined;
  drawing.begin(place(event), byId("thickness").value / 100);
  changed();
});
canvas.addEventListener("pointermove", (event) => {
  if (!canvas.hasPointerCapture(event.pointerId)) return;
  const moves = event.getCoalescedEvents?.() ?? [];
  drawing.extend((moves.length ? moves : [event]).map(place));
  changed();
});

function undo() {
  drawing.undo();
  changed();
}

function clear() {
  drawing.clear();
  image = undefined;
  changed();
}

// === Images ===

async function open(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file); // turned as its EXIF data say
  } catch {
    say(() => words.noImage);
    return;
  }
  const scale = Math.min(1, IMAGE_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) =>
    Math.max(1, Math.round(side * scale)),
  );
  const { data } = pixels(width, height, (context) => {
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, width, height);
  });
  drawing.clear();
  image = { width, height, data, bitmap };
  say(() => (isReady ? words.reading : words.loading));
  changed();
}

for (const id of ["file", "camera"]) {
  byId(id).addEventListener("change", ({ target }) => {
    if (target.files.length) open(target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  });
}
document.addEventListener("paste", ({ clipboardData }) => {
  const [file] = clipboardData.files;
  if (file) open(file);
});
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    byId("input").classList.toggle("dropping", type === "dragover");
    if (type === "drop" && event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
  });
}

// === Keys and buttons ===

document.addEventListener("keydown", (event) => {
  const isCommand = event.ctrlKey || event.metaKey;
  if (isCommand && event.key.toLowerCase() === "z") undo();
  else if (event.key === "Escape") clear();
  else if (!isCommand && !event.altKey && /^[1-9]$/.test(event.key) && candidates[event.key - 1]) {
    copy(candidates[event.key - 1][0]);
  } else return;
  event.preventDefault();
});
byId("undo").addEventListener("click", undo);
byId("clear").addEventListener("click", clear);
byId("language").addEventListener("click", () => speak(words.otherLanguageCode));
new ResizeObserver(show).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

speak(preferred(navigator.languages));
changed();
worker.postMessage({
  wasm: byId("wasm").textContent,
  model: byId("model").textContent,
  facts: JSON.parse(byId("facts").textContent),
});
