// From a drawing, scan or photograph of one character to dark ink on white paper:
// hccr_tf/images/cleaning.py in the browser, number by number where paper is even. Uneven light is
// divided out more simply; sheets aren't looked for on tables, and there's one candidate.

import {
  boundingBox,
  closed,
  closedByDisc,
  components,
  cropped,
  dilated,
  eroded,
  gaussianBlur,
  histogram,
  innerMedian,
  inverted,
  mapped,
  otsuThreshold,
  penWidth,
  percentile,
  plane,
  reflected,
  resized,
  roundEven,
} from "./raster.mjs";

const WORK_SIDE = 1024; // pixels of the longer side: small characters on photographs stay legible
const LIGHT_SIDE = 96; // pixels of the longer side at which uneven light is looked at
const FLAT_SHARE = 0.35; // of pixels that have the paper's level where an image is clean already
const LOWEST_CONTRAST = 12; // levels between paper and ink, below which there's nothing to read

/** An image that shows no character. */
export class ImageError extends Error {}

/**
 * Makes of {width, height, data}, with red, green, blue and opacity, a plane of dark ink on 255.
 *
 * Throws ImageError where nothing is to be seen.
 */
export function clean(image) {
  const longest = Math.max(image.width, image.height);
  if (longest > WORK_SIDE) {
    const [width, height] = [image.width, image.height].map((side) =>
      Math.max(1, roundEven((side * WORK_SIDE) / longest)),
    );
    image = resized(image, width, height, "area", 4);
  }
  let [grey, paper] = withoutBars(inkChannel(image));
  if (spread(grey.data) < LOWEST_CONTRAST) {
    // A ruled stroke, 一 or 丨, is all that's left of its image.
    if (paper === undefined || Math.abs(mean(grey.data) - paper) < LOWEST_CONTRAST) throw blank();
  } else if (
    paper === undefined ||
    share(grey.data, (value) => Math.abs(value - paper) <= 1) < FLAT_SHARE / 2
  ) {
    paper = flatPaper(grey); // a bar's colour isn't the paper's
  }
  const isFlat = paper !== undefined;
  const found = isFlat ? inkOnFlat(grey, paper) : withoutPaperEdges(inkOnUneven(grey));
  const ink = withoutSpecks(withoutRuling(found), isFlat ? 0.2 : 0.6); // uneven paper has grain
  if (!ink.data.some(Boolean)) throw blank();
  return inverted(ink);
}

const blank = () => new ImageError("it shows nothing but paper");

const mean = (data) => data.reduce((sum, value) => sum + value, 0) / data.length;

const share = (data, holds) =>
  data.reduce((n, value) => n + (holds(value) ? 1 : 0), 0) / data.length;

/** Levels between the darkest and the lightest of `count` pixels. */
function spread(data, count = data.length, start = 0, step = 1) {
  let [low, high] = [255, 0];
  for (let i = start; count--; i += step) {
    if (data[i] < low) low = data[i];
    if (data[i] > high) high = data[i];
  }
  return high - low;
}

/** One channel in which the ink stands out: grey, or of coloured images the best one. */
function inkChannel({ width, height, data }) {
  const colours = opaque(data);
  const channel = (value) => {
    const result = plane(width, height);
    for (let i = 0, j = 0; i < result.data.length; i++, j += 3) {
      result.data[i] = value(colours[j], colours[j + 1], colours[j + 2]);
    }
    return result;
  };
  const luma = channel((r, g, b) => (r * 4899 + g * 9617 + b * 1868 + 8192) >> 14);
  const colour = channel((r, g, b) => Math.max(r, g, b) - Math.min(r, g, b));
  if (!colour.data.some((value) => value >= 12)) return luma; // grey scans need no choice
  // Coloured ruling and stamps vanish in the lightest of the channels, and ink that's dark in all
  // of them stays; coloured ink shows best in the channel with the most contrast.
  const grey = contrast(luma);
  const lightest = channel(Math.max);
  if (contrast(lightest) >= 0.7 * grey) return lightest;
  const channels = [channel((r) => r), channel((r, g) => g), channel((r, g, b) => b)];
  const best = channels.reduce((a, b) => (contrast(b) > contrast(a) ? b : a));
  return contrast(best) > 1.3 * grey ? best : luma;
}

/** Levels between the two classes that best part an image's pixels. */
function contrast({ data }) {
  const threshold = otsuThreshold(data);
  const low = data.filter((value) => value <= threshold);
  const high = data.filter((value) => value > threshold);
  return low.length && high.length ? mean(high) - mean(low) : 0;
}

