const words = JSON.parse(document.getElementById("words").textContent);
const filled = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const suspects = [...document.querySelectorAll(".suspect[data-item]")];
const total = new Set(suspects.map(suspect => suspect.dataset.item)).size;
const decisions = new Map(restored());
const PAGE = 24;

function restored() {
  try { return JSON.parse(localStorage.getItem("restune-check-" + words.key)) || []; } catch { return []; }
}
function kept() {
  try { localStorage.setItem("restune-check-" + words.key, JSON.stringify([...decisions])); } catch { /* a browser that stores nothing */ }
}
function element(name, text, properties = {}) {
  return Object.assign(document.createElement(name), { textContent: text, ...properties });
}

function addButtons(suspect) {
  const { item, label, proposed } = suspect.dataset;
  const buttons = element("div", "", { className: "buttons" });
  const select = element("select", "");
  select.setAttribute("aria-label", filled(words.newLabel, { item }));
  const others = words.classes.filter(name => name !== label);
  const first = proposed || others[0];
  select.append(element("option", first, { value: first }));
  const complete = () => {
    if (select.length > 1) return;
    for (const name of others) if (name !== first) select.append(element("option", name, { value: name }));
  };
  select.addEventListener("focus", complete);
  select.addEventListener("pointerdown", complete);
  select.addEventListener("change", () => decide(item, "relabel", select.value));
  const add = (text, action) => {
    const button = element("button", text, { type: "button" });
    button.addEventListener("click", action);
    buttons.append(button);
  };
  add(words.keep, () => decide(item, "keep", ""));
  if (others.length) add(words.relabel, () => decide(item, "relabel", select.value));
  if (others.length) buttons.append(select);
  add(words.drop, () => decide(item, "drop", ""));
  add(words.undo, () => decide(item, null));
  suspect.append(element("p", "", { className: "decision", hidden: true }), buttons);
}

function decide(item, decision, label) {
  if (decision === null) decisions.delete(item);
  else decisions.set(item, [decision, label]);
  kept();
  for (const suspect of suspects) if (suspect.dataset.item === item) show(suspect);
  count();
}
function show(suspect) {
  const [decision, label] = decisions.get(suspect.dataset.item) || [];
  const line = suspect.querySelector(".decision");
  const texts = { keep: words.isKeep, drop: words.isDrop, relabel: filled(words.isRelabel, { label }) };
  suspect.classList.toggle("decided", decision !== undefined);
  suspect.classList.toggle("drop", decision === "drop");
  line.hidden = decision === undefined;
  line.textContent = texts[decision] || "";
}
function count() {
  const counts = { keep: 0, relabel: 0, drop: 0 };
  for (const [decision] of decisions.values()) counts[decision] += 1;
  document.getElementById("progress").textContent = filled(words.decided, { n: decisions.size, total, ...counts });
}

function table() {
  const quoted = text => (/[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
  const rows = [...decisions].map(([item, [decision, label]]) => [item, decision, label].map(quoted).join(","));
  return ["item,decision,label", ...rows, ""].join("\n");
}
function save() {
  const address = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  element("a", "", { href: address, download: "decisions.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function paginate(section) {
  const cards = [...section.querySelectorAll(".card")], pager = section.querySelector(".pager");
  if (cards.length <= PAGE) return;
  let first = 0;
  const place = element("span", ""), back = element("button", words.previous, { type: "button" });
  const on = element("button", words.next, { type: "button" });
  const turn = to => {
    first = to;
    cards.forEach((card, number) => { card.hidden = number < first || number >= first + PAGE; });
    place.textContent = filled(words.page, { first: first + 1, last: Math.min(first + PAGE, cards.length), n: cards.length });
    back.disabled = first === 0;
    on.disabled = first + PAGE >= cards.length;
  };
  back.addEventListener("click", () => { turn(first - PAGE); section.scrollIntoView(); });
  on.addEventListener("click", () => { turn(first + PAGE); section.scrollIntoView(); });
  pager.append(back, place, on);
  pager.hidden = false;
  turn(0);
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input, textarea")) return;
  const key = event.key.toLowerCase(), visible = suspects.filter(suspect => suspect.offsetParent !== null);
  const current = event.target.closest(".suspect[data-item]");
  if (key === "n" || key === "p") {
    const next = visible[Math.max(0, visible.indexOf(current) + (key === "n" ? 1 : -1))];
    if (next) { next.focus(); event.preventDefault(); }
  } else if (current && "kdu".includes(key)) {
    decide(current.dataset.item, { k: "keep", d: "drop", u: null }[key], "");
  } else if (current && key === "r" && current.querySelector("select")) {
    if (current.dataset.proposed) decide(current.dataset.item, "relabel", current.querySelector("select").value);
    else current.querySelector("select").focus();
  }
});
suspects.forEach(addButtons);
suspects.forEach(show);
document.querySelectorAll("section").forEach(paginate);
document.querySelectorAll(".bar, .keys").forEach(part => { part.hidden = false; });
document.getElementById("save").addEventListener("click", save);
count();
