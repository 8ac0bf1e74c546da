// The second photograph as the first camera would have seen it.

/**
 * Warp picture 1 onto photograph 0: each pixel x of the result shows picture 1 at H x (bilinear), or nothing.
 * `H` is (3, 3), x1 ~ H x0 in px of the photographs, whose sizes are `sizes`; the result is as large as picture 0.
 */
export function warped(picture0, picture1, H, sizes) {
  const { width, height } = picture0;
  const source = picture1.getContext("2d").getImageData(0, 0, picture1.width, picture1.height);
  const result = new OffscreenCanvas(width, height);
  const context = result.getContext("2d");
  const image = context.createImageData(width, height);
  const toPhoto = [sizes[0][0] / width, sizes[0][1] / height];
  const toPicture = [picture1.width / sizes[1][0], picture1.height / sizes[1][1]];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const x = (column + 0.5) * toPhoto[0] - 0.5, y = (row + 0.5) * toPhoto[1] - 0.5;
      const w = H[2][0] * x + H[2][1] * y + H[2][2];
      if (w * H[2][2] <= 0) continue; // behind the camera
      const u = (((H[0][0] * x + H[0][1] * y + H[0][2]) / w) + 0.5) * toPicture[0] - 0.5;
      const v = (((H[1][0] * x + H[1][1] * y + H[1][2]) / w) + 0.5) * toPicture[1] - 0.5;
      sample(source, u, v, image.data, 4 * (row * width + column));
    }
  }
  context.putImageData(image, 0, 0);
  return result;
}

function sample(source, x, y, target, at) {
  const { width, height, data } = source;
  if (!(x > -0.5 && y > -0.5 && x < width - 0.5 && y < height - 0.5)) return;
  const left = Math.max(0, Math.min(width - 1, Math.floor(x))), top = Math.max(0, Math.min(height - 1, Math.floor(y)));
  const right = Math.min(width - 1, left + 1), bottom = Math.min(height - 1, top + 1);
  const a = Math.max(0, x - left), b = Math.max(0, y - top);
  const corners = [[left, top, (1 - a) * (1 - b)], [right, top, a * (1 - b)], [left, bottom, (1 - a) * b], [right, bottom, a * b]];
  for (let channel = 0; channel < 3; channel++) {
    let sum = 0;
    for (const [column, row, weight] of corners) sum += weight * data[4 * (row * width + column) + channel];
    target[at + channel] = sum;
  }
  target[at + 3] = 255;
}
