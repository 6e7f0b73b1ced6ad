// Parts of forms: a labelled control, a choice.

import { el, type Child } from "../dom";

let count = 0;

/** A control under its label, with a hint that screen readers hear too. */
export function field(label: string, control: HTMLElement, hint?: string, ...beside: Child[]): HTMLElement {
  const id = `field-${(count += 1)}`;
  control.id = id;
  const text = hint === undefined ? null : el("span", { class: "hint", id: `${id}-hint` }, hint);
  if (text !== null) control.setAttribute("aria-describedby", text.id);
  const line = beside.length === 0 ? control : el("div", { class: "line" }, control, ...beside);
  return el("div", { class: "field" }, el("label", { for: id }, label), line, text);
}

export function choice(options: Record<string, string>, chosen?: string): HTMLSelectElement {
  const select = el("select", {}, ...Object.entries(options).map(([value, text]) => el("option", { value }, text)));
  if (chosen !== undefined) select.value = chosen;
  return select;
}
