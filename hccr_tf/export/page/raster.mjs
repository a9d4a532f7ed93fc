// What the page needs of image processing, as OpenCV does it: the Python package is measured with
// it. A plane is {width, height, data}, one byte a pixel; a mask is a plane of 0 and 255.

export const plane = (width, height, data = new Uint8Array(width * height)) => ({
  width,
  height,
  data,
});

export const mapped = (image, change) => plane(image.width, image.height, image.data.map(change));

export const inverted = (image) => mapped(image, (value) => 255 - value);

export function cropped(image, left, top, width, height) {
  const result = plane(width, height);
  for (let y = 0; y < height; y++) {
    const start = (top + y) * image.width + left;
    result.data.set(image.data.subarray(start, start + width), y * width);
  }
  return result;
}

/** Rounds as Python and OpenCV do: halves to the even neighbour. */
export function roundEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// For each pixel of a resized line, the pixels of the old one that it is made of: [index, share].
function shares(from, to, method, shrinks) {
  const scale = from / to;
  return Array.from({ length: to }, (_, i) => {
    if (method === "area" && shrinks) return areaShares(i * scale, scale, from);
    let place = (i + 0.5) * scale - 0.5;
    if (method === "area") {
      // One side shrinks and this one grows: each old pixel keeps its area, with sharp bounds.
      const whole = Math.floor(i * scale);
      const rest = i + 1 - (whole + 1) / scale;
      place = whole + (rest <= 0 ? 0 : rest - Math.floor(rest));
    }
    const first = Math.floor(place);
    const f = place - first;
    if (method !== "cubic") return at(first, from, [1 - f, f]);
    const a = -0.75;
    const far = (x) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    const near = (x) => ((a + 2) * x - (a + 3)) * x * x + 1;
    return at(first - 1, from, [far(f + 1), near(f), near(1 - f), far(2 - f)]);
  });
}

const at = (first, from, weights) =>
  weights.map((weight, i) => [clamp(first + i, 0, from - 1), weight]);

function areaShares(start, scale, from) {
  const end = start + scale;
  const width = Math.min(scale, from - start);
  const last = Math.min(Math.floor(end), from - 1);
  const first = Math.min(Math.ceil(start), last);
  const result = [];
  if (first - start > 1e-3) result.push([first - 1, (first - start) / width]);
  for (let i = first; i < last; i++) result.push([i, 1 / width]);
  if (end - last > 1e-3) result.push([last, Math.min(end - last, 1, width) / width]);
  return result;
}

/** Resizes by "area", "linear" or "cubic" as cv2.resize does; `channels` lie side by side. */
export function resized(image, width, height, method = "linear", channels = 1) {
  const shrinks = image.width >= width && image.height >= height;
  const columns = shares(image.width, width, method, shrinks);
  const rows = shares(image.height, height, method, shrinks);
  const cache = new Map();
  const line = (y) => {
    if (!cache.has(y)) cache.set(y, resizedLine(image, y, columns, channels));
    return cache.get(y);
  };
  const result = plane(width, height, new Uint8Array(width * height * channels));
  const sums = new Float32Array(width * channels);
  rows.forEach((parts, y) => {
    sums.fill(0);
    for (const [from, share] of parts) {
      line(from).forEach((value, x) => (sums[x] += share * value));
    }
    for (const known of cache.keys()) if (known < parts[0][0]) cache.delete(known);
    sums.forEach((v, x) => (result.data[y * sums.length + x] = clamp(roundEven(v), 0, 255)));
  });
  return result;
}

function resizedLine(image, y, columns, channels) {
  const line = new Float32Array(columns.length * channels);
  const start = y * image.width * channels;
  columns.forEach((parts, x) => {
    for (const [from, share] of parts) {
      for (let c = 0; c < channels; c++) {
        line[x * channels + c] += share * image.data[start + from * channels + c];
      }
    }
  });
  return line;
}

