// Builds elements. Text goes in as text nodes only: a stream's name can never become markup.

type Attributes = Record<string, string | number | boolean | EventListener | undefined>;
export type Child = Node | string | null;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const svgSpace = "http://www.w3.org/2000/svg";

/** A drawing of paths in a square box; hidden from screen readers, since words stand beside it. */
export function drawing(className: string, size: number, ...paths: string[]): SVGSVGElement {
  const svg = document.createElementNS(svgSpace, "svg");
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  for (const data of paths) {
    const path = document.createElementNS(svgSpace, "path");
    path.setAttribute("d", data);
    svg.append(path);
  }
  return svg;
}

/** Replaces the children of `parent` only when `key` is another one than at the last call. */
export function renew(parent: HTMLElement, key: string, make: () => Child[]): void {
  if (parent.dataset["key"] === key) return;
  parent.dataset["key"] = key;
  parent.replaceChildren(...make().filter((child) => child !== null));
}
