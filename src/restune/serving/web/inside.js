// Inside the network: the drawing of its structure, with the feature maps of the shown input below each stage.

import { featureMaps, fetched } from "./server.js";
import { foldable } from "./structure.js";
import { $, drawn, figure, language, make, say } from "./words.js";

const MOST = 8;
const SHAPES = { wide: { left: 212, side: 79, count: 8 }, narrow: { left: 22, side: 63, count: 5 } };
const GAP = 7, RIGHT = 26, STRIP = 13;

let drawing = null; // {model, language, arrange, all}
let shown = null; // the result whose maps are to be seen
let begun = null; // the result whose maps are drawn or asked for
let stages = [];

export function addInside() {
  $("inside").addEventListener("toggle", () => refresh());
  for (const button of document.querySelectorAll("[data-all]")) {
    button.addEventListener("click", () => drawing?.all(button.dataset.all));
  }
  $("larger").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  $("larger-close").addEventListener("click", () => $("larger").close());
  $("larger-before").addEventListener("click", () => step(-1));
  $("larger-after").addEventListener("click", () => step(1));
}

// Show the inside of the model for a result, now or when the section is opened; null: the drawing alone.
export async function showInside(used, result) {
  $("inside").hidden = !used.has_stages;
  shown = { used, result };
  await refresh();
}

async function refresh() {
  if (!$("inside").open || !shown?.used.has_stages || shown === begun) return;
  const question = shown, { used, result } = question;
  begun = question;
  try {
    await draw(used, () => question === shown);
    if (question !== shown) return;
    const found = result?.prediction ? await featureMaps(result.input, used, MOST) : [];
    if (question !== shown) return;
    stages = found;
    $("inside-said").textContent = say(stages.length ? "serve_inside_reading" : "serve_inside_empty");
    drawing.clear();
    drawing.arrange();
  } catch (problem) {
    if (question !== shown) return;
    begun = null; // opening the section again asks again
    $("inside-said").textContent = say("serve_failed", { reason: problem.message });
  }
}

// Draw a model's structure, unless another question is asked before the server has answered this one.
async function draw(used, isAsked) {
  if (drawing?.model === used.name && drawing.language === language) return;
  const { wide, narrow } = await fetched(`structure?${new URLSearchParams({ model: used.name, lang: language })}`);
  if (!isAsked()) return;
  stages = [];
  $("figure-wide").innerHTML = wide;
  $("figure-narrow").innerHTML = narrow;
  const figures = ["wide", "narrow"].map((form) => {
    const svg = $(`figure-${form}`).querySelector("svg");
    svg.dataset.form = form;
    return svg;
  });
  const rows = new Map();
  const below = (panel, svg) => {
    const key = `${svg.dataset.form} ${panel.dataset.part}`;
    if (!rows.has(key)) rows.set(key, row(panel.dataset.part, svg));
    const found = rows.get(key);
    if (found && !found.isConnected) panel.after(found);
    return found;
  };
  const clear = () => {
    for (const one of rows.values()) one?.remove();
    rows.clear();
  };
  drawing = { ...foldable(figures, "folded", below), clear, model: used.name, language };
  drawing.arrange();
}

// Return what is drawn below a part: the input's picture, or a stage's feature maps; null for nothing.
function row(part, svg) {
  const shape = SHAPES[svg.dataset.form];
  const stage = stages.find((one) => one.name === part);
  const url = part === "title" ? shown?.result?.input.url : null;
  if (!stage && !(url && stages.length)) return null;
  const width = Number(svg.dataset.width);
  const group = drawn("g", { class: "maps" });
  const free = width - shape.left - RIGHT - GAP;
  const height = url ? shape.side : stage.shape.length === 2 ? strips(group, stage, shape, free) : squares(group, stage, shape, free);
  if (url) {
    const place = { href: url, x: width - RIGHT - GAP - shape.side, y: 4, width: shape.side, height: shape.side };
    group.append(drawn("image", place));
  } else {
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", say("serve_maps_of", { stage: stageName(part) }));
    addKeys(group);
  }
  group.dataset.height = height + 14;
  group.append(drawn("path", { class: "flow", d: `M${width - 12} 0V${height + 14}` }));
  return group;
}

// Draw the maps of images and of frames side by side.
function squares(group, stage, { left, side, count }, free) {
  const fitting = Math.min(count, Math.floor((free + GAP) / (side + GAP)));
  stage.maps.slice(0, fitting).forEach((map, number) => {
    group.append(mapButton(stage, map, { x: left + number * (side + GAP), y: 4, width: side, height: side }));
  });
  return side;
}

// Draw the maps of series and of texts as strips below each other.
function strips(group, stage, { left }, free) {
  stage.maps.forEach((map, number) => {
    group.append(mapButton(stage, map, { x: left, y: 4 + number * (STRIP + 4), width: free, height: STRIP }));
  });
  return stage.maps.length * (STRIP + 4);
}

function mapButton(stage, map, box) {
  const name = mapName(stage, map);
  const button = drawn("g", { class: "map-button", role: "button", tabindex: -1, "aria-label": name });
  const title = drawn("title");
  title.textContent = name;
  const form = stage.shape.length === 2 ? { preserveAspectRatio: "none" } : {};
  button.append(title, drawn("image", { href: map.image, ...box, ...form }), drawn("rect", { ...box, rx: 2 }));
  button.addEventListener("click", () => enlarge(stage, map));
  return button;
}

// Make a row of maps one stop of the Tab key, within which the arrow keys move.
function addKeys(group) {
  const buttons = [...group.querySelectorAll(".map-button")];
  buttons[0]?.setAttribute("tabindex", 0);
  group.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(event.target.closest(".map-button"));
    const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -buttons.length, End: buttons.length };
    if (event.key === "Enter" || event.key === " ") buttons[at].dispatchEvent(new MouseEvent("click"));
    else if (event.key in steps) {
      const next = buttons[Math.min(buttons.length - 1, Math.max(0, at + steps[event.key]))];
      buttons[at].setAttribute("tabindex", -1);
      next.setAttribute("tabindex", 0);
      next.focus();
    } else return;
    event.preventDefault();
  });
}

const stageName = (part) => (part === "stem" ? say("serve_stem") : say("serve_stage", { n: part.replace("stage", "") }));

function mapName(stage, map) {
  return say("serve_map_name", { stage: stageName(stage.name), channel: map.channel });
}

let enlarged = null; // the map in the dialog

function enlarge(stage, map) {
  enlarged = map;
  $("larger-title").textContent = mapName(stage, map);
  $("larger-map").src = map.image;
  $("larger-map").alt = mapName(stage, map);
  $("larger-map").className = stage.shape.length === 2 ? "strip" : "";
  const values = { shape: stage.shape.slice(1).join(" × "), least: figure(map.least), largest: figure(map.largest), all: stage.shape[0] };
  $("larger-said").textContent = say("serve_map_range", values);
  if (!$("larger").open) $("larger").showModal(); // closing it gives the focus back, which a dialog does itself
}

// Show the next map of the same stage, or that of the next stage.
function step(by) {
  const all = stages.flatMap((stage) => stage.maps.map((map) => ({ stage, map })));
  const next = all[all.findIndex(({ map }) => map === enlarged) + by];
  if (next) enlarge(next.stage, next.map);
}
