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
