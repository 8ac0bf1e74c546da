// The settings: their values, what they are shown as, and which belong to the view.

const SHOWN = {
  fade: (value) => `${value} %`,
  threshold: (value) => value.toFixed(2),
  lines: (value) => (value ? `${value}` : "points alone"),
  points: (value) => `${value}`,
  resolution: (value) => `${value} px`,
  inlier: (value) => `${value} px`,
  focal: (value) => `${value.toFixed(2)} × longer side`,
};
/** What must be done after a setting changed: match again, fit the model again, or draw again. */
const AFTER = {
  resolution: "match", rotation: "match", weights: "match",
  threshold: "select", model: "select", inlier: "select", focal: "select",
  lines: "draw", points: "draw", fade: "draw", "inliers-only": "draw",
};

const element = (id) => document.getElementById(id);

/** The values of all settings, by the ids of their inputs. */
export function values() {
  return Object.fromEntries(Object.keys(AFTER).map((id) => {
    const input = element(id);
    const value = { checkbox: () => input.checked, range: () => Number(input.value) }[input.type];
    return [id, value ? value() : input.value];
  }));
}

/** Call `changed("match" | "select" | "draw")` after changes; what matches again waits until a slider is let go. */
export function listen(changed) {
  for (const [id, after] of Object.entries(AFTER)) {
    element(id).addEventListener("input", () => {
      tell();
      if (after !== "match") changed(after, id);
    });
    if (after === "match") element(id).addEventListener("change", () => changed(after, id));
  }
  tell();
}

/** Offer what the program has: weights by name with their thresholds, resolutions up to its limit. */
export function offer({ weights, limits }) {
  element("weights").replaceChildren(...Object.keys(weights).map((name) => new Option(name, name)));
  element("resolution").max = Math.min(element("resolution").max, limits.side);
  setThreshold(Object.values(weights)[0]);
}

/** Set the threshold to that of the weights. */
export function setThreshold(value) {
  element("threshold").value = value;
  tell();
}

/** Show what belongs to a view, and hide the rest. */
export function showFor(view) {
  const model = element("model").value;
  for (const part of document.querySelectorAll("[data-for]")) {
    const models = part.dataset.model?.split(" ");
    part.hidden = !part.dataset.for.split(" ").includes(view) || (models && view === "matches" && !models.includes(model));
  }
}

function tell() {
  for (const [id, shown] of Object.entries(SHOWN)) {
    document.querySelector(`output[for="${id}"]`).textContent = shown(Number(element(id).value));
  }
}
