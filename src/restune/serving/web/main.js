// The server's page: what is chosen, dropped, pasted, written or photographed goes to the server, and its answer is shown.

import { MOST_SHOWN, showAnswer, showSeveral, tell, tellProblem } from "./answer.js";
import { addCamera } from "./camera.js";
import { showEvidence } from "./evidence.js";
import { ofFile, ofNumbers, ofText, release } from "./inputs.js";
import { addInside, showInside } from "./inside.js";
import { fetched, predict } from "./server.js";
import { $, language, say, speak } from "./words.js";

const MOST_FILES = 100, MOST_NAMED = 90; // characters of class names

let models = [];
let results = [];
let expected = 0; // number of inputs of the present question
let current = null; // the result that is shown
let asked = 0; // the latest question: answers to earlier ones are not shown

const model = () => models.find((one) => one.name === $("model").value) ?? models[0];

async function list() {
  try {
    ({ models } = await fetched("models"));
    $("asking").hidden = false;
    tell("");
    showForm();
  } catch (problem) {
    tellProblem(problem, list);
  }
}

// Show what the chosen model takes, without an answer.
function showForm() {
  asked += 1;
  const { kind } = model();
  $("drop").hidden = kind === "text";
  $("writing").hidden = !["text", "signal"].includes(kind);
  $("file").accept = { image: "image/*", video: "video/*" }[kind] ?? ".wav,.csv,.txt";
  $("camera-start").hidden = kind !== "image";
  if (kind !== "image") camera.stop();
  $("text").value = "";
  sayForm();
  clear();
}

// Write what depends on the model in the page's language.
function sayForm() {
  const { kind, task, classes, network } = model();
  const key = { "single-label": "classes", "multi-label": "labels" }[task] ?? "numbers";
  $("about-model").textContent = say(`serve_has_${key}`, { network: network ?? "", n: classes.length, classes: firstOf(classes) });
  const touches = kind === "image" && matchMedia("(pointer: coarse)").matches;
  $("hint").textContent = kind === "text" ? "" : say(touches ? "serve_image_touch" : `serve_${kind}`);
  $("text-label").textContent = say(kind === "signal" ? "serve_numbers" : "serve_text");
  $("text").classList.toggle("numbers", kind === "signal");
}

// Return the first names of a list that fit in a line or two.
function firstOf(names) {
  let length = 0;
  const shown = names.filter((name, at) => (length += name.length + 2) < MOST_NAMED || at === 0);
  const listed = names.slice(0, shown.length).join(", ");
  return shown.length < names.length ? `${listed}, …` : listed;
}

function clear(kept = []) {
  free(kept);
  [results, expected, current] = [[], 0, null];
  showSeveral([], null, 0);
  $("details").hidden = true;
  showInside(model(), null);
}

// Answer inputs one after the other, and show the first answer as soon as it is there.
async function ask(inputs, isLive = false) {
  const question = ++asked, used = model();
  if (!isLive) {
    clear(inputs);
    tell(say("serve_working"));
  }
  for (const input of inputs) {
    const result = await predict(input, used, MOST_SHOWN);
    if (question !== asked) {
      if (isLive) release(input);
      break;
    }
    if (isLive) free(inputs);
    [results, expected] = [[...(isLive ? [] : results), result], inputs.length];
    if (results.length > 1) listAgain();
    else if (isLive) await show(result); // with its feature maps, before the next picture
    else show(result);
  }
  return question === asked ? results[0]?.problem : null;
}

// Free the pictures of shown inputs, but for those that are kept.
function free(kept) {
  for (const { input } of results) if (!kept.includes(input)) release(input);
}

function listAgain() {
  showSeveral(results, current, expected, show);
}

function show(result) {
  const at = [...$("several-list").querySelectorAll("button")].indexOf(document.activeElement);
  current = result;
  listAgain();
  $("several-list").querySelectorAll("button")[at]?.focus();
  $("details").hidden = Boolean(result.problem);
  if (result.problem) {
    tellProblem(result.problem, result.problem.retryAfter ? () => ask([result.input]) : null);
    return null;
  }
  showAnswer(result);
  showEvidence(result);
  return showInside(result.used, result);
}

async function take(files) {
  if (!models.length || !files.length) return;
  camera.rest();
  const { kind } = model();
  const inputs = await Promise.all([...files].slice(0, MOST_FILES).map((file) => ofFile(file, kind)));
  if (kind === "text" && inputs.length === 1) $("text").value = inputs[0].text;
  await ask(inputs);
}

function send() {
  const text = $("text").value;
  return ask([model().kind === "signal" ? ofNumbers(text) : ofText(text)]);
}

const camera = addCamera((input, isLive) => ask([input], isLive), (problem) => tellProblem(problem));
addInside();

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  take([...$("file").files]);
  $("file").value = "";
});
$("send").addEventListener("click", send);
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
});
$("model").addEventListener("change", () => {
  tell("");
  showForm();
});
$("opening")?.addEventListener("submit", (event) => {
  event.preventDefault();
  list();
});
$("language").addEventListener("click", () => {
  speak(language === "zh" ? "en" : "zh");
  history.replaceState(null, "", `?lang=${language}`);
  if (!models.length) return;
  sayForm();
  if (current) show(current);
  else showInside(model(), null);
});

document.addEventListener("paste", (event) => {
  const { files } = event.clipboardData ?? { files: [] };
  if (files.length && models.length) {
    event.preventDefault();
    take(files);
  } else if (!$("writing").hidden && document.activeElement !== $("text")) {
    $("text").value = event.clipboardData.getData("text");
    $("text").focus();
    event.preventDefault();
  }
});
const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    $("drop").classList.add("over");
    $("text").classList.add("over");
  });
}
function left() {
  $("drop").classList.remove("over");
  $("text").classList.remove("over");
}
document.addEventListener("dragleave", left);
document.addEventListener("drop", (event) => {
  left();
  if (!hasFiles(event)) return;
  event.preventDefault();
  take(event.dataTransfer.files);
});

speak(language);
if ($("key")) $("key").focus();
else list();
