// Both photographs on a canvas with what was found in them. Points are px of the photographs, pixel centres at integers.

const GAP = 8; // px between the photographs
// matplotlib's viridis at 0, 0.1 ... 1
const VIRIDIS = ["440154", "482475", "414487", "355f8d", "2a788e", "21918c", "22a884", "44bf70", "7ad151", "bddf26", "fde725"];
export const GOOD = "#0072B2"; // Okabe and Ito's blue and vermilion, which colour-blind people tell apart
export const BAD = "#D55E00";

/** CSS colours of viridis, for a legend. */
export const ramp = VIRIDIS.map((hex) => `#${hex}`);

/** The colour of a value in [0, 1]. */
export function colour(value) {
  const at = Math.min(Math.max(value, 0), 1) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const channel = (index, start) => parseInt(VIRIDIS[index].slice(start, start + 2), 16);
  const mixed = [0, 2, 4].map((start) => Math.round(channel(low, start) + (at - low) * (channel(low + 1, start) - channel(low, start))));
  return `rgb(${mixed})`;
}

/**
 * Where photographs of these sizes lie in a width, and the height that they need.
 * Returns `{height, places: [{x, y, width, height}]}` in canvas px.
 */
export function arrange(sizes, width, most) {
  const beside = width >= 640 || sizes.every(([w, h]) => h > 1.2 * w);
  const box = beside ? [(width - GAP * (sizes.length - 1)) / sizes.length, most] : [width, most / sizes.length];
  let x = 0, y = 0, height = 0;
  const places = sizes.map(([w, h]) => {
    const scale = Math.min(box[0] / w, box[1] / h);
    const place = { x, y, width: w * scale, height: h * scale };
    if (beside) x += place.width + GAP;
    else y += place.height + GAP;
    height = Math.max(height, place.y + place.height);
    return place;
  });
  const right = Math.max(...places.map((place) => place.x + place.width));
  const aside = Math.max(0, (width - right) / 2);
  places.forEach((place) => {
    place.x += beside ? aside : (width - place.width) / 2;
    place.y += beside ? (height - place.height) / 2 : 0;
  });
  return { height, places };
}

/** The place after zoom and pan: `view` is {zoom, x, y}. */
export function moved(place, view) {
  return {
    x: place.x * view.zoom + view.x, y: place.y * view.zoom + view.y,
    width: place.width * view.zoom, height: place.height * view.zoom,
  };
}

/** A point of a photograph of that size on the canvas. */
export function onCanvas([x, y], size, place) {
  return [place.x + ((x + 0.5) * place.width) / size[0], place.y + ((y + 0.5) * place.height) / size[1]];
}

/** Draw a photograph; single pixels show where they are magnified. */
export function drawPhoto(context, picture, place, opacity = 1) {
  context.globalAlpha = opacity;
  context.imageSmoothingEnabled = place.width < 4 * picture.width;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, place.x, place.y, place.width, place.height);
  context.globalAlpha = 1;
}

/** Draw points [[x, y], ...] of the canvas. */
export function drawPoints(context, points, colours, radius) {
  context.globalAlpha = 0.95;
  points.forEach(([x, y], at) => {
    context.fillStyle = colours[at];
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  });
  context.globalAlpha = 1;
}

/** Draw lines between points of the canvas. */
export function drawLines(context, starts, ends, colours) {
  context.globalAlpha = 0.55;
  context.lineWidth = 1.1;
  starts.forEach(([x, y], at) => {
    context.strokeStyle = colours[at];
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(...ends[at]);
    context.stroke();
  });
  context.globalAlpha = 1;
}

/** At most `limit` of the items, evenly over their order. */
export function evenly(items, limit) {
  if (items.length <= limit) return items;
  if (limit === 0) return [];
  if (limit === 1) return items.slice(-1);
  return Array.from({ length: limit }, (_, at) => items[Math.round((at * (items.length - 1)) / (limit - 1))]);
}
