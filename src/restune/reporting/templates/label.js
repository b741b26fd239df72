const facts = JSON.parse(document.getElementById("facts").textContent);
const { items, words } = facts, at = id => document.getElementById(id);
const filled = (key, values) => facts.templates[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
const KEYS = [..."123456789abcdefghijklmnopqrstuvwxyz"], HIDE = "-";
const STORE = "restune-label-" + facts.key;
const state = { labels: {}, skipped: [], place: 0, added: [], hidden: false, history: [], ...restored() };

function restored() {
  try { return JSON.parse(localStorage.getItem(STORE)) || {}; } catch { return {}; }
}
function keep() {
  try { localStorage.setItem(STORE, JSON.stringify(state)); } catch { at("message").textContent = words.no_storage; }
}
function element(name, text, properties = {}) {
  return Object.assign(document.createElement(name), { textContent: text, ...properties });
}
const classes = () => [...facts.classes, ...state.added];
function keys() {
  // Classes that are called by one character each have that key: 0 to 9 for digits, not 1 for 0.
  const names = classes(), own = names.map(name => (/^[0-9a-z]$/i.test(name) ? name.toLowerCase() : ""));
  const given = own.slice(0, facts.classes.length);
  if (!given.length || given.includes("") || new Set(given).size < given.length) return names.map((_, place) => KEYS[place] || "");
  const free = KEYS.filter(key => !own.includes(key));
  return own.map((key, place) => (key && own.indexOf(key) === place ? key : free.shift() || ""));
}
const labelOf = item => (Object.hasOwn(state.labels, item.id) ? state.labels[item.id] : null);
const isOpen = item => labelOf(item) === null && !state.skipped.includes(item.id);

function remember(item) {
  state.history.push([item.id, labelOf(item), state.skipped.includes(item.id), state.place]);
}
function put(id, label, isSkipped) {
  if (label === null) delete state.labels[id];
  else state.labels[id] = label;
  state.skipped = state.skipped.filter(other => other !== id);
  if (isSkipped) state.skipped.push(id);
}
function choose(label) {
  const item = items[state.place];
  remember(item);
  put(item.id, label, false);
  onward();
}
function onward() {
  const order = [...items.keys()].map(step => (state.place + 1 + step) % items.length);
  const next = order.find(place => isOpen(items[place]));
  state.place = next === undefined ? state.place : next;
  draw(next === undefined ? words.all_done : "");
}
function skip() {
  const item = items[state.place];
  if (isOpen(item)) { remember(item); put(item.id, null, true); }
  state.place = Math.min(items.length - 1, state.place + 1);
  draw(items.some(isOpen) ? "" : words.all_done);
}
function back() { state.place = Math.max(0, state.place - 1); draw(""); }
function undo() {
  const last = state.history.pop();
  if (!last) return;
  put(last[0], last[1], last[2]);
  state.place = last[3];
  draw("");
}
function hide() { state.hidden = !state.hidden; draw(""); }
function add(name) {
  const clean = name.normalize("NFC").trim().replace(/\s+/g, " ");
  if (!clean) return;
  if (classes().includes(clean)) { at("message").textContent = words.class_exists; return; }
  state.added.push(clean);
  at("added").value = "";
  draw("");
}

function showItem(item) {
  const shown = at("shown");
  shown.replaceChildren();
  if (item.picture) {
    const image = element("img", "", { src: item.picture, alt: filled("picture", { item: item.id }) });
    image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < 80));
    shown.append(image);
  } else if (item.curves) {
    const box = element("div", ""), drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    drawing.setAttribute("viewBox", "0 0 240 72");
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", filled("picture", { item: item.id }));
    for (const points of item.curves) {
      const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      line.setAttribute("points", points);
      drawing.append(line);
    }
    box.append(drawing);
    if (item.sound) box.append(element("audio", "", { src: item.sound, controls: true }));
    shown.append(box);
  } else {
    const quote = element("blockquote", item.text || words.no_preview, { tabIndex: 0 });
    quote.setAttribute("aria-label", filled("picture", { item: item.id }));
    quote.setAttribute("role", "group");
    shown.append(quote);
  }
  at("name").textContent = filled("place", { n: state.place + 1, total: items.length }) + " · " + item.id;
}
function showClasses(item) {
  const label = labelOf(item), guess = state.hidden ? "" : item.guess, codes = keys();
  const buttons = classes().map((name, place) => {
    const button = element("button", "", { type: "button", className: name === guess ? "guessed" : "" });
    if (codes[place]) button.append(element("kbd", codes[place]), " ");
    button.append(name);
    button.setAttribute("aria-pressed", String(name === label));
    button.addEventListener("click", () => choose(name));
    return button;
  });
  at("classes").replaceChildren(...buttons);
}
function showMoves() {
  const has = state.history.length > 0;
  const moves = [["←", words.previous, back, state.place > 0], ["→", words.skip, skip, true], ["⌫", words.undo, undo, has]];
  if (at("guess")) moves.push([HIDE, state.hidden ? words.show : words.hide, hide, true]);
  at("moves").replaceChildren(...moves.map(([key, text, action, isOn]) => {
    const button = element("button", "", { type: "button", disabled: !isOn });
    button.append(element("kbd", key), " ", text);
    button.addEventListener("click", action);
    return button;
  }));
}
function stateOf(item) {
  const label = labelOf(item);
  return label !== null ? filled("is_labelled", { label }) : state.skipped.includes(item.id) ? words.skip : "–";
}
function showStrip() {
  [...at("strip").children].forEach((button, place) => {
    const item = items[place];
    button.className = labelOf(item) !== null ? "labelled" : state.skipped.includes(item.id) ? "skipped" : "";
    button.setAttribute("aria-current", String(place === state.place));
    button.setAttribute("aria-label", filled("jump", { n: place + 1, item: item.id, state: stateOf(item) }));
  });
}
function draw(message) {
  const item = items[state.place], label = labelOf(item), done = Object.keys(state.labels).length;
  const group = document.activeElement && document.activeElement.closest(".classes, .moves");
  const focused = group && [...group.children].indexOf(document.activeElement);
  showItem(item);
  showClasses(item);
  showMoves();
  showStrip();
  at("state").textContent = label === null ? "" : filled("is_labelled", { label });
  if (at("guess")) at("guess").textContent = state.hidden || !item.guess ? "" : filled("guess", { label: item.guess, share: item.share });
  at("progress").textContent = filled("progress", { n: done, total: items.length, skipped: state.skipped.length });
  at("meter").value = done;
  at("message").textContent = message;
  if (group && group.children[focused]) group.children[focused].focus();
  keep();
}