/** Lays colours over white, or over black where what's drawn is light; three values a pixel. */
function opaque(data) {
  let [sum, seen] = [0, 0];
  let whole = true;
  for (let i = 0; i < data.length; i += 4) {
    whole &&= data[i + 3] === 255;
    if (data[i + 3] <= 127) continue;
    sum += data[i] + data[i + 1] + data[i + 2];
    seen += 3;
  }
  const ground = !whole && sum > 170 * seen ? 0 : 255;
  const colours = new Uint8Array((data.length / 4) * 3);
  for (let i = 0, j = 0; i < data.length; i += 4) {
    const opacity = data[i + 3] / 255;
    for (let c = 0; c < 3; c++) {
      colours[j++] = roundEven(data[i + c] * opacity + ground * (1 - opacity));
    }
  }
  return colours;
}

/**
 * Cuts even rows and columns off the sides: margins, and bars of another colour.
 *
 * Returns what's left, and the paper's level where it was seen: that of the last rows and columns
 * that were cut at first.
 */
function withoutBars(grey) {
  let paper;
  for (;;) {
    const { width, height, data } = grey;
    const rows = Array.from({ length: height }, (_, y) => spread(data, width, y * width) <= 2);
    const columns = Array.from({ length: width }, (_, x) => spread(data, height, x, width) <= 2);
    if (rows.every(Boolean) || columns.every(Boolean)) break;
    const firsts = rows.map((_, y) => data[y * width]);
    const sides = [
      [rows, firsts],
      [rows.toReversed(), firsts.toReversed()],
      [columns, data.subarray(0, width)],
      [columns.toReversed(), data.slice(0, width).reverse()],
    ];
    // Once margins are gone, strokes can run from side to side.
    const cuts = sides.map(([even, levels]) =>
      even.findIndex((is, i) => !is || (paper !== undefined && Math.abs(levels[i] - paper) > 2)),
    );
    if (paper === undefined) {
      const seen = sides.flatMap(([, levels], i) => (cuts[i] ? [levels[cuts[i] - 1]] : []));
      const times = (level) => seen.filter((other) => other === level).length;
      if (seen.length) paper = seen.reduce((a, b) => (times(b) > times(a) ? b : a));
    }
    if (!cuts.some(Boolean)) break;
    const [top, bottom, left, right] = cuts;
    grey = cropped(grey, left, top, width - left - right, height - top - bottom);
  }
  return [grey, paper];
}

/** The paper's level where it's the same all over the image. */
function flatPaper({ data }) {
  const counts = histogram(data);
  const near = counts.map((n, i) => n + (counts[i - 1] ?? 0) + (counts[i + 1] ?? 0));
  const level = near.reduce((best, n, i) => (n > near[best] ? i : best), 0);
  return near[level] >= FLAT_SHARE * data.length ? level : undefined;
}

/** Ink on even paper, its own levels kept where paper is white or black. */
function inkOnFlat(grey, paper) {
  const darker = mapped(grey, (value) => Math.max(paper - value, 0));
  const lighter = mapped(grey, (value) => Math.max(value - paper, 0));
  const isDark = mean(darker.data) >= mean(lighter.data);
  const ink = isDark ? darker : lighter;
  const most = ink.data.reduce((a, b) => Math.max(a, b));
  if (most < LOWEST_CONTRAST) throw blank();
  let span = isDark ? paper : 255 - paper;
  if (span < 200) {
    // Coloured or grey paper: ink is made as dark as it would be on white.
    const strong = percentile(
      ink.data.filter((value) => value > most * 0.4),
      90,
    );
    span = Math.max(LOWEST_CONTRAST, Math.trunc(strong));
  }
  return mapped(ink, (value) => {
    const level = Math.min(Math.trunc(value * (255 / span)), 255);
    return level <= 15 ? 0 : level;
  });
}

