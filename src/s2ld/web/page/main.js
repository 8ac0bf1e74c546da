// The page: what the user does, what the program is asked, what is shown.

import * as controls from "./controls.js";
import { csv, npz, save } from "./files.js";
import * as photos from "./photos.js";
import * as scene from "./scene.js";
import * as server from "./server.js";
import { zoomable } from "./zoom.js";

const LEAST = 0.05; // confidence of the matches that the program is asked for; the slider chooses among them
const PICTURE = 2400; // px: width of a picture that is saved
const element = (id) => document.getElementById(id);
const boxes = [...document.querySelectorAll(".photo")];
const canvas = element("canvas");
const state = { view: "matches", photos: [null, null], result: null, found: null, overlay: null, keypoints: [null, null] };
let told; // by GET /status
let matching = new AbortController(), selecting = new AbortController();

const view = zoomable(canvas, Object.fromEntries([...element("zoom").children].map((b) => [b.dataset.zoom, b])), () => draw());

/** Show an error in its place, or take it away. */
function say(error) {
  if (error?.name === "AbortError") return;
  element("error").textContent = error?.message ?? "";
  element("error").hidden = !error;
}

function progress(text) {
  element("progress").hidden = !text;
  element("progress").querySelector("span").textContent = text ?? "";
}

async function take(side, file) {
  say(null);
  try {
    if (file instanceof Error) throw file;
    const photo = await photos.read(file, told.limits);
    state.photos[side] = photo;
    document.querySelector("main").classList.remove("empty");
    element("example").hidden = true;
    photos.show(boxes[side], photo);
    Object.assign(state, { result: null, found: null, overlay: null });
    state.keypoints[side] = null;
    view.reset();
    await refresh();
  } catch (error) {
    say(error);
  }
}

/** Ask for whatever the view needs and is not there yet. */
async function refresh() {
  element("result").hidden = !state.photos.some(Boolean);
  show();
  if (state.view === "keypoints") await detect();
  else if (state.photos.every(Boolean) && !state.result) await match();
  else if (state.result) await select();
}

async function match() {
  matching.abort();
  const { signal } = (matching = new AbortController());
  const { weights, resolution, rotation } = controls.values();
  const options = { weights, resolution, rotation: rotation ? "auto" : "none", threshold: Math.min(LEAST, told.weights[weights]) };
  progress("sending the photographs");
  try {
    const result = await server.match(state.photos.map((photo) => photo.file), options, (line) => {
      progress(line.step ?? (line.waiting ? `waiting: ${line.waiting} before you` : "it is your turn"));
    }, signal);
    Object.assign(state, { result, found: null, overlay: null });
    state.photos.forEach((photo, side) => (photo.size = result[`size${side}`]));
    say(null);
    progress(null);
    await select();
  } catch (error) {
    if (signal.aborted) return;
    progress(null);
    say(error);
    show();
  }
}

/** Choose the matches above the threshold, and fit the model that the view wants to them. */
async function select() {
  selecting.abort();
  const { signal } = (selecting = new AbortController());
  const { threshold, model, inlier, focal } = controls.values();
  const { result } = state;
  const rows = result.confidence.map((_, row) => row).filter((row) => result.confidence[row] > threshold);
  rows.sort((a, b) => result.confidence[a] - result.confidence[b]);
  const kind = state.view === "overlay" ? "homography" : model;
  let fit = null;
  if (kind) {
    const focals = [result.size0, result.size1].map((size) => focal * Math.max(...size));
    try {
      fit = await server.estimate({
        kind, points0: rows.map((row) => result.points0[row]), points1: rows.map((row) => result.points1[row]),
        size0: result.size0, size1: result.size1, focal0: focals[0], focal1: focals[1],
        threshold: (inlier * result.size1[0]) / result.resized1[0],
      }, signal);
      say(null);
    } catch (error) {
      say(error);
    }
  }
  if (signal.aborted || result !== state.result) return;
  state.found = { rows, fit };
  if (state.view === "overlay") scene.prepareOverlay(state);
  show();
}

async function detect() {
  matching.abort();
  const { signal } = (matching = new AbortController());
  const { weights, resolution } = controls.values();
  try {
    for (const side of [0, 1]) {
      if (!state.photos[side] || state.keypoints[side]) continue;
      progress(`keypoints of the ${["first", "second"][side]} photograph`);
      state.keypoints[side] = await server.keypoints(state.photos[side].file, { weights, resolution }, signal);
      state.photos[side].size = state.keypoints[side].size;
      show();
    }
    progress(null);
  } catch (error) {
    if (signal.aborted) return;
    progress(null);
    say(error);
  }
}