function table() {
  const quoted = text => (/[",\r\n]|^\s|\s$/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
  const isDecided = facts.form === "item", rows = [];
  const put = (first, label) => rows.push(isDecided ? [first, "relabel", label] : [first, label]);
  for (const [first, label] of facts.known) put(first, label);
  for (const item of items) if (labelOf(item) !== null) put(item.row === undefined ? item.id : item.row, labelOf(item));
  if (isDecided) {
    for (const item of items) if (labelOf(item) === null) rows.push([item.id, "drop", ""]);
    for (const id of facts.rest) rows.push([id, "drop", ""]);
  }
  const header = isDecided ? "item,decision,label" : facts.form + ",label";
  return [header, ...rows.map(row => row.map(quoted).join(",")), ""].join("\n");
}
function save() {
  const address = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  element("a", "", { href: address, download: facts.name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  at("message").textContent = words.saved;
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select, audio")) return;
  const place = keys().indexOf(event.key.toLowerCase()), guess = items[state.place].guess;
  const scrolls = event.target.matches("blockquote");
  if (place >= 0) choose(classes()[place]);
  else if (event.key === "ArrowRight") skip();
  else if (event.key === "ArrowLeft") back();
  else if (event.key === "Backspace") undo();
  else if (event.key === HIDE && at("guess")) hide();
  else if (event.key === "Enter" && guess && !state.hidden && !scrolls && !event.target.matches("button, a")) choose(guess);
  else return;
  event.preventDefault();
});
items.forEach((item, place) => {
  const button = element("button", String(place + 1), { type: "button" });
  button.addEventListener("click", () => { state.place = place; draw(""); });
  at("strip").append(button);
});
if (at("adding")) at("adding").addEventListener("submit", event => { event.preventDefault(); add(at("added").value); });
at("save").addEventListener("click", save);
at("desk").hidden = at("keys").hidden = false;
state.place = Math.min(state.place, items.length - 1);
draw("");
