
const why = document.getElementById("filter-why"), chosen = document.getElementById("filter-class");
const overlay = document.getElementById("filter-overlay"), count = document.getElementById("filter-count");
function filter() {
  let shown = 0;
  for (const card of document.querySelectorAll(".gallery li")) {
    const fits = (!why.value || card.dataset.why === why.value)
      && (!chosen.value || card.dataset.true === chosen.value || card.dataset.predicted === chosen.value);
    card.hidden = !fits;
    shown += fits;
    const drawn = card.querySelector("img.overlay");
    if (drawn && overlay) { drawn.hidden = !overlay.checked; card.querySelector("img.plain").hidden = overlay.checked; }
  }
  count.textContent = count.dataset.text.replace("{n}", shown);
}
if (why) {
  document.getElementById("filter").hidden = false;
  for (const control of [why, chosen, overlay]) if (control) control.addEventListener("change", filter);
  filter();
}
const folded = new Set();
addEventListener("beforeprint", () => document.querySelectorAll("details:not([open])").forEach(one => { folded.add(one); one.open = true; }));
addEventListener("afterprint", () => { folded.forEach(one => { one.open = false; }); folded.clear(); });
