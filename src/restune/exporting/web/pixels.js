// Resize and crop as restune does in Python: Pillow's filters (Resample.c), each pass rounded to whole values.

const KERNELS = {
  bilinear: { support: 1, value: (x) => Math.max(0, 1 - x) },
  bicubic: {
    support: 2,
    value: (x) => x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0,
  },
};

/** For each of `count` output positions from `start` on: the first input position and the weights from there. */
function weights(size, target, start, count, filter) {
  const scale = size / target, rows = [];
  // The first position of the whole image has the largest weight, since its filter is cut off at the edge.
  for (const position of [0, ...Array.from({ length: count }, (_, i) => start + i)]) {
    const centre = (position + 0.5) * scale;
    if (filter === "nearest") {  // torch's rule, which starts from the pixels' edges
      rows.push({ first: Math.min(size - 1, Math.floor(position * scale)), taps: [1] });
      continue;
    }
    const kernel = KERNELS[filter], stretch = Math.max(1, scale), support = kernel.support * stretch;
    const first = Math.max(0, Math.floor(centre - support + 0.5));
    const last = Math.min(size, Math.floor(centre + support + 0.5));
    const taps = [];
    for (let j = first; j < last; j++) taps.push(kernel.value(Math.abs(j + 0.5 - centre) / stretch));
    const total = taps.reduce((sum, tap) => sum + tap, 0);
    rows.push({ first, taps: taps.map((tap) => tap / total) });
  }
  return (filter === "nearest" ? rows : fixedPoint(rows)).slice(1);
}

/** Round weights to the 16-bit fixed-point numbers that torch's kernel for bytes computes with. */
function fixedPoint(rows) {
  const largest = Math.max(...rows.map((row) => Math.max(...row.taps)));
  let one = 1;
  for (let power = 2; power < 2 ** 23 && largest * power < 32767.5; power *= 2) one = power;
  const round = (tap) => Math.sign(tap) * Math.floor(Math.abs(tap) * one + 0.5) / one;
  return rows.map(({ first, taps }) => ({ first, taps: taps.map(round) }));
}

const rounded = (value) => Math.min(255, Math.max(0, Math.floor(value + 0.5)));

/** round(margin / 2) with halves to even, as Python rounds. */
function halfToEven(margin) {
  const half = Math.floor(margin / 2);
  return half + (margin % 2 !== 0 ? Math.abs(half % 2) : 0);
}

/** Greatest aspect ratio: a longer image is cut to its middle. */
function middleOfStrip(width, height, aspect) {
  const longest = Math.min(width, height) * aspect;
  return {
    left: Math.max(0, Math.floor((width - longest) / 2)), top: Math.max(0, Math.floor((height - longest) / 2)),
    width: Math.min(width, longest), height: Math.min(height, longest),
  };
}

/** The rectangle of the original image that the network sees. */
export function seenRectangle(width, height, settings) {
  if (settings.resize === null) return { left: 0, top: 0, width, height };
  const strip = middleOfStrip(width, height, settings.aspect), short = Math.min(strip.width, strip.height);
  const side = settings.crop * short / settings.resize;
  return {
    left: strip.left + (strip.width - side) / 2, top: strip.top + (strip.height - side) / 2, width: side, height: side,
  };
}

/** RGBA bytes of a width x height image to planar bytes [C, crop, crop]; transparency is blended with white. */
export function networkPixels(rgba, width, height, settings) {
  const { crop, resize, interpolation, channels } = settings;
  const strip = resize === null ? { left: 0, top: 0, width, height } : middleOfStrip(width, height, settings.aspect);
  const short = Math.min(strip.width, strip.height);
  const target = (size) => resize === null ? crop : Math.floor(resize * size / short);
  const across = weights(strip.width, target(strip.width), resize === null ? 0 : halfToEven(target(strip.width) - crop),
    crop, interpolation);
  const down = weights(strip.height, target(strip.height),
    resize === null ? 0 : halfToEven(target(strip.height) - crop), crop, interpolation);
  const needed = { from: Math.min(...down.map((row) => row.first)),
    to: Math.max(...down.map((row) => row.first + row.taps.length)) };
  const rows = needed.to - needed.from, planes = new Uint8Array(channels * crop * crop);
  const line = new Float64Array(channels * strip.width), middle = new Uint8Array(channels * rows * crop);
  for (let y = 0; y < rows; y++) {
    readLine(rgba, width, strip, needed.from + y, channels, line);
    for (let c = 0; c < channels; c++) {
      for (let x = 0; x < crop; x++) {
        const { first, taps } = across[x];
        let sum = 0;
        for (let t = 0; t < taps.length; t++) sum += taps[t] * line[c * strip.width + first + t];
        middle[(c * rows + y) * crop + x] = rounded(sum);
      }
    }
  }
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < crop; y++) {
      const { first, taps } = down[y];
      for (let x = 0; x < crop; x++) {
        let sum = 0;
        for (let t = 0; t < taps.length; t++) sum += taps[t] * middle[(c * rows + first - needed.from + t) * crop + x];
        planes[(c * crop + y) * crop + x] = rounded(sum);
      }
    }
  }
  return planes;
}

function readLine(rgba, width, strip, y, channels, line) {
  for (let x = 0; x < strip.width; x++) {
    const at = 4 * ((strip.top + y) * width + strip.left + x), alpha = rgba[at + 3];
    const value = (c) => alpha === 255 ? rgba[at + c] : Math.round((rgba[at + c] * alpha + 255 * (255 - alpha)) / 255);
    if (channels === 1) {
      line[x] = Math.floor((value(0) * 19595 + value(1) * 38470 + value(2) * 7471 + 32768) / 65536);
    } else {
      for (let c = 0; c < 3; c++) line[c * strip.width + x] = value(c);
    }
  }
}
