// A text to take along: shown whole, with a button that copies it.

import { el } from "../dom";
import { icon } from "../icons";
import { words } from "../words";

const thanksMs = 1600;

export function copyField(label: string, text: string, look = ""): HTMLElement {
  const code = el("code", { tabindex: 0, "aria-label": label }, text);
  const button = el("button", { type: "button", class: "quiet bare", "aria-label": words.copy(label), title: words.copy(label) }, icon("copy"));
  const said = el("span", { class: "unseen", role: "status" });
  button.addEventListener("click", () => {
    void take(text, code).then((done) => {
      said.textContent = done ? words.copied : words.copyByHand;
      button.replaceChildren(icon(done ? "check" : "copy"));
      setTimeout(() => {
        said.textContent = "";
        button.replaceChildren(icon("copy"));
      }, thanksMs);
    });
  });
  return el("div", { class: `copy ${look}` }, el("span", { class: "label" }, label), el("div", { class: "copy-line" }, code, button), said);
}

/** Copies, or marks the text so that the keyboard can: pages on plain HTTP have no clipboard. */
async function take(text: string, code: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection()?.selectAllChildren(code);
    return document.execCommand("copy");
  }
}
