// The server's page: what is chosen, dropped, pasted or written goes to /predict, and the answer is shown.

const $ = (id) => document.getElementById(id);
const words = JSON.parse($("words").textContent);
const say = (key, values = {}) => words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
const percent = (share) => `${(100 * share).toFixed(1)}%`;
const MOST_SHOWN = 10;

let models = [];
let asked = 0; // the latest question: answers to earlier ones are not shown
let photo = null;

const model = () => models.find((one) => one.name === $("model").value) ?? models[0];
const headers = () => ($("key")?.value ? { "X-API-Key": $("key").value } : {});

async function fetched(address, options = {}) {
  let response;
  try {
    response = await fetch(address, { ...options, headers: { ...headers(), ...options.headers } });
  } catch {
    throw new Error(say("serve_unreachable"));
  }
  const answer = await response.json();
  if (!response.ok) {
    throw new Error(answer.predictions?.[0]?.error ?? answer.error?.what ?? String(response.status));
  }
  return answer;
}

async function list() {
  try {
    ({ models } = await fetched("models"));
    say_that("");
    show_form();
  } catch (error) {
    say_that(say("serve_failed", { reason: error.message }), true);
  }
}

function show_form() {
  const kind = model().kind;
  $("drop").hidden = kind === "text";
  $("writing").hidden = kind !== "text";
  $("hint").textContent = kind === "text" ? "" : say(`serve_${kind}`);
  $("file").accept = kind === "image" ? "image/*" : ".wav,.csv,.txt";
  $("details").hidden = true;
}

function say_that(text, is_warning = false, more = "") {
  const lines = [[text, is_warning ? "conclusion warn" : "conclusion"], [more, "warn"]];
  $("answer").replaceChildren(...lines.filter(([line]) => line).map(([line, style]) => {
    const paragraph = document.createElement("p");
    paragraph.className = style;
    paragraph.textContent = line;
    return paragraph;
  }));
}

async function ask(body, type) {
  const question = ++asked;
  const used = model();
  const query = new URLSearchParams({ model: used.name, topk: MOST_SHOWN, explain: used.explains });
  $("details").hidden = true;
  say_that(say("serve_working"));
  try {
    const { predictions } = await fetched(`predict?${query}`, {
      method: "POST", body, headers: { "Content-Type": type },
    });
    if (question === asked) show(predictions[0], used);
  } catch (error) {
    if (question === asked) say_that(say("serve_failed", { reason: error.message }), true);
  }
}

function show(prediction, used) {
  $("details").hidden = false;
  $("list-title").textContent = say(prediction.values ? "serve_values" : "serve_probabilities");
  if (prediction.values) {
    say_that(Object.entries(prediction.values).map(([name, value]) => `${name} = ${value.toPrecision(4)}`).join("; "));
    draw_bars(Object.entries(prediction.values), (value) => value.toPrecision(4), false);
  } else if (prediction.labels) {
    const labels = prediction.labels.join(", ");
    say_that(labels ? say("serve_labels", { labels }) : say("serve_no_labels"));
    draw_bars(prediction.top, percent, true);
  } else {
    const label = prediction.label;
    const probability = percent(prediction.probability);
    const unsure = used.threshold !== null && prediction.probability < used.threshold;
    const values = { label, probability, threshold: percent(used.threshold ?? 0) };
    say_that(say(unsure ? "serve_unsure" : "serve_label", values), unsure, prediction.novel ? say("serve_novel") : "");
    draw_bars(prediction.top, percent, true);
  }
  show_map(prediction);
}

function draw_bars(entries, shown, has_bars) {
  $("bars").replaceChildren(...entries.map(([name, value]) => {
    const row = document.createElement("li");
    const [label, track, bar, number] = ["span", "span", "div", "span"].map((tag) => document.createElement(tag));
    label.textContent = name;
    number.textContent = shown(value);
    number.className = "share";
    bar.className = "bar";
    bar.style.width = `${100 * value}%`;
    if (has_bars) track.append(bar);
    row.append(label, track, number);
    return row;
  }));
}

function show_map(prediction) {
  $("explained").hidden = !prediction.explanation;
  if (!prediction.explanation) return;
  $("map").src = prediction.explanation;
  $("map").alt = say("serve_map_of", { label: prediction.label });
  photo.url = URL.createObjectURL(photo.file);
  $("stack").classList.remove("alone");
  $("photo").hidden = false;
  $("photo").src = photo.url;
}

async function take(file) {
  if (!file || !models.length) return;
  if (model().kind === "signal" && !/\.wav$/i.test(file.name)) {
    const rows = (await file.text()).trim().split(/\r?\n/).map((line) => line.split(/[,;\t ]+/).filter(Boolean).map(Number));
    return ask(JSON.stringify({ inputs: [{ series: rows }] }), "application/json");
  }
  if (photo?.url) URL.revokeObjectURL(photo.url);
  photo = { url: "", file };
  return ask(file, "application/octet-stream");
}

// A photo that the browser cannot show, such as a TIFF, is left out: the map is drawn over its grey pixels.
$("photo").addEventListener("error", () => {
  $("photo").hidden = true;
  $("stack").classList.add("alone");
});
$("opacity").addEventListener("input", () => { $("map").style.opacity = $("opacity").value / 100; });
$("map").style.opacity = $("opacity").value / 100;
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  take($("file").files[0]);
  $("file").value = "";
});
$("send").addEventListener("click", () => ask(JSON.stringify({ inputs: [{ text: $("text").value }] }), "application/json"));
$("model").addEventListener("change", show_form);
$("key")?.addEventListener("change", list);
$("opening")?.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("paste", (event) => {
  const file = event.clipboardData?.files[0];
  if (file && model()?.kind === "image") take(file);
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(event.dataTransfer?.files[0]);
});
if (!$("key")) list();