/** Ink on paper whose light changes over the image, on which there's grain. */
function inkOnUneven(grey) {
  const { width, height } = grey;
  const shrink = Math.max(1, Math.max(height, width) / LIGHT_SIDE);
  const [narrow, low] = [width, height].map((side) => Math.max(3, roundEven(side / shrink)));
  let small = resized(grey, narrow, low, "area");
  if (isLightInk(small)) [grey, small] = [inverted(grey), inverted(small)];
  // Closing lays paper over strokes; the median then takes grain and light grid lines away.
  const side = 2 * Math.floor(Math.max(narrow, low) / 6) + 1;
  const bare = innerMedian(
    closedByDisc(reflected(small, side), side),
    Math.min(side, 31) | 1,
    side,
  );
  const paper = resized(gaussianBlur(bare, side / 6), width, height, "cubic");
  // Light multiplies: so much of it the ink has swallowed.
  const levels = mapped(grey, (value, i) => {
    const ink = 1 - value / Math.max(paper.data[i], 8);
    return Math.trunc(Math.min(Math.max(ink, 0), 1) * 255);
  });
  const blurred = gaussianBlur(levels, Math.max(0.5, Math.max(height, width) / 400));
  const threshold = otsuThreshold(blurred.data);
  const strong = mapped(blurred, (value) => (value > threshold ? 255 : 0));
  const weak = blurred.data.filter((value) => value <= threshold);
  const dark = blurred.data.filter((value) => value > threshold);
  if (!dark.length || !weak.length) throw blank();
  // Of mere grain, too, one half is darker: by 2.7 times the spread of the other half.
  const middle = mean(weak);
  const deviation = Math.sqrt(
    weak.reduce((sum, value) => sum + (value - middle) ** 2, 0) / weak.length,
  );
  if (mean(dark) - middle < Math.max(LOWEST_CONTRAST, 4 * deviation)) throw blank();
  const full = percentile(
    levels.data.filter((_, i) => strong.data[i]),
    75,
  );
  const none = Math.min(0.75 * threshold, 0.5 * full);
  // Grain isn't ink: it stays only where something strong is beside it.
  const near = dilated(strong, 5);
  return mapped(levels, (value, i) => {
    const level = ((value - none) * 255) / (full - none);
    return near.data[i] ? Math.trunc(Math.min(Math.max(level, 0), 255)) : 0;
  });
}

/**
 * Whether ink is lighter than paper.
 *
 * Ink stands out from what surrounds it; in doubt, paper has the border and the larger area.
 */
function isLightInk(small) {
  const { width, height, data } = small;
  const side = 2 * Math.floor(Math.max(width, height) / 4) + 1;
  const paper = innerMedian(reflected(small, side), side, side);
  const difference = Array.from(data, (value, i) => value - paper.data[i]);
  const noise = 2.5 * percentile(difference.map(Math.abs), 50) + 4;
  const [lighter, darker] = [1, -1].map((sign) =>
    difference.reduce((sum, value) => sum + Math.max(sign * value - noise, 0), 0),
  );
  if (Math.max(lighter, darker) > 2 * Math.min(lighter, darker)) return lighter > darker;
  const threshold = otsuThreshold(data);
  const isLight = (value) => value > threshold;
  const columns = [...data.keys()].filter((i) => i % width === 0 || i % width === width - 1);
  const border = [
    ...data.subarray(0, width),
    ...data.subarray(-width),
    ...columns.map((i) => data[i]),
  ];
  return (
    [share(border, isLight) < 0.5, share(data, isLight) < 0.5, lighter > darker].filter(Boolean)
      .length >= 2
  );
}

/** Takes away what's thick and lies along the image's edge: a table, a finger, a shadow. */
function withoutPaperEdges(ink) {
  const { width, height } = ink;
  const { count, labels } = components(mapped(ink, (value) => (value > 64 ? 255 : 0)));
  const area = new Float64Array(count + 1);
  const sides = Array.from({ length: count + 1 }, () => [0, 0, 0, 0]); // pixels on each
  const boxes = Array.from({ length: count + 1 }, () => [width, height, -1, -1]);
  labels.forEach((label, i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    const [box, edge] = [boxes[label], sides[label]];
    area[label]++;
    box[0] = Math.min(box[0], x);
    box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x);
    box[3] = Math.max(box[3], y);
    edge[0] += y === 0;
    edge[1] += y === height - 1;
    edge[2] += x === 0;
    edge[3] += x === width - 1;
  });
  const lies = sides.map(
    (n, label) => Boolean(label) && n.some((pixels, i) => pixels > 0.5 * (i < 2 ? width : height)),
  );
  if (!lies.some(Boolean) || lies.slice(1).every(Boolean)) return ink;
  const solid = boxes.map(
    ([left, top, right, bottom], label) =>
      area[label] > 0.35 * (right - left + 1) * (bottom - top + 1),
  );
  return mapped(ink, (value, i) => (lies[labels[i]] && solid[labels[i]] ? 0 : value));
}

/**
 * Takes away straight lines that run through the whole image: frames, grids, ruled paper.
 *
 * A character's own strokes aren't as straight, or don't run from edge to edge on two sides.
 */
