// From a clean image to a network's input: hccr_tf/data/loading/preprocessing.py in the browser.

import {
  boundingBox,
  cropped,
  gaussianBlur,
  inverted,
  mapped,
  plane,
  resized,
  roundEven,
} from "./raster.mjs";

const INK_BELOW = 240; // lighter pixels are paper: the noise of JPEG files reaches about 245

const CROP_RATIO = 280 / 256;
const ONCE = [[1, 1]]; // widths and heights
const STRETCHES = [
  [1.1, 1],
  [1, 1.1],
];

/** The views of a clean image whose mean logits count, prepared: one, stretches or five crops. */
export function views(image, settings) {
  const { image_size: size, tta } = settings;
  if (tta === "five_crops") {
    const source = 2 * Math.floor((size * CROP_RATIO) / 2 + 0.5);
    const whole = prepared(image, settings, source);
    const end = source - size;
    const middle = Math.floor(end / 2);
    const corners = [
      [middle, middle],
      [0, 0],
      [end, 0],
      [0, end],
      [end, end],
    ];
    return corners.map(([left, top]) => cropped(whole, left, top, size, size));
  }
  return (tta === "stretches" ? STRETCHES : ONCE).map(([x, y]) => {
    const [width, height] = [roundEven(image.width * x), roundEven(image.height * y)];
    return prepared(resized(image, width, height), settings);
  });
}

/**
 * Prepares a clean image as a run's `preprocessing` says: crop, resize, blur, inversion.
 *
 * Returns a plane of `size` × `size` pixels; the blur's size grows in proportion.
 */
export function prepared(image, settings, size = settings.image_size) {
  const { image_size, blur_kernel: kernel, blur_size } = settings;
  const blurred = kernel && blur_size ? roundEven((blur_size * size) / image_size) : size;
  const work = Math.max(size, blurred);
  let result = placed(settings.crop_ink ? croppedToInk(image) : image, settings, work);
  if (kernel) result = gaussianBlur(result, settings.blur_sigma, kernel);
  if (work !== size) result = resized(result, size, size, "area");
  return settings.invert ? inverted(result) : result;
}

function croppedToInk(image) {
  const box = boundingBox(mapped(image, (value) => (value <= INK_BELOW ? 255 : 0)));
  return box ? cropped(image, box.left, box.top, box.width, box.height) : image;
}

function placed(image, { fit, border }, work) {
  const inner = Math.max(1, work - 2 * roundEven(border * work));
  const longest = Math.max(image.width, image.height);
  const [width, height] = [image.width, image.height].map((side) =>
    fit === "pad" ? Math.max(1, roundEven((side * inner) / longest)) : inner,
  );
  // Averaging when an image shrinks keeps thin strokes.
  const method = width < image.width || height < image.height ? "area" : "linear";
  const square = plane(work, work, new Uint8Array(work * work).fill(255));
  const small = resized(image, width, height, method);
  const [left, top] = [width, height].map((side) => Math.floor((work - side) / 2));
  for (let y = 0; y < height; y++) {
    square.data.set(small.data.subarray(y * width, (y + 1) * width), (top + y) * work + left);
  }
  return square;
}
