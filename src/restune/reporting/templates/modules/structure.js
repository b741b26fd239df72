// A network's drawing that folds: its parts are panels, each drawn in several ways of folding (structure/page.py).

const sequence = { folded: "grouped", grouped: "folded", each: "folded" };

// Let the panels of `figures` fold by pointer and by keyboard. `below(panel, figure)` may return an element of the
// figure, with its height in data-height, which is placed below that panel. Returns functions that arrange the figures
// again, and that fold all parts in one way.
export function foldable(figures, start = "grouped", below = () => null) {
  const state = {};

  function arrange() {
    for (const figure of figures) {
      let y = 0;
      for (const panel of figure.querySelectorAll(":scope > g.panel")) {
        const wanted = state[panel.dataset.part] || start, folds = [...panel.children];
        const shown = folds.find((fold) => fold.dataset.fold === wanted) || folds[0];
        for (const fold of folds) fold.style.display = fold === shown ? "" : "none";
        panel.setAttribute("transform", `translate(0 ${y})`);
        y += Number(shown.dataset.height);
        const added = below(panel, figure);
        if (added) {
          added.setAttribute("transform", `translate(0 ${y})`);
          y += Number(added.dataset.height);
        }
      }
      figure.setAttribute("viewBox", `0 0 ${figure.dataset.width} ${y}`);
      figure.querySelector(":scope > .paper").setAttribute("height", y);
    }
  }

  function act(element, next) {
    const { part } = element.closest("g.panel").dataset;
    const press = (event) => {
      if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      state[part] = next(state[part] || start);
      arrange();
      const headings = [...element.closest("g.panel").querySelectorAll("text.heading")];
      if (event.type === "keydown") headings.find((heading) => heading.getClientRects().length)?.focus();
    };
    element.setAttribute("role", "button");
    element.setAttribute("tabindex", "0");
    element.addEventListener("click", press);
    element.addEventListener("keydown", press);
  }

  for (const panel of figures.flatMap((figure) => [...figure.querySelectorAll("g.panel")])) {
    if (panel.children.length < 2) continue;
    panel.querySelectorAll("text.heading").forEach((heading) => act(heading, (now) => sequence[now]));
    panel.querySelectorAll("text.badge").forEach((badge) => act(badge, () => "each"));
  }

  function all(fold) {
    for (const panel of figures.flatMap((figure) => [...figure.querySelectorAll("g.panel")])) {
      state[panel.dataset.part] = fold;
    }
    arrange();
  }

  return { arrange, all };
}