/** Show everything that there is. */
function show() {
  controls.showFor(state.view);
  const settings = controls.values();
  for (const tab of element("views").children) tab.setAttribute("aria-selected", tab.dataset.view === state.view);
  const [bold, rest] = scene.summary(state, settings, state.view);
  const strong = document.createElement("strong");
  strong.textContent = bold;
  element("summary").replaceChildren(strong, rest);
  const note = scene.note(state, state.view);
  element("note").textContent = note;
  element("note").hidden = !note;
  element("legend").replaceChildren(...scene.legend(state, state.view).map(legendEntry));
  const ready = state.view === "keypoints" ? state.keypoints.some(Boolean) : Boolean(state.found);
  for (const button of element("downloads").querySelectorAll("button")) button.disabled = !ready;
  draw();
}

function legendEntry({ text, bar, dot }) {
  const span = document.createElement("span");
  if (text) span.textContent = text;
  else span.className = bar ? "bar" : "dot";
  if (bar) span.style.background = `linear-gradient(90deg, ${bar})`;
  if (dot) span.style.background = dot;
  return span;
}

function draw() {
  if (element("result").hidden) return;
  const width = element("stage").clientWidth, most = Math.max(320, 0.72 * innerHeight);
  const height = scene.heightOf(state, state.view, width, most);
  const ratio = devicePixelRatio;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  scene.draw(context, state, controls.values(), state.view, width, most, view);
}

/** What is shown, as columns. */
function columns() {
  const { result, found } = state;
  const items = scene.shown(state, controls.values()).sort((a, b) => a.row - b.row);
  const of = (name) => items.map(({ row }) => result[name][row]);
  const arrays = {
    points0: { type: "f4", shape: [items.length, 2], data: of("points0").flat() },
    points1: { type: "f4", shape: [items.length, 2], data: of("points1").flat() },
    confidence: { type: "f4", shape: [items.length], data: of("confidence") },
    score: { type: "f4", shape: [items.length], data: of("score") },
  };
  const axis = (name, at) => ({ values: of(name).map((point) => point[at]), digits: 3 });
  const table = {
    x0: axis("points0", 0), y0: axis("points0", 1), x1: axis("points1", 0), y1: axis("points1", 1),
    confidence: { values: of("confidence"), digits: 5 }, score: { values: of("score"), digits: 5 },
  };
  if (found.fit) {
    const inliers = items.map(({ inlier }) => Number(Boolean(inlier)));
    arrays.inliers = { type: "bool", shape: [items.length], data: inliers };
    arrays[found.fit.kind] = { type: "f8", shape: [3, 3], data: found.fit.matrix?.flat() ?? Array(9).fill(NaN) };
    table.inlier = { values: inliers, digits: 0 };
  }
  return { arrays, table };
}

async function picture() {
  const width = state.view === "overlay" ? PICTURE / 2 : PICTURE;
  const height = scene.heightOf(state, state.view, width, width);
  const sheet = new OffscreenCanvas(width, Math.round(height));
  const context = sheet.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  scene.draw(context, state, controls.values(), state.view, width, width);
  return sheet.convertToBlob({ type: "image/png" });
}

const stem = () => state.photos.filter(Boolean).map(({ name }) => name.replace(/\.[^.]*$/, "")).join("-");

element("npz").addEventListener("click", () => save(new Blob([npz(columns().arrays)]), `${stem()}.npz`));
element("csv").addEventListener("click", () => save(new Blob([csv(columns().table)], { type: "text/csv" }), `${stem()}.csv`));
element("picture").addEventListener("click", async () => save(await picture(), `${stem()}-${state.view}.png`));
element("views").addEventListener("click", ({ target }) => {
  if (!target.dataset.view) return;
  state.view = target.dataset.view;
  state.found = null;
  view.reset();
  refresh();
});
element("progress").querySelector("button").addEventListener("click", () => {
  matching.abort();
  progress(null);
});
element("example").querySelector("button").addEventListener("click", async () => {
  try {
    const files = await Promise.all([0, 1].map(server.example));
    await take(0, files[0]);
    await take(1, files[1]);
  } catch (error) {
    say(error);
  }
});
addEventListener("resize", draw);

try {
  told = await server.status();
  controls.offer(told);
  controls.listen((after, id) => {
    if (id === "weights") controls.setThreshold(told.weights[controls.values().weights]);
    if (after === "match") {
      Object.assign(state, { keypoints: [null, null], result: null, found: null, overlay: null });
      refresh();
    } else if (after === "select" && state.result) {
      controls.showFor(state.view);
      select();
    } else show();
  });
  photos.listen(boxes, take);
  controls.showFor(state.view);
  element("example").hidden = !told.example;
} catch (error) {
  say(error);
}
