// What a person chooses, drops, pastes, writes or photographs, as inputs: {name, body, type, file, url, text, problem}.

const MOST_NAME = 60;

// Return the input that a file is for a model of this kind.
export async function ofFile(file, kind) {
  if (kind === "text") return ofText(await file.text(), file.name);
  if (kind === "signal" && !/\.wav$/i.test(file.name)) return ofNumbers(await file.text(), file.name);
  const url = kind === "image" ? URL.createObjectURL(file) : null;
  return { name: file.name, body: file, type: "application/octet-stream", file, url };
}

export function ofText(text, name = "") {
  return { ...ofJson({ text }), name: name || shortened(text), text };
}

// Return the input of a series: one line of numbers per channel.
export function ofNumbers(text, name = "") {
  const lines = text.trim().split(/\r?\n/);
  const rows = lines.map((line) => line.split(/[,;\s]+/).filter(Boolean).map(Number));
  const wrong = rows.findIndex((row) => !row.length || !row.every(Number.isFinite));
  const input = { ...ofJson({ series: rows }), name: name || shortened(lines[0]) };
  return wrong < 0 ? input : { ...input, problem: ["serve_no_numbers", { line: wrong + 1 }] };
}

// Free what an input that is no longer shown holds.
export function release(input) {
  if (input.url) URL.revokeObjectURL(input.url);
}

function ofJson(one) {
  return { body: new Blob([JSON.stringify({ inputs: [one] })]), type: "application/json", url: null };
}

function shortened(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > MOST_NAME ? `${line.slice(0, MOST_NAME)}…` : line;
}
