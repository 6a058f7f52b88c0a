// Runs as the body of a function with (element, props, trigger, watch) of Gradio's HTML component.
const STEPS = { ArrowLeft: -2, ArrowRight: 2, ArrowDown: -2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
const chosen = { left: null, right: null, cut: 50 };
let maps = [];

const make = (tag, name, parent) => {
  const made = document.createElement(tag);
  made.className = name;
  parent.append(made);
  return made;
};

function floats(text) {
  const packed = atob(text), bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}

const number = (value) => (Math.abs(value) < 10 ? value.toFixed(3) : value.toFixed(2));

function words(map, value) {
  if (Number.isNaN(value)) return "unknown";
  if (!Number.isFinite(value)) return "beyond range";
  const text = map.metric ? `${number(value)} m` : `${value.toPrecision(4)} (${map.unit})`;
  const end = map.ends && (value <= map.ends[0] * 1.000001 || value >= map.ends[1] * 0.999999);
  const off = map.scale && (value < map.scale[0] || value > map.scale[1]);
  return text + (end ? " (end of the network's range)" : "") + (off ? " (off the colour scale)" : "");
}

function reading(data, column, row) {
  const at = row * data.width + column, middle = data.step >> 1;
  const values = maps.map((map) => map.floats[at]);
  const parts = maps.map((map, i) => `${maps.length > 1 ? `${map.name} ` : ""}${words(map, values[i])}`);
  const apart = values[0] - values[1];
  if (maps.length === 2 && maps.every((map) => map.metric) && Number.isFinite(apart))
    parts.push(`A − B ${apart < 0 ? "−" : "+"}${number(Math.abs(apart))} m`);
  return [column * data.step + middle, row * data.step + middle, parts.join(" · ")];
}

function selector(parent, label, side, data, redraw) {
  const holder = make("label", side, parent), list = make("select", "", holder);
  holder.prepend(`${label} `);
  for (const layer of data.layers) list.add(new Option(layer.name, layer.name, false, layer.name === chosen[side]));
  list.addEventListener("change", () => {
    chosen[side] = list.value;
    redraw();
  });
}

function choose(data) {
  const names = data.layers.map((layer) => layer.name), usual = names.length > 2 ? [1, 2] : [0, 1];
  if (!names.includes(chosen.left)) chosen.left = names[usual[0]];
  if (!names.includes(chosen.right)) chosen.right = names[usual[1]];
}

function draw() {
  const root = element.querySelector(".mde-view"), data = props.value;
  root.replaceChildren();
  root.dataset.ready = data ? "1" : "";
  if (!data) {
    make("p", "empty", root).textContent = "Drop a picture at the right: its depth appears here.";
    return;
  }
  maps = data.maps.map((map) => ({ ...map, floats: floats(map.values) }));
  choose(data);
  const head = make("div", "head", root), stage = make("div", "stage", root);
  const readout = make("output", "readout", root), frame = make("div", "frame", stage), bars = make("div", "bars", stage);
  const under = make("img", "under", frame), over = make("img", "over", frame), mark = make("div", "mark", frame);
  const divider = make("div", "divider", frame);
  readout.textContent = "Point at the picture to read its depth; click to add an anchor.";
  frame.style.aspectRatio = `${data.width} / ${data.height}`;
  frame.style.setProperty("--shape", data.width / data.height);
  bars.style.minWidth = data.layers.length > 2 ? "13rem" : "6rem"; // the picture keeps its size whatever is chosen
  divider.tabIndex = 0;
  divider.setAttribute("role", "slider");
  divider.setAttribute("aria-label", "divider between the left and the right layer");

  const cut = (percent) => {
    chosen.cut = Math.min(100, Math.max(0, percent));
    frame.style.setProperty("--cut", `${chosen.cut}%`);
    divider.setAttribute("aria-valuenow", Math.round(chosen.cut));
  };
  const redraw = () => {
    const [left, right] = ["left", "right"].map((side) => data.layers.find((layer) => layer.name === chosen[side]));
    Object.assign(over, { src: left.src, alt: left.name, draggable: false });
    Object.assign(under, { src: right.src, alt: right.name, draggable: false });
    bars.replaceChildren();
    for (const src of new Set([left.bar, right.bar].filter(Boolean)))
      Object.assign(make("img", "bar", bars), { src, alt: "colour scale" });
  };
  const place = (event) => {
    const box = frame.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    const inside = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    return [x, y, ...reading(data, inside(x, data.width), inside(y, data.height))];
  };
  const read = (event) => {
    const [x, y, column, row, text] = place(event);
    readout.textContent = `x ${column}, y ${row}: ${text}`;
    Object.assign(mark.style, { display: "block", left: `${100 * x}%`, top: `${100 * y}%` });
  };
  frame.addEventListener("pointermove", read);
  frame.addEventListener("click", (event) => {
    read(event);
    const [, , x, y] = place(event);
    if (event.target !== divider) trigger("select", { x, y });
  });
  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => {
    if (divider.hasPointerCapture(event.pointerId)) cut(100 * place(event)[0]);
  });
  divider.addEventListener("keydown", (event) => {
    if (!(event.key in STEPS)) return;
    event.preventDefault();
    cut(chosen.cut + STEPS[event.key]);
  });
  selector(head, "left of the divider", "left", data, redraw);
  selector(head, "right of it", "right", data, redraw);
  cut(chosen.cut);
  redraw();
}

watch("value", draw);
draw();
