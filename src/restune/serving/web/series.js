// A series with its map: channels as curves over bands of colour, the map as bars below them, and a cursor that reads
// single positions, by pointer and by arrow keys.

import { drawn, figure, say } from "./words.js";

const NARROWEST = 320, WIDEST = 1000, LEFT = 12, RIGHT = 12, TOP = 8, BARS = 64, GAP = 12, TICKS = 20;

export function drawSeries(place, { length, heat, channels, all_channels }, label) {
  const row = channels.length === 1 ? 150 : channels.length < 5 ? 84 : 52;
  const bottom = TOP + row * channels.length, middle = bottom + GAP + BARS / 2;
  const height = bottom + GAP + BARS + TICKS;
  const most = Math.max(...heat.map((value) => Math.abs(value ?? 0))) || 1;
  const width = Math.min(WIDEST, Math.max(NARROWEST, place.clientWidth));
  const x = (share) => LEFT + share * (width - LEFT - RIGHT);
  const strongest = heat.reduce((best, value, at) => ((value ?? -Infinity) > (heat[best] ?? -Infinity) ? at : best), 0);
  const position = (at, count) => Math.round(((at + 0.5) / count) * length - 0.5);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, class: "series" });
  svg.append(...bands(heat, most, x, bottom));
  channels.forEach((values, number) => svg.append(...curve(values, number, TOP + number * row, row, x, channels.length)));
  svg.append(drawn("path", { d: `M${x(0)} ${middle}H${x(1)}`, class: "axis" }));
  svg.append(bars(heat, most, x, middle, 1), bars(heat, most, x, middle, -1));
  svg.append(...ticks(length, x, height - 4));
  place.replaceChildren(svg);
  if (all_channels > channels.length) {
    const text = say("serve_channels", { shown: channels.length, all: all_channels });
    place.append(Object.assign(document.createElement("p"), { className: "caption", textContent: text }));
  }
  addCursor({ place, svg, width, x, bottom: bottom + GAP + BARS, heat, channels, most, position, label, at: strongest });
}

function bands(heat, most, x, bottom) {
  const wide = x(1 / heat.length) - x(0) + 0.3;
  return heat.flatMap((value, at) => {
    const share = (value ?? 0) / most;
    if (Math.abs(share) < 0.03) return [];
    const band = drawn("rect", { x: x(at / heat.length), y: TOP, width: wide, height: bottom - TOP });
    band.setAttribute("class", share > 0 ? "band for" : "band against");
    band.style.setProperty("--share", Math.abs(share).toFixed(2));
    return [band];
  });
}

function bars(heat, most, x, middle, sign) {
  const width = x(1 / heat.length) - x(0);
  const boxes = heat.map((value, at) => {
    const size = (Math.max(0, sign * (value ?? 0)) / most) * (BARS / 2);
    return size ? `M${x(at / heat.length).toFixed(1)} ${middle}h${width.toFixed(2)}v${(-sign * size).toFixed(1)}h${(-width).toFixed(2)}z` : "";
  });
  return drawn("path", { d: boxes.join(""), class: sign > 0 ? "bars-for" : "bars-against" });
}

function curve(values, number, top, height, x, count) {
  const known = values.filter((value) => value !== null);
  const low = Math.min(...known), span = Math.max(...known) - low || 1;
  const points = values.map((value, at) => (value === null ? "" : (
    `${x((at + 0.5) / values.length).toFixed(1)},${(top + 6 + (height - 12) * (1 - (value - low) / span)).toFixed(1)}`)));
  const line = drawn("polyline", { points: points.filter(Boolean).join(" "), class: "curve" });
  if (count === 1) return [line];
  const name = drawn("text", { x: x(0) + 4, y: top + 14, class: "name" });
  name.textContent = say("serve_channel", { n: number + 1 });
  return [line, name];
}

function ticks(length, x, y) {
  const places = [...new Set([0, Math.floor((length - 1) / 2), length - 1])];
  return places.map((place) => {
    const anchor = place === 0 ? "start" : place === length - 1 ? "end" : "middle";
    const text = drawn("text", { x: x((place + 0.5) / length), y, "text-anchor": anchor });
    text.textContent = place.toLocaleString("en");
    return text;
  });
}

// Let a line be moved over the series, which reads out the values there; at first it is where the map is largest.
function addCursor({ place, svg, width, x, bottom, heat, channels, most, position, label, at }) {
  const line = drawn("path", { class: "cursor" });
  const read = Object.assign(document.createElement("p"), { className: "caption reading-at" });
  const move = (to) => {
    at = Math.min(heat.length - 1, Math.max(0, to));
    const share = (at + 0.5) / heat.length, middle = x(share).toFixed(1);
    line.setAttribute("d", `M${middle} ${TOP}V${bottom}`);
    const values = channels.map((one) => one[Math.min(one.length - 1, Math.floor(share * one.length))]);
    const text = say("serve_at", {
      position: position(at, heat.length).toLocaleString("en"),
      values: values.map((value) => (value === null ? "–" : figure(value))).join(", "),
      share: heat[at] === null ? "–" : `${Math.round((100 * heat[at]) / most)}%`,
    });
    read.textContent = text;
    svg.setAttribute("aria-valuenow", at);
    svg.setAttribute("aria-valuetext", text);
  };
  const attributes = { tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": heat.length - 1 };
  for (const [name, value] of Object.entries(attributes)) svg.setAttribute(name, value);
  svg.setAttribute("aria-label", say("serve_map_of", { label }));
  svg.append(line);
  place.append(read);
  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
  svg.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    move(at + steps[event.key]);
  });
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const share = ((event.clientX - box.left) * width / box.width - LEFT) / (width - LEFT - RIGHT);
    move(Math.floor(share * heat.length));
  });
  move(at);
}
