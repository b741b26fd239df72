// The answer to one input in words and bars, and the list of several inputs' answers.

import { $, figure, make, percent, say } from "./words.js";

export const MOST_SHOWN = 10;

// Say one or two sentences where a screen reader hears them.
export function tell(text, { warns = false, more = "", retry = null } = {}) {
  const lines = text ? [make("p", { className: warns ? "conclusion warn" : "conclusion" }, text)] : [];
  if (more) lines.push(make("p", { className: "novel warn" }, more));
  if (retry) {
    const again = make("button", { type: "button" }, say("serve_again"));
    again.addEventListener("click", retry);
    lines.push(make("p", {}, again));
  }
  $("answer").replaceChildren(...lines);
}

export function tellProblem(problem, retry = null) {
  tell(say("serve_failed", { reason: problem.message }), { warns: true, retry });
}

// Return a prediction's sentence, and whether the model is not sure.
export function sentence(prediction, used) {
  if (prediction.values) {
    const values = Object.entries(prediction.values).map(([name, value]) => `${name} = ${figure(value)}`);
    return { text: values.slice(0, MOST_SHOWN).join("; "), unsure: false };
  }
  if (prediction.labels) {
    const labels = prediction.labels.join(", ");
    return { text: labels ? say("serve_labels", { labels }) : say("serve_no_labels"), unsure: false };
  }
  const unsure = used.threshold !== null && prediction.probability < used.threshold;
  const values = { label: prediction.label, probability: percent(prediction.probability) };
  if (unsure) values.threshold = percent(used.threshold);
  return { text: say(unsure ? "serve_unsure" : "serve_label", values), unsure };
}

// Show a prediction: its sentence and its bars.
export function showAnswer({ prediction, used }) {
  const { text, unsure } = sentence(prediction, used);
  tell(text, { warns: unsure, more: prediction.novel ? say("serve_novel") : "" });
  $("list-title").textContent = say(prediction.values ? "serve_values" : "serve_probabilities");
  const chosen = new Set(prediction.labels);
  const entries = prediction.values ? Object.entries(prediction.values) : prediction.top;
  $("bars").classList.toggle("values", Boolean(prediction.values));
  $("bars").replaceChildren(...entries.slice(0, prediction.values ? 100 : MOST_SHOWN).map(([name, value]) => (
    prediction.values ? valueRow(name, value) : barRow(name, value, chosen.has(name), used.threshold)
  )));
  const has_line = !prediction.values && !prediction.labels && used.threshold !== null;
  const notes = [
    used.classes.length > entries.length ? say("serve_more", { shown: entries.length, all: used.classes.length }) : "",
    has_line ? say("serve_line", { threshold: percent(used.threshold) }) : "",
    prediction.labels ? say("serve_ticked") : "",
  ];
  $("bars-note").textContent = notes.filter(Boolean).join(" ");
}

function valueRow(name, value) {
  return make("li", {}, make("span", {}, name), make("span", { className: "share" }, figure(value)));
}

function barRow(name, value, isChosen, threshold) {
  const bar = make("span", { className: "bar" }), track = make("span", { className: "track" }, bar);
  bar.style.width = `${100 * value}%`;
  if (threshold !== null && threshold !== undefined) {
    const line = make("span", { className: "line" });
    line.style.left = `${100 * threshold}%`;
    track.append(line);
  }
  const label = make("span", { className: isChosen ? "name chosen" : "name" }, isChosen ? `✓ ${name}` : name);
  return make("li", {}, label, track, make("span", { className: "share" }, percent(value)));
}

// List the answers to several inputs; pressing one shows it.
export function showSeveral(results, current, expected, show) {
  $("several").hidden = expected < 2;
  $("several-title").textContent = say("serve_several", { done: results.length, all: expected });
  $("several-list").replaceChildren(...results.map((result) => {
    const button = make("button", { type: "button" });
    button.setAttribute("aria-pressed", String(result === current));
    if (result.input.url) button.append(thumbnail(result.input.url));
    const { text, warns } = summary(result);
    button.append(
      make("span", { className: "of" }, result.input.name), make("span", { className: warns ? "said warn" : "said" }, text),
    );
    button.addEventListener("click", () => show(result));
    return make("li", {}, button);
  }));
}

// A picture that the browser cannot show is left out.
function thumbnail(src) {
  const image = make("img", { src, alt: "" });
  image.addEventListener("error", () => image.remove());
  return image;
}

function summary({ prediction, problem, used }) {
  if (problem) return { text: problem.message, warns: true };
  if (prediction.label === undefined || prediction.values) return { text: sentence(prediction, used).text, warns: false };
  const { label, probability } = prediction;
  const { unsure } = sentence(prediction, used);
  const marks = [unsure ? say("serve_unsure_short") : "", prediction.novel ? say("serve_novel_short") : ""];
  const values = { label, probability: percent(probability) };
  return { text: [say("serve_label", values), ...marks.filter(Boolean)].join(" · "), warns: unsure || prediction.novel };
}
