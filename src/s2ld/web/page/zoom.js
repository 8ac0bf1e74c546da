// Zoom and pan of a canvas: wheel, buttons, one finger or the mouse to move, two fingers to pinch.

const MOST = 40;

/** Returns the view {zoom, x, y}, which changes in place; `changed` is called after each change. */
export function zoomable(canvas, buttons, changed) {
  const view = { zoom: 1, x: 0, y: 0 };
  const pointers = new Map();

  const settle = () => {
    const { clientWidth: width, clientHeight: height } = canvas;
    view.x = Math.min(0, Math.max(width * (1 - view.zoom), view.x));
    view.y = Math.min(0, Math.max(height * (1 - view.zoom), view.y));
    canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y"; // a page that is not zoomed scrolls on
    changed();
  };
  const zoomBy = (factor, x, y) => {
    const zoom = Math.min(MOST, Math.max(1, view.zoom * factor));
    view.x = x - ((x - view.x) * zoom) / view.zoom;
    view.y = y - ((y - view.y) * zoom) / view.zoom;
    view.zoom = zoom;
    settle();
  };
  const middle = (factor) => zoomBy(factor, canvas.clientWidth / 2, canvas.clientHeight / 2);
  const reset = () => {
    Object.assign(view, { zoom: 1, x: 0, y: 0 });
    settle();
  };

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * 0.002), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = [...pointers.values()];
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    const after = [...pointers.values()];
    const centre = (all) => [0, 1].map((axis) => all.reduce((sum, point) => sum + point[axis], 0) / all.length);
    const [from, to] = [centre(before), centre(after)];
    view.x += to[0] - from[0];
    view.y += to[1] - from[1];
    if (after.length > 1) {
      const apart = (all) => Math.hypot(all[0][0] - all[1][0], all[0][1] - all[1][1]);
      zoomBy(apart(after) / Math.max(1, apart(before)), ...to);
    } else settle();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("dblclick", reset);
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "+") middle(1.5);
    else if (event.key === "-") middle(1 / 1.5);
    else if (event.key === "0") reset();
  });
  buttons.in.addEventListener("click", () => middle(1.5));
  buttons.out.addEventListener("click", () => middle(1 / 1.5));
  buttons.all.addEventListener("click", reset);
  return Object.assign(view, { reset });
}
