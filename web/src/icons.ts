// The console's icons: strokes of two units in a box of 24.

import { drawing, el, type Child } from "./dom";

const paths = {
  play: ["M8 5v14l11-7z"],
  pause: ["M8 5v14", "M16 5v14"],
  back: ["M4 12a8 8 0 1 0 2.6-5.9", "M4 4v4.6h4.6"],
  ahead: ["M20 12a8 8 0 1 1-2.6-5.9", "M20 4v4.6h-4.6"],
  sound: ["M4 9v6h4l5 4V5L8 9z", "M16.5 8.5a5 5 0 0 1 0 7"],
  silent: ["M4 9v6h4l5 4V5L8 9z", "M17 9.5l5 5", "M22 9.5l-5 5"],
  full: ["M4 9V4h5", "M15 4h5v5", "M20 15v5h-5", "M9 20H4v-5"],
  screen: ["M3 4h18v12H3z", "M8 20h8", "M12 16v4"],
  stop: ["M6 6h12v12H6z"],
  air: ["M12 11a1 1 0 1 0 0 2 1 1 0 0 0 0-2z", "M8.5 15.5a5 5 0 0 1 0-7", "M15.5 8.5a5 5 0 0 1 0 7", "M5.6 18.4a9 9 0 0 1 0-12.8", "M18.4 5.6a9 9 0 0 1 0 12.8"],
  copy: ["M9 9h11v11H9z", "M5 15H4V4h11v1"],
  check: ["M4 12.5l5 5L20 6.5"],
  plus: ["M12 5v14", "M5 12h14"],
  minus: ["M5 12h14"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  edit: ["M4 20h4L19 9l-4-4L4 16z", "M13 7l4 4"],
  save: ["M12 4v11", "M7 11l5 5 5-5", "M5 20h14"],
  camera: ["M3 7h12v10H3z", "M15 11l6-3.5v9L15 13z"],
  sun: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M12 2v2", "M12 20v2", "M2 12h2", "M20 12h2", "M5 5l1.4 1.4", "M17.6 17.6L19 19", "M5 19l1.4-1.4", "M17.6 6.4L19 5"],
  moon: ["M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z"],
  auto: ["M12 3a9 9 0 1 0 0 18z", "M12 3a9 9 0 0 1 0 18"],
  left: ["M15 5l-7 7 7 7"],
  right: ["M9 5l7 7-7 7"],
  keys: ["M3 7h18v10H3z", "M7 11h.01", "M11 11h.01", "M15 11h.01", "M8 14h8"],
  leave: ["M14 4H5v16h9", "M10 12h11", "M17 8l4 4-4 4"],
  warn: ["M12 4L2.5 20h19z", "M12 10v4.5", "M12 17.3h.01"],
} as const;

export type IconName = keyof typeof paths;

export const icon = (name: IconName): SVGSVGElement => drawing("icon", 24, ...paths[name]);

/** A button with an icon and, when `label` is to be seen, its text; the label is read aloud either way. */
export function iconButton(name: IconName, label: string, click: () => void, look = "quiet", seen = false): HTMLButtonElement {
  const text: Child = seen ? el("span", {}, label) : null;
  const named = seen ? {} : { "aria-label": label, title: label };
  return el("button", { type: "button", class: `${look}${seen ? "" : " bare"}`, click, ...named }, icon(name), text);
}

/** Shows another icon and label on a button made by `iconButton`. */
export function reface(button: HTMLButtonElement, name: IconName, label: string): void {
  if (button.getAttribute("aria-label") === label) return;
  button.setAttribute("aria-label", label);
  button.title = label;
  button.replaceChildren(icon(name));
}
