// The forms that make a token or a publish secret, and show it once.

import { api } from "../../api";
import { el } from "../../dom";
import { copyField } from "../../widgets/copy";
import { openDialog, type Dialog } from "../../widgets/dialog";
import { choice, field } from "../../widgets/field";
import { words } from "../../words";
import { sentence } from "../poll";

type Preset = keyof typeof words.access.presets;

const rights: Record<Exclude<Preset, "own">, { actions: string[]; playback: boolean }> = {
  play: { actions: ["play"], playback: true },
  look: { actions: ["read_stream", "play"], playback: false },
  everything: { actions: [], playback: false },
};

export function newToken(signal: AbortSignal, made: () => void): void {
  openDialog(words.access.newToken, signal, (dialog) => {
    const { label, streams, expires } = shared();
    const preset = choice(words.access.presets, "play");
    const boxes = Object.entries(words.access.actions).map(([action, text]) => {
      const box = el("input", { type: "checkbox", value: action });
      return { box, line: el("label", { class: "check" }, box, text) };
    });
    const own = el("fieldset", { hidden: true }, el("legend", {}, words.access.may), ...boxes.map(({ line }) => line));
    preset.addEventListener("change", () => (own.hidden = preset.value !== "own"));
    const make = async (): Promise<HTMLElement> => {
      const ticked = boxes.filter(({ box }) => box.checked).map(({ box }) => box.value);
      const scope = preset.value === "own" ? { actions: ticked, playback: false } : rights[preset.value as Exclude<Preset, "own">];
      if (preset.value === "own" && ticked.length === 0) throw new Error(words.access.tickOne);
      const { token } = await api.mintToken({
        label: label.value.trim(),
        streams: streams.value.trim() || "*",
        ...scope,
        ...(expires.value === "" ? {} : { expires_in: expires.value }),
      });
      return copyField(words.access.madeToken, token, "secret");
    };
    return form(dialog, made, make, [
      field(words.access.label, label, words.access.labelHint),
      field(words.access.streams, streams, words.access.streamsHint),
      field(words.access.preset, preset),
      own,
      field(words.access.expires, expires),
    ]);
  });
}

export function newSecret(signal: AbortSignal, made: () => void): void {
  openDialog(words.access.newSecret, signal, (dialog) => {
    const { label, streams, expires } = shared();
    const make = async (): Promise<HTMLElement> => {
      const term = expires.value === "" ? undefined : expires.value;
      const { secret } = await api.mintSecret(label.value.trim(), streams.value.trim() || "*", term);
      return copyField(words.access.madeSecret, secret, "secret");
    };
    return form(dialog, made, make, [
      field(words.access.label, label, words.access.labelHint),
      field(words.access.streams, streams, words.access.streamsHint),
      field(words.access.expires, expires),
    ]);
  });
}

function shared(): { label: HTMLInputElement; streams: HTMLInputElement; expires: HTMLSelectElement } {
  const label = el("input", { autocomplete: "off", maxlength: 200 });
  const streams = el("input", { autocomplete: "off", spellcheck: "false" });
  streams.value = "*";
  return { label, streams, expires: choice(words.access.terms, "30d") };
}

/** The form; what `make` gives takes its place, to be copied before the dialog is closed. */
function form({ body, close }: Dialog, made: () => void, make: () => Promise<HTMLElement>, fields: HTMLElement[]): HTMLElement[] {
  const problem = el("p", { class: "problem", role: "alert" });
  const submit = el("button", { type: "submit", class: "main" }, words.access.make);
  const actions = el("div", { class: "actions" }, el("button", { type: "button", class: "quiet", click: close }, words.cancel), submit);
  const element = el("form", {}, ...fields, problem, actions);
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    submit.disabled = true;
    make().then(
      (secret) => {
        const done = el("button", { type: "button", class: "main", click: close }, words.close);
        body.replaceChildren(el("p", { class: "notice", role: "status" }, words.access.once), secret, el("div", { class: "actions" }, done));
        done.focus();
        made();
      },
      (error: unknown) => {
        submit.disabled = false;
        problem.textContent = error instanceof Error && error.constructor === Error ? error.message : sentence(error);
      },
    );
  });
  return [element];
}