/** Adds `margin` pixels on each side that mirror the image, its edge included. */
export function reflected(image, margin) {
  const { width, height, data } = image;
  const mirror = (i, n) => {
    const place = ((i % (2 * n)) + 2 * n) % (2 * n);
    return place < n ? place : 2 * n - 1 - place;
  };
  const result = plane(width + 2 * margin, height + 2 * margin);
  for (let y = 0; y < result.height; y++) {
    const start = mirror(y - margin, height) * width;
    for (let x = 0; x < result.width; x++) {
      result.data[y * result.width + x] = data[start + mirror(x - margin, width)];
    }
  }
  return result;
}

/** Blurs with a Gaussian kernel of `side` pixels; beyond the edge the image is mirrored. */
export function gaussianBlur(image, sigma, side = Math.round(sigma * 6 + 1) | 1) {
  const half = (side - 1) / 2;
  const kernel = Array.from({ length: side }, (_, i) =>
    Math.exp(-((i - half) ** 2) / 2 / sigma ** 2),
  );
  const total = kernel.reduce((sum, value) => sum + value);
  const mirror = (i, n) => {
    while (n > 1 && (i < 0 || i >= n)) i = i < 0 ? -i : 2 * (n - 1) - i;
    return n > 1 ? i : 0;
  };
  const { width, height } = image;
  const along = (source, target, count, length, step, stride) => {
    const line = new Float32Array(length + side - 1);
    for (let j = 0; j < count; j++) {
      for (let i = 0; i < line.length; i++) {
        line[i] = source[j * stride + mirror(i - half, length) * step];
      }
      for (let i = 0; i < length; i++) {
        let sum = 0;
        for (let k = 0; k < side; k++) sum += kernel[k] * line[i + k];
        target[j * stride + i * step] = sum / total;
      }
    }
  };
  const rows = new Float32Array(width * height);
  const both = new Float32Array(width * height);
  along(image.data, rows, height, width, 1, width);
  along(rows, both, width, height, width, 1);
  return plane(width, height, Uint8Array.from(both, roundEven));
}

/** The median of `side` × `side` pixels for those at least `margin` from the edge. */
export function innerMedian(image, side, margin) {
  const half = (side - 1) / 2;
  const result = plane(image.width - 2 * margin, image.height - 2 * margin);
  for (let y = 0; y < result.height; y++) {
    const counts = new Int32Array(256);
    const change = (x, by) => {
      for (let k = -half; k <= half; k++)
        counts[image.data[(y + margin + k) * image.width + x]] += by;
    };
    for (let x = margin - half; x < margin + half; x++) change(x, 1);
    for (let x = 0; x < result.width; x++) {
      change(x + margin + half, 1);
      let level = 0;
      for (let below = counts[0]; below <= (side * side - 1) / 2; below += counts[level]) level++;
      result.data[y * result.width + x] = level;
      change(x + margin - half, -1);
    }
  }
  return result;
}

// The largest of `size` neighbours in each row or column, in as many steps as `size` has bits.
function largestAlong(image, size, step) {
  const { width, height, data } = image;
  const [count, length, stride] = step === 1 ? [height, width, width] : [width, height, 1];
  const result = plane(width, height);
  const before = size >> 1;
  const line = new Uint8Array(length + size);
  for (let j = 0; j < count; j++) {
    line.fill(0);
    for (let i = 0; i < length; i++) line[i + before] = data[j * stride + i * step];
    let reach = 1;
    for (; reach * 2 <= size; reach *= 2) {
      for (let i = 0; i + reach < line.length; i++) line[i] = Math.max(line[i], line[i + reach]);
    }
    for (let i = 0; i < length; i++) {
      result.data[j * stride + i * step] = Math.max(line[i], line[i + size - reach]);
    }
  }
  return result;
}

export const dilated = (image, width, height = width) =>
  largestAlong(largestAlong(image, width, 1), height, image.width);

export const eroded = (image, width, height = width) =>
  inverted(dilated(inverted(image), width, height));

/** Fills what is lower than its surroundings and narrower than the rectangle. */
export const closed = (image, width, height = width) =>
  eroded(dilated(image, width, height), width, height);

