"use strict";
// The gallery: maps are unpacked from the file itself, coloured on one scale, and read out in metres.
const page = JSON.parse(document.getElementById("data").textContent);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const inflate = async (text) => new Uint8Array(await new Response(
  new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());
const depthColours = bytes(page.depthColours), errorColours = bytes(page.errorColours);
const UNKNOWN = 191;

// codes are logarithmic (mde/report/page/maps.py)
const metres = new Float32Array(65536);
for (let code = 1; code < 65536; code++) metres[code] = page.nearest * Math.exp((code - 1) / page.steps);

async function unpackCodes(text, width, height) {
  const packed = await inflate(text), count = width * height, out = new Float32Array(count);
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0, code = 0; x < width; x++, i++) {
      code = (code + (packed[i] << 8) + packed[count + i]) & 65535;
      out[i] = metres[code];
    }
  return out;
}

async function unpackBits(text, count) {
  const packed = await inflate(text), out = new Uint8Array(count);
  for (let i = 0; i < count; i++) out[i] = (packed[i >> 3] >> (7 - (i & 7))) & 1;
  return out;
}

// {truth, preds: by method or null, errors: by method or null}, metres; unpacked once
function mapsOf(image) {
  image.maps ??= (async () => {
    const { width, height } = image;
    const truth = await unpackCodes(image.truth, width, height);
    const preds = await Promise.all(image.preds.map((text) => text && unpackCodes(text, width, height)));
    const counted = await Promise.all(image.counted.map((text) => text && unpackBits(text, width * height)));
    const errors = preds.map((pred, m) => pred && truth.map(
      (depth, i) => (counted[m][i] && depth ? Math.abs(pred[i] - depth) : -1)));
    return { truth, preds, counted, errors };
  })();
  return image.maps;
}

function paint(canvas, values, known, colours, low, high, { width, height }) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), picture = context.createImageData(width, height);
  for (let i = 0; i < values.length; i++) {
    const share = Math.min(1, Math.max(0, (values[i] - low) / (high - low))), c = 3 * Math.round(255 * share);
    for (let k = 0; k < 3; k++) picture.data[4 * i + k] = known(values[i]) ? colours[c + k] : UNKNOWN;
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

const paintDepth = (canvas, values, image) =>
  paint(canvas, values, (v) => v > 0, depthColours, image.low, image.high, image);
const paintError = (canvas, values, image) =>
  paint(canvas, values, (v) => v >= 0, errorColours, 0, image.worst, image);

const left = document.getElementById("left"), right = document.getElementById("right");
const nameOf = (choice) => (choice === "rgb" ? "RGB" : choice === "truth" ? "truth" : page.methods[+choice]);

// the map of a choice in the pane of predictions or of errors; null: the picture itself; undefined: there is none
function layer(maps, choice, error) {
  if (choice === "rgb") return null;
  if (choice === "truth") return error ? undefined : maps.truth;
  return (error ? maps.errors : maps.preds)[+choice] ?? undefined;
}

function fill(canvas, card, values, error) {
  const image = page.images[card.dataset.image];
  canvas.hidden = values === undefined;
  if (values === undefined) return;
  if (values !== null) return (error ? paintError : paintDepth)(canvas, values, image);
  const picture = card.querySelector("img");
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  canvas.getContext("2d").drawImage(picture, 0, 0);
}

async function draw(card) {
  const image = page.images[card.dataset.image], maps = await mapsOf(image);
  await card.querySelector("img").decode().catch(() => {});
  paintDepth(card.querySelector("canvas.truth"), maps.truth, image);
  for (const [pane, error] of [[".pred", false], [".error", true]]) {
    const view = card.querySelector(pane), under = layer(maps, right.value, error);
    let over = layer(maps, left.value, error);
    if (error && over === null) over = undefined;
    fill(view.querySelector("canvas.under"), card, under, error);
    fill(view.querySelector("canvas.over"), card, over, error);
    const called = (choice, values) =>
      values === undefined && !error ? `${nameOf(choice)} (not kept)` : values === undefined ? "" : nameOf(choice);
    view.parentElement.querySelector(".on-left").textContent =
      (error ? "error " : "") + called(left.value, over);
    view.parentElement.querySelector(".on-right").textContent = called(right.value, under);
  }
  cut(card, +card.querySelector(".divider").getAttribute("aria-valuenow")); // its words name the methods
}

function cut(card, percent) {
  const share = Math.min(100, Math.max(0, percent)), divider = card.querySelector(".divider");
  card.style.setProperty("--cut", `${share}%`);
  divider.setAttribute("aria-valuenow", Math.round(share));
  divider.setAttribute("aria-valuetext", `${nameOf(left.value)} on ${Math.round(share)} % of the width`);
}

const metre = (value) => (value > 0 ? `${value.toFixed(value < 10 ? 3 : 2)} m` : "unknown");
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

async function readOut(card, x, y) {
  const image = page.images[card.dataset.image], maps = await mapsOf(image);
  const column = Math.min(image.width - 1, Math.max(0, Math.floor(x * image.width)));
  const row = Math.min(image.height - 1, Math.max(0, Math.floor(y * image.height))), i = row * image.width + column;
  const parts = [`truth ${metre(maps.truth[i])}`];
  maps.preds.forEach((pred, m) => {
    if (!pred) return;
    const error = !maps.truth[i] ? "" : maps.counted[m][i] ? ` (${signed(pred[i] - maps.truth[i])})` : " (not counted)";
    parts.push(`${page.methods[m]} ${metre(pred[i])}${error}`);
  });
  card.querySelector(".readout").textContent = `x ${column}, y ${row}: ${parts.join(" · ")}`;
  for (const mark of card.querySelectorAll(".mark"))
    Object.assign(mark.style, { display: "block", left: `${100 * x}%`, top: `${100 * y}%` });
}

function listen(card) {
  for (const view of card.querySelectorAll(".view")) {
    const place = (event) => {
      const box = view.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    view.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      if (view.hasPointerCapture(event.pointerId)) cut(card, 100 * x);
      readOut(card, x, y);
    });
    view.addEventListener("pointerdown", (event) => {
      const [x, y] = place(event);
      readOut(card, x, y);
      if (!view.classList.contains("split") || event.button) return;
      view.setPointerCapture(event.pointerId);
      cut(card, 100 * x);
    });
  }
  const steps = { ArrowLeft: -2, ArrowRight: 2, ArrowDown: -2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
  const divider = card.querySelector(".divider");
  divider.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    cut(card, +divider.getAttribute("aria-valuenow") + steps[event.key]);
  });
}

// One after the other, those on the screen first, so that the page can be used, and printed, soon.
async function drawAll() {
  const turn = (drawAll.turn = {});
  delete document.body.dataset.ready;
  const cards = [...document.querySelectorAll(".card")];
  const far = (card) => Math.abs(card.getBoundingClientRect().top);
  for (const card of cards.sort((a, b) => far(a) - far(b))) {
    await draw(card);
    await new Promise((done) => setTimeout(done));
    if (drawAll.turn !== turn) return;
  }
  document.body.dataset.ready = "1";
}

if (left) {
  document.querySelectorAll(".card").forEach(listen);
  left.addEventListener("change", drawAll);
  right.addEventListener("change", drawAll);
  document.getElementById("large").addEventListener("change", (event) =>
    document.body.classList.toggle("large", event.target.checked));
  drawAll();
}
