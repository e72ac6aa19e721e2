// Says under the pointer which entries a pixel stands for, and their range.
"use strict";
const pictures = JSON.parse(document.getElementById("values").textContent);
const tip = document.getElementById("tip");
const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer;
// Two bytes are the upper half of a number in single precision.
const widen = halves => new Float32Array(Uint32Array.from(halves, half => half * 65536).buffer);
const number = (value, digits) => {
  if (value === 0) return "0";
  const size = Math.abs(value), negative = value < 0;
  // Of these single precision holds no more than the sign.
  if (size === Infinity) return negative ? "< −3.39e+38" : "> 3.39e+38";
  if (size < 1.17e-38) return negative ? "> −1.18e−38" : "< 1.18e−38";
  return String(Number(value.toPrecision(digits))).replaceAll("-", "−");
};
// Sides are pieces: place in the picture, flat index, length, parameter, index in the parameter.
const find = (pieces, at) => {
  let low = 0, high = pieces.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pieces[middle][0] <= at) low = middle; else high = middle - 1;
  }
  const [place, flat, , name, index] = pieces[low];
  return { flat: flat + at - place, name, index: index + at - place };
};
const place = (pieces, first, last) => {
  const from = find(pieces, first), to = find(pieces, last);
  const entry = end => end.name ? `${end.name}[${end.index}]` : "";
  if (first === last) return `${from.flat}  ${entry(from)}`;
  const names = from.name === to.name ? (from.name ? `${from.name}[${from.index}…${to.index}]` : "")
    : `${entry(from)} … ${entry(to)}`;
  return `${from.flat}…${to.flat}  ${names}`;
};
// Behind the pointer, or before it where there is no room: never over what it points at.
const beside = (at, size, room) => at + size + 22 <= room ? at + 14 : Math.max(8, at - size - 14);
for (const figure of document.querySelectorAll("figure[data-picture]")) {
  const picture = pictures[Number(figure.dataset.picture)];
  const low = picture.high === null ? new Float32Array(bytes(picture.low)) : widen(new Uint16Array(bytes(picture.low)));
  const high = picture.high === null ? low : widen(new Uint16Array(bytes(picture.high)));
  const svg = figure.querySelector("svg");
  const [left, top, width, height] = picture.map;
  const text = event => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * picture.size[0] - left;
    const y = (event.clientY - box.top) / box.height * picture.size[1] - top;
    if (x < 0 || y < 0 || x >= width || y >= height) return null;
    const row = Math.floor(y / height * picture.cells[0]), column = Math.floor(x / width * picture.cells[1]);
    const at = row * picture.cells[1] + column;
    const range = (cell, k) => [cell * picture.factor[k],
      Math.min((cell + 1) * picture.factor[k], picture.entries[k]) - 1];
    const columns = place(picture.columns, ...range(column, 1));
    const where = picture.vector ? `entry ${columns}`
      : `row ${place(picture.rows, ...range(row, 0))}\ncolumn ${columns}`;
    if (Number.isNaN(low[at])) return `${where}\nNaN or infinite`;
    const value = picture.high === null ? number(low[at], 6) : `${number(low[at], 3)} to ${number(high[at], 3)}`;
    return `${where}\n${value}`;
  };
  svg.addEventListener("pointermove", event => {
    const found = text(event);
    tip.hidden = found === null;
    if (found === null) return;
    tip.textContent = found;
    tip.style.left = `${beside(event.clientX, tip.offsetWidth, window.innerWidth)}px`;
    tip.style.top = `${beside(event.clientY, tip.offsetHeight, window.innerHeight)}px`;
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });
}
