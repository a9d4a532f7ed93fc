// The page's modules by themselves: node --test tests/export/page/modules.test.mjs

import assert from "node:assert/strict";
import { test } from "node:test";

const load = (name) => import(new URL(`../../../hccr_tf/export/page/${name}.mjs`, import.meta.url));
const { ImageError, clean } = await load("cleaning");
const { Drawing } = await load("drawing");
const { prepared, views } = await load("preprocessing");
const raster = await load("raster");
const { WORDS, preferred } = await load("words");

const PLAIN = { image_size: 8, fit: "pad", crop_ink: true, border: 0, blur_kernel: 0 };

/** A plane of rows of characters: "#" is ink. */
const picture = (...rows) =>
  raster.plane(
    rows[0].length,
    rows.length,
    Uint8Array.from(rows.join(""), (c) => (c === "#" ? 0 : 255)),
  );

/** What a canvas gives of a plane: red, green, blue and opacity. */
const coloured = ({ width, height, data }, colour = (value) => [value, value, value, 255]) => ({
  width,
  height,
  data: Uint8ClampedArray.from([...data].flatMap(colour)),
});

/** White paper of `side` pixels with a plus of 6 pixels' thickness. */
function plus(side, level = () => 255) {
  const image = raster.plane(side, side);
  image.data.forEach((_, i) => {
    const [x, y] = [i % side, Math.floor(i / side)];
    const [dx, dy] = [Math.abs(x - side / 2), Math.abs(y - side / 2)];
    const isInk = Math.min(dx, dy) < 3 && Math.max(dx, dy) < side / 3;
    image.data[i] = isInk ? level(x, y) * 0.2 : level(x, y);
  });
  return image;
}

test("images shrink by area and grow by interpolation", () => {
  const image = raster.plane(4, 2, Uint8Array.of(0, 100, 200, 40, 20, 40, 60, 80));
  assert.deepEqual([...raster.resized(image, 2, 1, "area").data], [40, 95]);
  // Of three pixels each made of 4/3: (0 + 100/3) · 3/4 and so on.
  assert.deepEqual([...raster.resized(image, 3, 2, "area").data], [25, 150, 80, 25, 50, 75]);
  const line = raster.plane(2, 1, Uint8Array.of(0, 100));
  assert.deepEqual([...raster.resized(line, 4, 1).data], [0, 25, 75, 100]);
});

test("halves are rounded to even numbers", () => {
  assert.deepEqual([0.5, 1.5, 2.5, 2.4, 2.6].map(raster.roundEven), [0, 2, 2, 2, 3]);
});

test("an image is cropped to its ink, fills the square and is inverted where that's asked", () => {
  const image = picture("......", "..##..", "..##..", "......");
  assert.ok(prepared(image, PLAIN).data.every((value) => value === 0));
  assert.ok(prepared(image, { ...PLAIN, invert: true }).data.every((value) => value === 255));
});

test("a wide image is centred on white, or stretched", () => {
  const image = picture("####");
  const rows = (settings) =>
    Array.from({ length: 8 }, (_, y) => prepared(image, { ...PLAIN, ...settings }).data[8 * y]);
  assert.deepEqual(rows({}), [255, 255, 255, 0, 0, 255, 255, 255]);
  assert.deepEqual(rows({ fit: "stretch" }), Array(8).fill(0));
  assert.deepEqual(rows({ border: 0.25 }), Array(8).fill(255));
});

test("what an image is read as: once, stretched or in five crops", () => {
  const image = picture("########", "########", "........", "........");
  const settings = { ...PLAIN, crop_ink: false };
  const inked = (tta) =>
    views(image, { ...settings, tta }).map(({ data }) => data.filter((value) => !value).length);
  assert.deepEqual(inked("none"), [16]);
  assert.equal(inked("stretches").length, 2);
  assert.deepEqual(
    views(image, { ...settings, fit: "stretch", tta: "five_crops", image_size: 16 }).map(
      ({ data }) => [data[0], data.at(-1)],
    ),
    Array(5).fill([0, 255]),
  );
});

test("a blur spreads ink and keeps its amount", () => {
  const image = picture(
    "........",
    "........",
    "........",
    "...##...",
    "...##...",
    ...Array(3).fill("........"),
  );
  const settings = { ...PLAIN, crop_ink: false, blur_kernel: 3, blur_sigma: 1 };
  const sum = (data) => data.reduce((total, value) => total + 255 - value, 0);
  const { data } = prepared(image, settings);
  assert.ok(data[2 * 8 + 3] < 255 && data[3 * 8 + 3] > 0);
  assert.ok(Math.abs(sum(data) - 4 * 255) < 12);
});

test("ink of every polarity and colour becomes dark on white", () => {
  const dark = plus(60);
  const looks = {
    dark: coloured(dark),
    light: coloured(raster.inverted(dark)),
    "blue on yellow": coloured(dark, (value) =>
      value < 255 ? [40, 60, 160, 255] : [250, 240, 190, 255],
    ),
    "ink on nothing": coloured(dark, (value) => [0, 0, 0, 255 - value]),
  };
  for (const [look, image] of Object.entries(looks)) {
    const { width, height, data } = clean(image);
    assert.ok(width >= 36 && height >= 36, look);
    assert.ok(data[(height / 2) * width + width / 2] < 80, look); // where the strokes cross
    assert.equal(data[0], 255, look);
  }
});

test("uneven light is divided out", () => {
  const light = (x, y) => 240 - 1.2 * x + ((x * 7 + y * 13) % 5); // with grain
  const { width, data } = clean(coloured(plus(120, light)));
  assert.equal(width, 120);
  assert.ok(data[60 * width + 60] < 60);
  for (const [x, y] of [
    [5, 5],
    [114, 5],
    [5, 114],
    [114, 114],
  ])
    assert.equal(data[y * width + x], 255);
});

test("a grid goes and the character stays", () => {
  const image = plus(96);
  for (let i = 0; i < 96; i++) {
    for (const line of [4, 91]) image.data[line * 96 + i] = image.data[i * 96 + line] = 60;
  }
  const { width, height, data } = clean(coloured(image));
  const box = raster.boundingBox(
    raster.plane(
      width,
      height,
      data.map((value) => 255 - value),
    ),
  );
  assert.ok(box.width < 70 && box.height < 70);
});

test("mere paper is refused", () => {
  assert.throws(() => clean(coloured(picture("....", "...."))), ImageError);
});

test("strokes are taken back one by one", () => {
  const drawing = new Drawing();
  drawing.begin([0.1, 0.1], 0.05);
  drawing.extend([
    [0.2, 0.2],
    [0.3, 0.1],
  ]);
  drawing.begin([0.5, 0.5], 0.05);
  drawing.undo();
  assert.equal(drawing.strokes.length, 1);
  assert.equal(drawing.strokes[0].points.length, 3);
  drawing.undo();
  drawing.undo(); // of nothing
  assert.ok(drawing.isEmpty);
});

test("the page speaks the first language that it knows", () => {
  assert.equal(preferred(["fr-FR", "zh-TW", "en"]), "zh");
  assert.equal(preferred(["en-GB", "zh"]), "en");
  assert.equal(preferred(["fr"]), "en");
});

test("both languages say everything", () => {
  assert.deepEqual(Object.keys(WORDS.zh), Object.keys(WORDS.en));
});
