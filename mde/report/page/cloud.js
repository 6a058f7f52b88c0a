"use strict";
// The point cloud: pixels of a map through the camera, drawn with a depth buffer on a plain canvas; no WebGL needed.
const cloud = document.getElementById("cloud");

function startCloud() {
  const context = cloud.getContext("2d", { willReadFrequently: true });
  const [which, source, colours] = ["cloud-image", "cloud-source", "cloud-colours"].map((id) => document.getElementById(id));
  const MOST = 60000;
  let points = null, turn = {}, yaw, pitch, zoom, waiting = false;

  function reset() {
    [yaw, pitch, zoom] = [-0.35, 0.25, 1];
    ask();
  }

  async function pixelsOf(image) {
    const picture = new Image(), canvas = document.createElement("canvas");
    picture.src = document.querySelector(`.card[data-image="${which.value}"] img`).src;
    await picture.decode();
    [canvas.width, canvas.height] = [image.width, image.height];
    const drawing = canvas.getContext("2d");
    drawing.drawImage(picture, 0, 0, image.width, image.height);
    return drawing.getImageData(0, 0, image.width, image.height).data;
  }

  // camera frame: x right, y down, z forward, metres
  async function load() {
    const mine = (turn = {}), image = page.images[which.value], maps = await mapsOf(image);
    const depth = source.value === "truth" ? maps.truth : maps.preds[+source.value];
    const pixels = await pixelsOf(image);
    if (mine !== turn) return;
    const [fx, fy, cx, cy] = image.camera, every = Math.max(1, Math.ceil(Math.sqrt((depth ?? []).length / MOST)));
    const limit = 1.5 * image.high, list = [];
    for (let v = 0; v < image.height; v += every)
      for (let u = 0; u < image.width; u += every) {
        const i = v * image.width + u, z = depth ? depth[i] : 0;
        if (!(z > 0) || z > limit) continue;
        const share = Math.min(1, Math.max(0, (z - image.low) / (image.high - image.low)));
        const from = colours.value === "rgb" ? [pixels, 4 * i] : [depthColours, 3 * Math.round(255 * share)];
        list.push(((u - cx) / fx) * z, ((v - cy) / fy) * z, z, ...[0, 1, 2].map((k) => from[0][from[1] + k]));
      }
    points = { list: Float32Array.from(list), middle: (image.low + image.high) / 2, focal: fx / image.width, gap: every / fx };
    cloud.dataset.points = list.length / 6;
    ask();
  }

  function ask() {
    if (!waiting) requestAnimationFrame(render);
    waiting = true;
  }

  function render() {
    waiting = false;
    const scale = Math.min(2, window.devicePixelRatio || 1);
    const width = (cloud.width = Math.round(cloud.clientWidth * scale));
    const height = (cloud.height = Math.round(cloud.clientHeight * scale));
    if (!points || !width || !height) return;
    const { list, middle, focal, gap } = points, picture = context.createImageData(width, height);
    const nearest = new Float32Array(width * height).fill(Infinity), [cosY, sinY] = [Math.cos(yaw), Math.sin(yaw)];
    const [cosP, sinP] = [Math.cos(pitch), Math.sin(pitch)], lens = zoom * Math.min(width * focal, height);
    for (let p = 0; p < list.length; p += 6) {
      // about the middle of the scene, then back to where the camera was
      const z0 = list[p + 2] - middle, x = cosY * list[p] + sinY * z0, z1 = cosY * z0 - sinY * list[p];
      const y = cosP * list[p + 1] - sinP * z1, z = cosP * z1 + sinP * list[p + 1] + 1.15 * middle;
      if (z < 0.05 * middle) continue;
      const u = width / 2 + (lens * x) / z, v = height / 2 + (lens * y) / z;
      // as large as the gap to the next point
      const size = Math.min(12, Math.max(1, Math.ceil((1.1 * lens * gap * list[p + 2]) / z)));
      splat(picture.data, nearest, width, height, Math.round(u - size / 2), Math.round(v - size / 2), size, z, list, p);
    }
    context.putImageData(picture, 0, 0);
  }

  function splat(data, nearest, width, height, left, top, size, z, list, p) {
    for (let y = Math.max(0, top); y < Math.min(height, top + size); y++)
      for (let x = Math.max(0, left); x < Math.min(width, left + size); x++) {
        const i = y * width + x;
        if (z >= nearest[i]) continue;
        nearest[i] = z;
        for (let k = 0; k < 3; k++) data[4 * i + k] = list[p + 3 + k];
        data[4 * i + 3] = 255;
      }
  }

  function orbit(right, down) {
    yaw += right;
    pitch = Math.min(1.5, Math.max(-1.5, pitch + down));
    ask();
  }

  function closer(factor) {
    zoom = Math.min(20, Math.max(0.2, zoom * factor));
    ask();
  }

  const held = new Map(); // pointers: one turns, two zoom
  cloud.addEventListener("pointerdown", (event) => {
    cloud.setPointerCapture(event.pointerId);
    held.set(event.pointerId, event);
  });
  cloud.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    if (held.size === 1) orbit((event.clientX - before.clientX) / 200, (event.clientY - before.clientY) / 200);
    else {
      const other = [...held.values()].find((each) => each.pointerId !== event.pointerId);
      const far = (each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY);
      closer(far(event) / Math.max(1, far(before)));
    }
    held.set(event.pointerId, event);
  });
  for (const name of ["pointerup", "pointercancel"])
    cloud.addEventListener(name, (event) => held.delete(event.pointerId));
  cloud.addEventListener("wheel", (event) => {
    event.preventDefault();
    closer(Math.exp(-event.deltaY / 500));
  }, { passive: false });
  cloud.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    const factor = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 }[event.key];
    if (!(event.key in keys) && !factor) return;
    event.preventDefault();
    if (factor) closer(factor);
    else orbit(...keys[event.key]);
  });
  cloud.addEventListener("dblclick", reset);
  document.getElementById("cloud-reset").addEventListener("click", reset);
  for (const choice of [which, source, colours]) choice.addEventListener("change", load);
  window.addEventListener("resize", ask);
  reset();
  load();
}

if (cloud) startCloud();
