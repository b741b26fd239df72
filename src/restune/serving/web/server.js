// Questions to the server. What goes wrong is said in the page's language.

import { $, language, say, settings } from "./words.js";

export class Problem extends Error {
  // retryAfter: seconds after which the same question may be asked again; null: not known.
  constructor(message, retryAfter = null) {
    super(message);
    this.retryAfter = retryAfter;
  }
}

export async function fetched(address, options = {}) {
  const key = $("key")?.value;
  const headers = { "Accept-Language": language, ...(key ? { "X-API-Key": key } : {}), ...options.headers };
  let response;
  try {
    response = await fetch(address, { ...options, headers });
  } catch {
    throw new Problem(say("serve_unreachable"));
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch { /* not the server's own answer, or cut off */ }
  if (response.ok && answer) return answer;
  throw new Problem(reason(response, answer), Number(response.headers.get("Retry-After")) || null);
}

function reason(response, answer) {
  const seconds = response.headers.get("Retry-After");
  if (response.status === 401) return say("serve_wrong_key");
  if (response.status === 413 && !answer) return tooLarge();
  if (response.status === 503) return say("serve_busy", { seconds: seconds ?? "1" });
  if (response.status === 504) return say("serve_late");
  const said = answer?.predictions?.[0]?.error ?? answer?.error?.what;
  return said ?? say("serve_status", { status: response.status });
}

// Say that something is larger than the server takes.
export function tooLarge() {
  return say("serve_too_large", { most: Math.floor(settings.most_bytes / 2 ** 20) || "1" });
}

// Ask for one input's prediction. Returns {input, used, prediction} or {input, used, problem}.
export async function predict(input, used, most) {
  if (input.problem) return { input, used, problem: new Problem(say(...input.problem)) };
  if (input.body.size > settings.most_bytes) return { input, used, problem: new Problem(tooLarge()) };
  const query = new URLSearchParams({ model: used.name, topk: most, explain: used.explains });
  try {
    const { predictions } = await fetched(`predict?${query}`, sent(input));
    return { input, used, prediction: predictions[0] };
  } catch (problem) {
    return { input, used, problem };
  }
}

// Ask for the feature maps of one input.
export async function featureMaps(input, used, most) {
  const query = new URLSearchParams({ model: used.name, maps: most });
  return (await fetched(`feature-maps?${query}`, sent(input))).stages;
}

function sent(input) {
  return { method: "POST", body: input.body, headers: { "Content-Type": input.type } };
}
