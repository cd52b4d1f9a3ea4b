/** Small live plots. In: numbers, one after the other. Out: an SVG of the last minute. */

const SAMPLES = 60;
const WIDTH = 120;
const HEIGHT = 28;
const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** The corners of a line through `values`; `null` makes a gap. Values from 0 to `top` fill the height. */
export function line(values, top, width = WIDTH, height = HEIGHT) {
  const step = width / (SAMPLES - 1);
  const start = width - step * (values.length - 1);
  let gap = true;
  let path = "";
  values.forEach((value, i) => {
    if (value === null) {
      gap = true;
      return;
    }
    const y = height - 1 - (Math.min(value, top) / top) * (height - 2);
    path += `${gap ? "M" : "L"}${(start + i * step).toFixed(1)} ${y.toFixed(1)}`;
    gap = false;
  });
  return path;
}

/** A name, a plot and its last value: `element` goes into the page. `atLeast`: what the height stands for at least. */
export class Plot {
  #values = [];
  #path = shape("path", {});
  #number = document.createElement("b");
  #name = document.createElement("span");

  constructor(format, atLeast) {
    Object.assign(this, { format, atLeast });
    const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    svg.append(this.#path);
    this.element = document.createElement("div");
    this.element.className = "plot";
    this.element.append(this.#name, svg, this.#number);
  }

  set name(text) { this.#name.textContent = text; }

  add(value) {
    this.#values.push(value);
    if (this.#values.length > SAMPLES) this.#values.shift();
    const top = Math.max(this.atLeast, ...this.#values.map((v) => v ?? 0));
    this.#path.setAttribute("d", line(this.#values, top));
    this.#number.textContent = value === null ? "–" : this.format(value);
  }
}
