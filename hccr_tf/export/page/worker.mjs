// The recogniser in a thread of its own, so that drawing never waits for it.

import { ImageError } from "./cleaning.mjs";
import * as ort from "./onnxruntime-web/ort.wasm.bundle.min.mjs";
import { Recognizer } from "./recognizer.mjs";

let recognizer;

/** The bytes of base64 of gzip. */
async function unpacked(text) {
  const { body } = await fetch(`data:application/octet-stream;base64,${text}`);
  const stream = body.pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// First {wasm, model, facts}; then an image each, answered by {candidates}, {blank} or {failed}.
self.onmessage = async ({ data }) => {
  try {
    if (data.model) {
      const [wasm, model] = await Promise.all([data.wasm, data.model].map(unpacked));
      recognizer = await Recognizer.create(ort, wasm, model, data.facts);
      self.postMessage({ ready: true });
    } else {
      self.postMessage({ candidates: await recognizer.read(data, 9) });
    }
  } catch (error) {
    self.postMessage(error instanceof ImageError ? { blank: true } : { failed: String(error) });
  }
};
