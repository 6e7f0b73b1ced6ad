// Asks for a token when none came by link.

import { el } from "../dom";
import { setToken } from "../session";
import { words } from "../words";

export function signInPage(page: HTMLElement, signedIn: () => void, problem?: string): void {
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
    el("h1", {}, words.signIn.title),
    el("p", {}, words.signIn.how),
    el("label", { for: "token" }, words.signIn.field),
    field,
    el("button", { type: "submit" }, words.signIn.button),
    el("p", { class: "hint" }, words.signIn.where),
  );
  if (problem !== undefined) form.prepend(el("p", { class: "problem", role: "alert" }, problem));
  page.append(form);
  field.focus();
}
