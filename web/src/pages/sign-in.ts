// Asks for a token when none came by link.

import { el } from "../dom";
import { setToken } from "../session";
import { words } from "../words";

export function signInPage(root: HTMLElement, signedIn: () => void, refused: boolean): void {
  const field = el("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const form = el(
    "form",
    {
      class: "card narrow",
      submit: (event) => {
        event.preventDefault();
        setToken(field.value);
        signedIn();
      },
    },
    refused ? el("p", { class: "problem", role: "alert" }, words.signIn.refused) : null,
    el("h1", {}, words.signIn.title),
    el("p", {}, words.signIn.how),
    el("div", { class: "field" }, el("label", { for: "token" }, words.signIn.field), field),
    el("button", { type: "submit", class: "main" }, words.signIn.button),
    el("p", { class: "hint" }, words.signIn.where),
  );
  root.append(form);
  field.focus();
}
