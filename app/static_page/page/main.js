/* The page: controls, pictures and clocks. All computing is the worker's. */

import { call } from "./calls.js";
import * as classes from "./classes.js";
import { draw, duration, median, middle } from "./show.js";
import { newest } from "./slider.js";

const $ = (id) => document.getElementById(id);
const GPU = /^ort\/.*(webgpu|asyncify)/; /* the engine of WebGPU, as in sw.js */
let about = null, files = {}, names = [], loaded = 0;
let moving = Promise.resolve(), provider = "wasm"; /* moving: to WebGPU, where there is one */

function verdict(head, note, wrong = false) {
  const box = $("verdict");
  box.classList.toggle("wrong", wrong);
  box.classList.toggle("dd2-done", head instanceof Node);
  const [a, b] = [document.createElement("p"), document.createElement("p")];
  a.className = "dd2-ratio";
  a.append(head);
  b.textContent = note;
  box.replaceChildren(a, b);
}

function fail(error) {
  document.documentElement.dataset.state = "failed";
  verdict(error.message, "", true);
}

const number = (id) => Math.max(0, Math.floor(Number($(id).value) || 0));
const chosen = () => ({ name: $("which").value, label: Number($("class").value) });

function progress(total) {
  loaded = 0;
  return ({ bytes }) => {
    if (!bytes) return;
    loaded += bytes;
    const note = `${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
    verdict("Loading", note);
  };
}

const size = (...parts) => Object.entries(files)
  .filter(([name]) => parts.some((part) => name.startsWith(part)))
  .reduce((sum, [, file]) => sum + file.bytes, 0);

async function load() {
  const { name } = chosen();
  for (const id of ["race", "new", "place"]) $(id).disabled = true;
  const folder = `models/${name}/`;
  const engine = about ? "-" : "ort/ort-wasm-simd-threaded.wasm";
  const total = size(`${folder}generator`, `${folder}decoder`, engine);
  about = await call("load", { name }, progress(total));
  $("steps").textContent = about.spans.length;
  const options = about.class_names.map((text, i) => new Option(text, i));
  const before = $("class").selectedOptions[0]?.textContent;
  $("class").replaceChildren(...options);
  options.forEach((option) => { option.selected = option.textContent === before; });
  classes.fill($("classes"), about, (label) => {
    $("class").value = label;
    $("class").dispatchEvent(new Event("change"));
  });
  machine({ provider: "wasm" });
  blank();
  await explore();
  for (const id of ["race", "new", "place"]) $(id).disabled = false;
  document.documentElement.dataset.state = "ready";
  moving = move(name);
}

/* The line of the engine; `word` says what is unusual. */
function machine(found) {
  provider = found.provider;
  const engine = provider === "webgpu" ? ["ONNX Runtime Web, WebGPU"]
    : ["ONNX Runtime Web, WASM", "1 thread"];
  $("machine").textContent = [$("which").value, ...engine, "float32", "batch of 1",
    ...(found.word ? [found.word] : [])].join(" · ");
}

/* To WebGPU, where the browser has an adapter and nothing speaks against another download. */
async function move(name) {
  const unwanted = new URLSearchParams(location.search).get("engine") === "wasm"
    || navigator.connection?.saveData;
  const adapter = unwanted ? null : await navigator.gpu?.requestAdapter().catch(() => null);
  let found = { provider: "wasm" };
  if (adapter) {
    const bytes = Object.entries(files).filter(([file]) => GPU.test(file))
      .reduce((sum, [, file]) => sum + file.bytes, 0);
    machine({ provider: "wasm", word: `WebGPU is being loaded, ${(bytes / 1e6).toFixed(0)} MB` });
    const { word } = await call("fetch_gpu");
    found = word ? { provider: "wasm", word } : await call("move", { name });
  }
  if (name !== $("which").value) return; /* another model has been chosen meanwhile */
  machine(found);
  document.documentElement.dataset.engine = found.provider;
}

function blank() {
  for (const id of ["one-clock", "teacher-clock", "frames"]) $(id).textContent = "–";
  for (const id of ["one-spread", "teacher-spread"]) $(id).textContent = "\u00a0";
  $("frames").textContent = "";
  const canvas = $("teacher-image"); /* that of other settings goes, with its ratio */
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-label", "Not painted yet");
  verdict("Press Race", "and both paint the same class, timed");
  done("one-step", 0, 1);
  done("teacher", 0, about.spans.length);
}

function done(panel, step, steps) {
  const bar = $(panel).querySelector(".dd2-progress");
  bar.firstElementChild.style.setProperty("--done", `${100 * step / steps}%`);
  bar.lastElementChild.textContent = `${step} of ${steps} step${steps === 1 ? "" : "s"}`;
}

const label = () => about.class_names[chosen().label];

async function paintOne(id, options, text) {
  const found = await call("one", { ...chosen(), ...options });
  draw($(id), found.pixels, about, `${label()}, ${text}`);
  return found;
}

/* Both ends and the place between, and the front panel. */
async function explore() {
  const [seed, to] = [number("seed"), number("to")];
  const first = await paintOne("from-image", { seed }, `one step, seed ${seed}`);
  draw($("one"), first.pixels, about, `${label()}, painted by one step, seed ${seed}`);
  done("one-step", 1, 1);
  document.documentElement.dataset.tokens = first.tokens.join(" ");
  await paintOne("to-image", { seed: to }, `one step, seed ${to}`);
  await slide();
  showClasses(seed);
}

/* All classes at the noise of the first seed, unless that is what is shown. */
function showClasses(seed) {
  const { name } = chosen(), key = `${name} ${seed}`, box = $("classes");
  classes.mark(box, chosen().label);
  if (box.dataset.painted === key) return;
  const wanted = () => name === $("which").value && seed === number("seed");
  classes.paint(box, about, async (label) => wanted() && call("one", { name, label, seed }))
    .then((whole) => { if (whole) box.dataset.painted = key; })
    .catch(() => {}); /* what is wrong is said where it was asked for */
}

const slide = newest(async () => {
  const place = Number($("place").value), text = `${Math.round(100 * place)}% of the way`;
  const { ms } = await paintOne("way-image", { seed: number("seed"), to: number("to"), place }, text);
  $("way").textContent = text;
  $("frames").textContent = `${duration(ms)} a picture`;
});

function result(times) {
  const values = { one: median(times.one), teacher: median(times.teacher) };
  for (const [key, clock] of [["one", "one"], ["teacher", "teacher"]]) {
    const [low, high] = middle(times[key]);
    $(`${clock}-clock`).textContent = duration(values[key]);
    $(`${clock}-spread`).textContent =
      `${duration(low)} to ${duration(high)}, ${times[key].length} readings`;
  }
  const ratio = values.teacher / values.one, head = document.createElement("span");
  const bold = document.createElement("b");
  bold.textContent = `${ratio.toPrecision(ratio < 1 ? 2 : 3)}×`;
  head.append(bold, ratio >= 1 ? " faster" : " the teacher’s speed");
  verdict(head, `decoding included, in this browser: 1 pass against ${about.spans.length}`);
}

async function race() {
  $("race").disabled = true;
  document.documentElement.dataset.state = "racing";
  const settings = () => ({ ...chosen(), seed: number("seed") });
  const options = settings(), same = () => JSON.stringify(settings()) === JSON.stringify(options);
  await moving; /* both samplers run on one engine */
  const found = await call("teacher", { name: options.name },
    progress(size(`models/${options.name}/teacher_step`)));
  if (found.provider) machine(found);
  verdict("The teacher paints", "one step has long been done");
  await explore();
  const painted = await call("paint", options, ({ pixels, step }) => {
    if (!pixels || !same()) return; /* something else has been chosen meanwhile */
    draw($("teacher-image"), pixels, about, `${label()}, painted by the teacher`);
    done("teacher", step, about.spans.length);
  });
  document.documentElement.dataset.teacher = painted.tokens.join(" ");
  if (same()) verdict("Reading the clocks", "both in turns, without drawing");
  const times = same() ? await call("race", options) : null;
  if (times && same()) result(times);
  document.documentElement.dataset.state = "raced";
  $("race").disabled = false;
}

const safely = (run) => (...values) => run(...values).catch(fail);

async function open() {
  const answer = await fetch("files.json").catch(() => null);
  if (!answer?.ok) throw new Error("files.json is missing: assemble the page anew.");
  files = await answer.json();
  names = Object.keys(files).filter((name) => name.endsWith("/web.json"))
    .map((name) => name.split("/")[1]);
  if (!names.length) throw new Error("There is no model here: assemble the page anew.");
  const wanted = new URLSearchParams(location.search).get("model");
  $("which").replaceChildren(...names.map((name) => new Option(name, name)));
  if (names.includes(wanted)) $("which").value = wanted;
  $("which-field").hidden = names.length < 2;
  await load();
}

$("which").addEventListener("change", safely(async () => { await load(); await moving; await keep(); }));
$("race").addEventListener("click", safely(race));
$("place").addEventListener("input", safely(slide));
for (const id of ["class", "seed", "to"]) {
  $(id).addEventListener("change", safely(async () => { blank(); await explore(); }));
}
$("new").addEventListener("click", safely(async () => {
  $("seed").value = Math.floor(Math.random() * 1e9);
  $("to").value = Math.floor(Math.random() * 1e9);
  blank();
  await explore();
}));
document.querySelector(".dd2-head").hidden = window.top !== window; /* the other page has one */
window.dd2 = { call }; /* for tests and for the curious */
open().then(() => moving).then(keep).catch(fail);

/* Offline from now on: the service worker keeps the page, and the files of this model. */
async function keep() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("sw.js");
    const { active } = await navigator.serviceWorker.ready, channel = new MessageChannel();
    channel.port1.onmessage = () => { document.documentElement.dataset.kept = "yes"; };
    const own = Object.keys(files).filter((name) => name.startsWith(`models/${$("which").value}/`)
      || (provider === "webgpu" && GPU.test(name)));
    active.postMessage({ keep: own }, [channel.port2]);
  } catch { /* a browser that keeps nothing: the page works while there is a network */ }
}
