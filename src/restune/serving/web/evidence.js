// Where the evidence for a class is: over an image, in the words of a text, along a series; a slider sets its opacity.

import { drawSeries } from "./series.js";
import { $, make, say } from "./words.js";

const STRONG = 0.5; // of the largest value: underlined
const KINDS = ["picture", "words", "series"];

// Show an input and, where there is one, its explanation.
export function showEvidence({ input, used, prediction }) {
  const found = prediction?.explanation;
  const photo = found?.frames ?? input.url;
  $("evidence").hidden = !(found || photo);
  $("evidence-title").textContent = say(found ? "serve_map" : "serve_chosen");
  $("opacity-field").hidden = !found;
  const kind = found?.pieces ? "words" : found?.heat ? "series" : "picture";
  $("details").classList.toggle("long", kind !== "picture" || Boolean(found?.frames));
  for (const one of KINDS) $(one).hidden = one !== kind;
  $("picture").classList.toggle("frames", Boolean(found?.frames));
  $("reading").hidden = !found;
  $("reading").textContent = say(`serve_reading_${kind}`);
  if (kind === "words") showWords(found.pieces, prediction.label);
  else if (kind === "series") drawSeries($("series"), found, prediction.label);
  else showPicture(input, photo, found?.map ?? found, prediction, used);
}

function showPicture(input, photo, map, prediction, used) {
  $("map").hidden = !map;
  $("picture").classList.toggle("alone", !photo);
  if (map) {
    $("map").src = map;
    $("map").alt = say("serve_map_of", { label: prediction.label ?? used.name });
  } else {
    $("map").removeAttribute("src");
  }
  $("photo").hidden = !photo;
  $("photo").alt = input.name;
  if (photo && $("photo").src !== photo) $("photo").src = photo;
}

// A photo that the browser cannot show, such as a TIFF, is left out: the map is drawn over its grey pixels.
$("photo").addEventListener("error", () => {
  $("photo").hidden = true;
  $("picture").classList.add("alone");
});

function showWords(pieces, label) {
  const most = Math.max(...pieces.map(([, value]) => Math.abs(value ?? 0))) || 1;
  $("words").setAttribute("aria-label", say("serve_map_of", { label }));
  $("words").replaceChildren(...pieces.map(([text, value]) => {
    const share = (value ?? 0) / most;
    if (Math.abs(share) < 0.02) return text;
    const mark = make("mark", { className: share > 0 ? "heat for" : "heat against" }, text);
    if (Math.abs(share) >= STRONG) mark.classList.add("strong");
    mark.title = say("serve_of_largest", { share: `${Math.round(100 * share)}%` });
    mark.style.setProperty("--share", Math.abs(share).toFixed(2));
    return mark;
  }));
}

function setOpacity() {
  $("evidence").style.setProperty("--opacity", $("opacity").value / 100);
}

$("opacity").addEventListener("input", setOpacity);
setOpacity();
