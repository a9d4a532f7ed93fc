// Reads images as the page does: node read_images.mjs PAGE_MODULES FOLDER, which holds model.onnx,
// facts.json, images.json ([{width, height}, …]) and images.bin (red, green, blue and opacity).
// Writes FOLDER/views.bin, what the network sees, and prints the answers as JSON.

import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";

const [modules, folder] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(resolve(modules, name)));
const { Recognizer } = await load("recognizer.mjs");
const { ImageError, clean } = await load("cleaning.mjs");
const { views } = await load("preprocessing.mjs");
const ort = await load("onnxruntime-web/ort.wasm.bundle.min.mjs");

const file = (name) => readFileSync(resolve(folder, name));
const wasm = gunzipSync(
  readFileSync(resolve(modules, "onnxruntime-web/ort-wasm-simd-threaded.wasm.gz")),
);
const recognizer = await Recognizer.create(
  ort,
  wasm,
  new Uint8Array(file("model.onnx")),
  JSON.parse(file("facts.json")),
);
const pixels = file("images.bin");
const answers = [];
const seen = [];
let start = 0;
for (const { width, height } of JSON.parse(file("images.json"))) {
  const image = { width, height, data: pixels.subarray(start, (start += width * height * 4)) };
  try {
    seen.push(...views(clean(image), recognizer.preprocessing).map((view) => view.data));
    answers.push(await recognizer.read(image, 3));
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    answers.push(error.message);
  }
}
writeFileSync(resolve(folder, "views.bin"), Buffer.concat(seen));
console.log(JSON.stringify(answers));
