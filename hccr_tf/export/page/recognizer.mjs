// An image to characters and their probabilities: hccr_tf/inference/recognizer.py in the browser.

import { clean } from "./cleaning.mjs";
import { views } from "./preprocessing.mjs";

export class Recognizer {
  /** Starts ONNX Runtime (`ort`, its WebAssembly in `wasm`) with a file of `hccr export`. */
  static async create(ort, wasm, model, facts) {
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.numThreads = 1; // more take headers that a file has not
    const session = await ort.InferenceSession.create(model, {
      executionProviders: ["wasm"],
      // Weights in eight bits are made floats once, here, and not at each image.
      extra: { session: { disable_quant_qdq: "1" } },
    });
    return new Recognizer(ort, session, facts);
  }

  constructor(ort, session, { characters, preprocessing, temperature }) {
    Object.assign(this, { ort, session, preprocessing, temperature });
    this.characters = [...characters];
  }

  /**
   * Reads an image of one character.
   *
   * Takes {width, height, data} with red, green, blue and opacity. Returns the `topK` most probable
   * [character, probability]. Throws cleaning's ImageError where nothing is to be seen.
   */
  async read(image, topK = 5) {
    const logits = await this.logits(views(clean(image), this.preprocessing));
    const largest = logits.reduce((a, b) => Math.max(a, b));
    const shares = logits.map((value) => Math.exp((value - largest) / this.temperature));
    const total = shares.reduce((a, b) => a + b);
    return [...shares.keys()]
      .sort((a, b) => shares[b] - shares[a])
      .slice(0, topK)
      .map((i) => [this.characters[i], shares[i] / total]);
  }

  /** The mean logits of an image's prepared views. */
  async logits(planes) {
    const side = this.preprocessing.image_size;
    const pixels = new Uint8Array(planes.length * side * side);
    planes.forEach((view, i) => pixels.set(view.data, i * side * side));
    const image = new this.ort.Tensor("uint8", pixels, [planes.length, side, side, 1]);
    const { logits } = await this.session.run({ image });
    const mean = new Float64Array(this.characters.length);
    logits.data.forEach((value, i) => (mean[i % mean.length] += value / planes.length));
    return mean;
  }
}
