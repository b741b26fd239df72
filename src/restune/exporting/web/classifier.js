// The page of an exported image model: an image in, labels and the class activation map out. Nothing leaves the page.
import { networkPixels, seenRectangle } from "./pixels.js";

const settings = JSON.parse(document.getElementById("settings").textContent);
const words = JSON.parse(document.getElementById("words").textContent);
let language = settings.language, last = null, sessionPromise = null;

const element = (id) => document.getElementById(id);
const say = (key) => words[language][key];

function unpacked(id) {
  const text = element(id).textContent.trim(), bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function session() {
  const source = new TextDecoder().decode(await unpacked("runtime"));
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await unpacked("wasm");
  ort.env.logLevel = "error";
  const started = await ort.InferenceSession.create(new Uint8Array(await unpacked("model")));
  return { ort, started };
}

function ready() {
  sessionPromise ??= session();
  return sessionPromise;
}

/** Run the network on RGBA bytes; the outputs by name, as arrays with their shapes. */
async function run(rgba, width, height) {
  const { ort, started } = await ready();
  const pixels = networkPixels(rgba, width, height, settings);
  const shape = [1, settings.channels, settings.crop, settings.crop];
  const outputs = await started.run({ [started.inputNames[0]]: new ort.Tensor("uint8", pixels, shape) });
  return { pixels, ...Object.fromEntries(Object.entries(outputs).map(([name, one]) => [name, one])) };
}

async function classify(blob) {
  status(say("working"));
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", premultiplyAlpha: "none",
      colorSpaceConversion: "none" });
  } catch {
    return status(say("unreadable"));
  }
  if (bitmap.width * bitmap.height > settings.most_pixels) return status(say("too_large"));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const started = performance.now();
  const outputs = await run(data, bitmap.width, bitmap.height);
  last = { bitmap, outputs, milliseconds: performance.now() - started, shown: null };
  show();
}

function ranked(probabilities) {
  return [...probabilities].map((probability, index) => ({ probability, index }))
    .sort((a, b) => b.probability - a.probability || a.index - b.index).slice(0, 5);
}

function show() {
  const { outputs } = last, best = ranked(outputs.probabilities.data);
  last.shown ??= best[0].index;
  const sure = best[0].probability >= settings.sure, percent = (value) => `${(100 * value).toFixed(1)}%`;
  status(`${settings.classes[best[0].index]}, ${percent(best[0].probability)}${sure ? "" : ` – ${say("not_sure")}`}`);
  element("novel").hidden = !(outputs.novelty && outputs.novelty.data[0] > settings.novelty_threshold);
  element("bars").replaceChildren(...best.map(({ probability, index }) => {
    const row = document.createElement("button"), name = document.createElement("span");
    const bar = document.createElement("span"), value = document.createElement("span");
    row.type = "button";
    row.className = "bar";
    row.setAttribute("aria-pressed", String(index === last.shown));
    name.textContent = settings.classes[index];
    bar.className = "length";
    bar.style.setProperty("--share", probability);
    value.textContent = percent(probability);
    row.append(name, bar, value);
    row.addEventListener("click", () => { last.shown = index; show(); });
    return row;
  }));
  element("time").textContent = `${say("time")} ${last.milliseconds.toFixed(0)} ms`;
  element("result").hidden = false;
  draw();
}

function draw() {
  const { bitmap, outputs } = last, canvas = element("picture"), scale = Math.min(1, 480 / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-label", `${say("picture")}: ${settings.classes[last.shown]}`);
  element("map-controls").hidden = !outputs.class_map;
  if (!outputs.class_map) return;
  const seen = seenRectangle(bitmap.width, bitmap.height, settings);
  context.globalAlpha = Number(element("opacity").value) / 100;
  context.imageSmoothingEnabled = true;
  context.drawImage(heat(outputs.class_map, last.shown), seen.left * scale, seen.top * scale,
    seen.width * scale, seen.height * scale);
  context.globalAlpha = 1;
}

/** The class's map as a small picture: from transparent (does not speak for the class) to orange (speaks for it). */
function heat(map, index) {
  const [, , rows, columns] = map.dims, values = map.data.slice(index * rows * columns, (index + 1) * rows * columns);
  const most = Math.max(...values, 1e-9), picture = new ImageData(columns, rows);
  values.forEach((value, place) => {
    const share = Math.max(0, value) / most;
    picture.data.set([230, 97, 1, Math.round(255 * share)], 4 * place);
  });
  const canvas = new OffscreenCanvas(columns, rows);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

function status(text) {
  element("status").textContent = text;
}

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  element("language").textContent = language === "zh" ? "English" : "中文";
  if (last) show(); else status(say("waiting"));
}

function fileOf(transfer) {
  return [...transfer.files].find((file) => file.type.startsWith("image/"));
}

const drop = element("drop");
element("file").addEventListener("change", (event) => event.target.files[0] && classify(event.target.files[0]));
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const file = fileOf(event.dataTransfer);
  if (file) classify(file); else status(say("unreadable"));
});
document.addEventListener("paste", (event) => {
  const file = fileOf(event.clipboardData);
  if (file) classify(file);
});
element("opacity").addEventListener("input", draw);
element("language").addEventListener("click", () => { language = language === "zh" ? "en" : "zh"; translate(); });
translate();
ready().then(() => { document.body.dataset.ready = "true"; if (!last) status(say("waiting")); },
  (error) => status(`${say("failed")} ${error.message}`));
window.restune = { run, classify, last: () => last, forget: () => { last = null; } };
