// A modal dialog with a title, made for one use and removed when closed.

import { el, type Child } from "../dom";
import { iconButton } from "../icons";
import { words } from "../words";

export interface Dialog {
  body: HTMLElement;
  close(): void;
}

let count = 0;

export function openDialog(title: string, signal: AbortSignal, fill: (dialog: Dialog) => Child[], closed: () => void = () => undefined): Dialog {
  const id = `dialog-${(count += 1)}`;
  const body = el("div", { class: "dialog-body" });
  const box = el("dialog", { "aria-labelledby": id });
  const close = (): void => box.close();
  box.append(
    el("div", { class: "dialog-head" }, el("h2", { id }, title), iconButton("close", words.close, close)),
    body,
  );
  box.addEventListener("close", () => {
    box.remove();
    closed();
  });
  signal.addEventListener("abort", close, { once: true });
  const dialog = { body, close };
  body.append(...fill(dialog).filter((child) => child !== null));
  document.body.append(box);
  box.showModal();
  return dialog;
}

/** Asks before something that cannot be undone. */
export function confirm(title: string, text: string, button: string, signal: AbortSignal, act: () => Promise<void>): void {
  openDialog(title, signal, ({ close }) => {
    const problem = el("p", { class: "problem", role: "alert" });
    const yes = el("button", { type: "button", class: "danger" }, button);
    yes.addEventListener("click", () => {
      yes.disabled = true;
      void act()
        .then(close)
        .catch((error: unknown) => {
          yes.disabled = false;
          problem.textContent = error instanceof Error ? words.error.other(error.message) : "";
        });
    });
    return [el("p", {}, text), problem, el("div", { class: "actions" }, el("button", { type: "button", class: "quiet", click: close }, words.cancel), yes)];
  });
}