/** The same with a disc of `side` pixels, odd. */
export function closedByDisc(image, side) {
  const radius = (side - 1) / 2;
  const grown = (source) => {
    const result = plane(source.width, source.height);
    for (let dy = -radius; dy <= radius; dy++) {
      const reach = roundEven(Math.sqrt(radius ** 2 - dy ** 2));
      const { data } = largestAlong(source, 2 * reach + 1, 1);
      const shift = dy * source.width;
      for (let i = Math.max(0, -shift); i < Math.min(data.length, data.length - shift); i++) {
        result.data[i] = Math.max(result.data[i], data[i + shift]);
      }
    }
    return result;
  };
  return inverted(grown(inverted(grown(image))));
}

/** The grey level that best parts pixels into two classes: the darker one ends with it. */
export function otsuThreshold(data) {
  const counts = histogram(data);
  const mean = counts.reduce((sum, count, level) => sum + count * level, 0) / data.length;
  let [threshold, best, share, sum] = [0, 0, 0, 0];
  counts.forEach((count, level) => {
    share += count / data.length;
    sum += (count / data.length) * level;
    if (Math.min(share, 1 - share) < 1e-7) return;
    const between = (sum - share * mean) ** 2 / (share * (1 - share));
    if (between > best) [threshold, best] = [level, between];
  });
  return threshold;
}

export function histogram(data) {
  const counts = new Float64Array(256);
  for (const value of data) counts[value]++;
  return counts;
}

/** The value below which `percent` of the values lie, between two of them if need be. */
export function percentile(values, percent) {
  const sorted = Float32Array.from(values).sort();
  const place = ((sorted.length - 1) * percent) / 100;
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

/** Parts of a mask whose pixels touch, also at corners: `labels` from 1 to `count`, 0 outside. */
export function components(mask) {
  const { width, height, data } = mask;
  const labels = new Int32Array(width * height);
  const stack = [];
  let count = 0;
  for (let seed = 0; seed < data.length; seed++) {
    if (!data[seed] || labels[seed]) continue;
    labels[seed] = ++count;
    stack.push(seed);
    while (stack.length) {
      const place = stack.pop();
      const [x, y] = [place % width, Math.floor(place / width)];
      for (let ny = Math.max(0, y - 1); ny <= Math.min(height - 1, y + 1); ny++) {
        for (let nx = Math.max(0, x - 1); nx <= Math.min(width - 1, x + 1); nx++) {
          const next = ny * width + nx;
          if (!data[next] || labels[next]) continue;
          labels[next] = count;
          stack.push(next);
        }
      }
    }
  }
  return { count, labels };
}

/** The smallest rectangle around a mask's pixels; undefined where it has none. */
export function boundingBox({ width, height, data }) {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!data[i]) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = y;
    }
  }
  return right < 0 ? undefined : { left, top, width: right - left + 1, height: bottom - top + 1 };
}

/** The width of most lines of a mask in pixels. */
export function penWidth({ width, height, data }) {
  // Distances to the nearest pixel outside, by steps to neighbours, as OpenCV takes them.
  const [straight, diagonal] = [0.955, 1.3693];
  const far = new Float32Array((width + 2) * (height + 2)).fill(1e6);
  const w = width + 2;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) if (!data[y * width + x]) far[(y + 1) * w + x + 1] = 0;
  }
  const relax = (i, s) => {
    far[i] = Math.min(
      far[i],
      far[i - s] + straight,
      far[i - s * w] + straight,
      far[i - s * (w + 1)] + diagonal,
      far[i - s * (w - 1)] + diagonal,
    );
  };
  for (let y = 1; y <= height; y++) for (let x = 1; x <= width; x++) relax(y * w + x, 1);
  for (let y = height; y; y--) for (let x = width; x; x--) relax(y * w + x, -1);
  const inside = [];
  for (let y = 1; y <= height; y++) {
    for (let x = 1; x <= width; x++) if (far[y * w + x] > 0) inside.push(far[y * w + x]);
  }
  return 2 * percentile(inside, 75);
}