function withoutRuling(ink) {
  const { width, height } = ink;
  if (Math.min(height, width) < 24) return ink;
  const isInk = (value) => (value > 40 ? 255 : 0);
  const mask = mapped(ink, isInk);
  const thin = Math.max(2, 0.035 * Math.min(height, width));
  const lines = [true, false].flatMap((across) => straightLines(mask, across, thin));
  // One line alone may be a stroke; and what is only lines is a character of lines (一, 十, 口).
  if (lines.length < 2) return ink;
  const ruled = plane(width, height);
  let widest = 3;
  for (const { across, start, end } of lines) {
    const [from, to] = [Math.max(0, start - 1), Math.min(end + 1, across ? height : width)];
    widest = Math.max(widest, to - from);
    for (let i = 0; i < ruled.data.length; i++) {
      const place = across ? Math.floor(i / width) : i % width;
      if (place >= from && place < to) ruled.data[i] = 1;
    }
  }
  const rest = mapped(ink, (value, i) => (ruled.data[i] ? 0 : value));
  const left = mapped(rest, isInk);
  if (mean(left.data) < 0.08 * mean(mask.data)) return ink;
  // Ruling goes on where the character has ended, on all sides.
  const box = boundingBox(left);
  const free = Math.min(
    box.left / width,
    box.top / height,
    1 - (box.left + box.width) / width,
    1 - (box.top + box.height) / height,
  );
  if (free < 0.02) return ink;
  // Strokes that cross the lines are what's darker, where the pen is; else they go on from both sides.
  const bridged = closed(rest, widest + 2);
  const line = median(ink.data.filter((value, i) => ruled.data[i] && value > 40));
  const pen = median(rest.data.filter((value) => value > 40));
  const stroke = pen > 1.5 * line ? (pen + line) / 2 : 255;
  return mapped(rest, (value, i) => {
    if (!ruled.data[i]) return value;
    return ink.data[i] > stroke ? ink.data[i] : Math.min(bridged.data[i], ink.data[i]);
  });
}

function median(values) {
  const sorted = values.sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Rows, or columns, from `start` to before `end` that are a thin line through the whole mask. */
function straightLines(mask, across, thin) {
  const { width, height } = mask;
  const [size, count] = across ? [width, height] : [height, width];
  const along = (length) => (across ? [length, 1] : [1, length]);
  // Lines may be drawn with gaps, and stand a little askew.
  const joined = closed(mask, ...along(Math.max(3, Math.floor(size / 12))));
  const length = along(Math.trunc(0.6 * size));
  const { data } = dilated(eroded(joined, ...length), ...length);
  const sums = new Float64Array(count);
  const reached = new Uint8Array(size);
  data.forEach((value, i) => {
    if (!value) return;
    const [x, y] = [i % width, Math.floor(i / width)];
    sums[across ? y : x]++;
    reached[across ? x : y] = 1;
  });
  if (mean(reached) < 0.93) return [];
  const lines = [];
  sums.forEach((pixels, i) => {
    if (pixels <= 0.85 * size) return;
    if (lines.at(-1)?.end === i) lines.at(-1).end++;
    else lines.push({ across, start: i, end: i + 1 });
  });
  return lines.filter(({ start, end }) => end - start <= thin);
}

/** Takes away what's smaller than a dot of this pen: than `least` times its width squared. */
function withoutSpecks(ink, least) {
  const most = ink.data.reduce((a, b) => Math.max(a, b), 0);
  const faint = Math.min(48, 0.25 * most); // faint pens, too
  const mask = mapped(ink, (value) => (value > faint ? 255 : 0));
  const { count, labels } = components(mask);
  if (count < 2) return ink;
  // By ink, so that faint grain counts for less than a dot.
  const areas = new Float64Array(count + 1);
  labels.forEach((label, i) => (areas[label] += Math.min(ink.data[i] / (0.5 * most), 1)));
  areas[0] = 0;
  const bound = Math.max(least * penWidth(mask) ** 2, 0.0008 * areas.reduce((a, b) => a + b));
  const small = Array.from(areas, (area, label) => label > 0 && area < bound);
  if (!small.some(Boolean) || small.slice(1).every(Boolean)) return ink;
  const specks = plane(
    ink.width,
    ink.height,
    Uint8Array.from(labels, (l) => (small[l] ? 255 : 0)),
  );
  const around = dilated(specks, 3);
  return mapped(ink, (value, i) => (around.data[i] && (!labels[i] || specks.data[i]) ? 0 : value));
}
