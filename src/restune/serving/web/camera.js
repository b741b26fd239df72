// The camera: single pictures, and a live mode that asks again as soon as it may.

import { $, say } from "./words.js";

const PAUSE = 500; // milliseconds between the pictures of the live mode, at least
const LONGEST = 640; // pixels

// Set the camera's buttons up. `take(input, isLive)` answers one picture and returns the problem, if there is one.
export function addCamera(take, tellProblem) {
  let stream = null, isLive = false;

  async function start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      tellProblem(new Error(say("serve_camera_insecure")));
      return;
    }
    $("camera-start").disabled = true;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    } catch (error) {
      const key = { NotAllowedError: "refused", NotFoundError: "missing" }[error.name] ?? "failed";
      tellProblem(new Error(say(`serve_camera_${key}`)));
      return;
    } finally {
      $("camera-start").disabled = false;
    }
    for (const track of stream.getTracks()) track.addEventListener("ended", stop);
    $("video").srcObject = stream;
    $("camera").hidden = false;
    $("camera-start").hidden = true;
    $("shoot").focus();
    await $("video").play().catch(() => {}); // stopped before it began
  }

  function stop() {
    setLive(false);
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    $("video").srcObject = null;
    const hadFocus = $("camera").contains(document.activeElement);
    $("camera").hidden = true;
    $("camera-start").hidden = false;
    if (hadFocus) $("camera-start").focus();
  }

  function setLive(on) {
    isLive = on;
    $("live").setAttribute("aria-pressed", String(on));
    $("answer").setAttribute("aria-live", on ? "off" : "polite");
    $("shoot").disabled = on;
  }

  // Return the present frame as an input; null before the first frame.
  async function picture() {
    const { videoWidth: width, videoHeight: height } = $("video");
    if (!width || !height) return null;
    const share = Math.min(1, LONGEST / Math.max(width, height));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [Math.round(width * share), Math.round(height * share)];
    canvas.getContext("2d").drawImage($("video"), 0, 0, canvas.width, canvas.height);
    const body = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.92); });
    return { name: say("serve_picture"), body, type: "image/jpeg", url: URL.createObjectURL(body) };
  }

  async function shoot() {
    const input = await picture();
    if (input) await take(input, false);
  }

  async function live() {
    setLive(!isLive);
    while (isLive) {
      const earliest = performance.now() + PAUSE;
      const input = document.hidden ? null : await picture();
      const problem = input && isLive ? await take(input, true) : null;
      if (problem && !problem.retryAfter) setLive(false);
      const wait = problem?.retryAfter ? 1000 * problem.retryAfter : earliest - performance.now();
      await new Promise((resolve) => { setTimeout(resolve, wait); });
    }
  }

  $("camera-start").addEventListener("click", start);
  $("camera-stop").addEventListener("click", stop);
  $("shoot").addEventListener("click", shoot);
  $("live").addEventListener("click", live);
  return { stop: () => { if (stream) stop(); }, rest: () => setLive(false) };
}
