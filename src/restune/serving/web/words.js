// What the page is set to, its words in the chosen language, and small helpers of every module.

export const $ = (id) => document.getElementById(id);
export const settings = JSON.parse($("settings").textContent);
export const percent = (share) => `${(100 * share).toFixed(1)}%`;
export const figure = (value) => String(Number(value.toPrecision(4)));

export let language = settings.language;

// Return a phrase, its fields filled in.
export function say(key, values = {}) {
  return settings.words[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// Write the page's fixed words in a language.
export function speak(chosen) {
  language = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  document.title = `${say("serve_title")} – restune`;
  for (const element of document.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
  }
}

// Make an element with properties and children.
export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Make an SVG element with attributes.
export function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
