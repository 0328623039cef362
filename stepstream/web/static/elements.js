// Elements of the page: found and made.

export const $ = (id) => document.getElementById(id);

function prepared(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export const made = (name, attributes = {}, ...children) => prepared(document.createElement(name), attributes, children);

export const madeSvg = (name, attributes = {}, ...children) =>
  prepared(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

export const cell = (content, attributes = {}) => made("td", attributes, content);

export const number = (value) => cell(value, { class: "number" });

export const pill = (level, words) => made("span", { class: "pill", "data-level": level }, words);

// Text that is read aloud when it changes, so it is written only then.
export function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

// Rows of a table body; one that says why if there are none.
export function fill(body, rows, why) {
  const columns = body.parentElement.tHead.rows[0].cells.length;
  body.replaceChildren(...(rows.length ? rows : [made("tr", {}, cell(why, { colspan: columns, class: "none" }))]));
}
