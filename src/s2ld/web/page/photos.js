// Photographs that the user gives: by dropping, choosing or the camera; each becomes a canvas small enough to be drawn.

import { preview } from "./server.js";

const LONGEST = 1600; // px: longer side of what is drawn

/** Read a file: `{file, name, picture, size}`, `size` [width, height] px of the photograph itself, upright. */
export async function read(file, limits) {
  if (file.size > limits.megabytes * 2 ** 20) {
    const size = (file.size / 2 ** 20).toFixed(1);
    throw new Error(`${file.name}: ${size} MB are more than ${limits.megabytes} MB; make it smaller`);
  }
  const own = await createImageBitmap(file).catch(() => null);
  if (own) return { file, name: file.name, size: [own.width, own.height], picture: shrunk(own) };
  const { blob, size } = await preview(file); // TIFF, HEIC; or no photograph at all, which the program tells
  return { file, name: file.name, size, picture: shrunk(await createImageBitmap(blob)) };
}

function shrunk(bitmap) {
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.max(1, bitmap.width * scale), Math.max(1, bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

/** Let the boxes take files; `take(side, file)` is called for each. */
export function listen(boxes, take) {
  const give = (side, files) => [...files].slice(0, 2).forEach((file, at) => take(at ? 1 - side : side, file));
  boxes.forEach((box, side) => {
    const input = box.querySelector("input");
    const taken = () => {
      give(side, input.files);
      input.value = ""; // the same file may be chosen again
    };
    input.addEventListener("change", taken);
    taken(); // chosen before anything listened
    box.querySelector(".camera").addEventListener("click", () => takePicture(side, input, take));
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    boxes.forEach((box) => box.classList.toggle("over", box.contains(event.target)));
  });
  addEventListener("dragleave", () => boxes.forEach((box) => box.classList.remove("over")));
  addEventListener("drop", (event) => {
    event.preventDefault();
    boxes.forEach((box) => box.classList.remove("over"));
    const side = boxes.findIndex((box) => box.contains(event.target));
    give(side >= 0 ? side : 0, event.dataTransfer.files);
  });
}

/** Show what a box holds. */
export function show(box, photo) {
  const thumb = box.querySelector(".thumb");
  thumb.hidden = false;
  thumb.width = 176;
  thumb.height = Math.max(1, Math.round((176 * photo.picture.height) / photo.picture.width));
  thumb.getContext("2d").drawImage(photo.picture, 0, 0, thumb.width, thumb.height);
  box.querySelector(".title").textContent = photo.name;
  box.querySelector(".hint").textContent = `${photo.size[0]} × ${photo.size[1]} px`;
  box.classList.add("given");
}

async function takePicture(side, input, take) {
  if (!navigator.mediaDevices?.getUserMedia) {
    // browsers give a page its camera by https or on the same machine alone; a phone's own camera app remains
    input.setAttribute("capture", "environment");
    input.click();
    input.removeAttribute("capture");
    return;
  }
  const dialog = document.getElementById("shutter");
  const video = dialog.querySelector("video");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } },
    });
  } catch {
    take(side, new Error("the camera cannot be used; allow it for this page, or choose a file"));
    return;
  }
  const end = () => {
    stream.getTracks().forEach((track) => track.stop());
    dialog.close();
  };
  video.srcObject = stream;
  dialog.oncancel = end;
  dialog.querySelector(".cancel").onclick = end;
  dialog.querySelector(".take").onclick = async () => {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    end();
    take(side, new File([await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 })], `camera ${side + 1}.jpg`));
  };
  await video.play(); // before this it has no size
  dialog.showModal();
}
