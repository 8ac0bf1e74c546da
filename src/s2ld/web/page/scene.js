// The three views of a pair: what each draws, says and explains.

import { BAD, GOOD, arrange, colour, drawLines, drawPhoto, drawPoints, evenly, moved, onCanvas, ramp } from "./draw.js";
import { warped } from "./warp.js";

const NAMES = { homography: "homography", fundamental: "fundamental matrix", essential: "essential matrix" };
const count = (number) => number.toLocaleString("en");

/** Sizes, in px of photographs, of what a view lays side by side. */
export function sizes(state, view) {
  const given = state.photos.filter(Boolean);
  return (view === "overlay" ? given.slice(0, 1) : given).map((photo) => photo.size);
}

/** Draw a view into a width of at most a height; `transform` is a zoom's view. Returns the height that it needs. */
export function draw(context, state, settings, view, width, most, transform = { zoom: 1, x: 0, y: 0 }) {
  const { height, places } = arrange(sizes(state, view), width, most);
  const seen = places.map((place) => moved(place, transform));
  state.photos.filter(Boolean).slice(0, seen.length).forEach((photo, at) => drawPhoto(context, photo.picture, seen[at]));
  if (view === "matches") drawMatches(context, state, settings, seen);
  else if (view === "keypoints") drawKeypoints(context, state, settings, seen);
  else if (state.overlay?.picture) drawPhoto(context, state.overlay.picture, seen[0], settings.fade / 100);
  return height;
}

/** The height that a view needs in a width. */
export function heightOf(state, view, width, most) {
  return arrange(sizes(state, view), width, most).height;
}

/** Rows of the result that are shown, by rising confidence, and whether each is an inlier; null where no model is. */
export function shown(state, settings) {
  const { rows, fit } = state.found ?? { rows: [], fit: null };
  const all = rows.map((row, at) => ({ row, inlier: fit?.matrix ? fit.inliers[at] : null }));
  return settings["inliers-only"] && fit?.matrix ? all.filter(({ inlier }) => inlier) : all;
}

/** Make the picture of the overlay, once for each homography. */
export function prepareOverlay(state) {
  const fit = state.found?.fit;
  if (fit?.kind !== "homography" || state.overlay?.fit === fit) return;
  const [photo0, photo1] = state.photos;
  const picture = fit.matrix && warped(photo0.picture, photo1.picture, fit.matrix, [photo0.size, photo1.size]);
  state.overlay = { fit, picture };
}

/** What a view says above: [bold, rest]. */
export function summary(state, settings, view) {
  if (view === "keypoints") {
    const found = state.keypoints.filter(Boolean);
    const drawn = found.map((one) => count(Math.min(settings.points, one.points.length)));
    return found.length ? [drawn.join(" and "), ` of ${found.map((one) => count(one.points.length)).join(" and ")} keypoints, those with the highest scores`] : ["", ""];
  }
  const { result, found } = state;
  if (!result || !found) return ["", ""];
  const parts = [];
  const { fit } = found;
  if (fit && !fit.matrix) parts.push(`no ${NAMES[fit.kind]} fits them`);
  else if (fit) {
    const inliers = fit.inliers.filter(Boolean).length;
    parts.push(`${(100 * fit.share).toFixed(1)} % (${count(inliers)}) are inliers of the ${NAMES[fit.kind]}`);
  }
  const [width, height] = result.resized0;
  parts.push(`matched at ${width} × ${height} px in ${result.seconds.toFixed(1)} s`);
  const matches = count(view === "matches" ? shown(state, settings).length : found.rows.length);
  return [matches, ` of ${count(result.points0.length)} matches; ${parts.join("; ")}`];
}

/** What lies over the canvas where there is nothing to see; "" for nothing. */
export function note(state, view) {
  if (view === "keypoints") return "";
  if (state.photos.filter(Boolean).length < 2) return "Give a second photograph to match.";
  if (!state.result || !state.found) return "";
  if (!state.result.points0.length) return "No matches: do both photographs show the same place? A higher resolution may help.";
  if (view === "overlay" && state.found.fit && !state.found.fit.matrix) return "No homography fits: there is nothing to lay over.";
  return "";
}

/** Entries of the legend: a bar with its ends, or dots. */
export function legend(state, view) {
  if (view === "overlay") return [];
  if (view === "keypoints") return [{ text: "score: lowest drawn" }, { bar: ramp }, { text: "highest" }];
  if (state.found?.fit?.matrix) return [{ dot: GOOD }, { text: "inliers" }, { dot: BAD }, { text: "outliers" }];
  return state.result ? [{ text: "confidence 0" }, { bar: ramp }, { text: "1" }] : [];
}

function drawMatches(context, state, settings, places) {
  if (!state.result || places.length < 2) return;
  const { points0, points1, confidence, size0, size1 } = state.result;
  const ends = (items) => [
    items.map(({ row }) => onCanvas(points0[row], size0, places[0])),
    items.map(({ row }) => onCanvas(points1[row], size1, places[1])),
    items.map(({ row, inlier }) => (inlier === null ? colour(confidence[row]) : inlier ? GOOD : BAD)),
  ];
  const all = shown(state, settings);
  drawLines(context, ...ends(evenly(all, settings.lines)));
  const [starts, stops, colours] = ends(all);
  const radius = Math.min(2.4, Math.max(1.4, 50 / Math.sqrt(all.length))); // many points must not hide the scene
  drawPoints(context, starts, colours, radius);
  drawPoints(context, stops, colours, radius);
}

function drawKeypoints(context, state, settings, places) {
  const given = [0, 1].filter((side) => state.photos[side]);
  given.forEach((side, at) => {
    const found = state.keypoints[side];
    if (!found) return;
    const drawn = Math.min(settings.points, found.points.length);
    const low = found.scores[drawn - 1] ?? 0, high = found.scores[0] ?? 1;
    const points = found.points.slice(0, drawn).map((point) => onCanvas(point, found.size, places[at]));
    const colours = found.scores.slice(0, drawn).map((score) => colour((score - low) / Math.max(high - low, 1e-9)));
    drawPoints(context, points.reverse(), colours.reverse(), 2.4); // the best on top
  });
}
