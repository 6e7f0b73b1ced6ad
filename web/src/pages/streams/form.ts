// The form that creates a stream or changes its settings.

import { api, type Settings, type Stream } from "../../api";
import { el } from "../../dom";
import { words } from "../../words";
import { confirm, openDialog } from "../../widgets/dialog";
import { choice, field } from "../../widgets/field";
import { sentence } from "../poll";

const namePattern = /^[A-Za-z0-9_.-]{1,256}$/;
const ageUnits = { h: 1, d: 24 } as const;
const sizeUnits = { GB: 1e9, TB: 1e12 } as const;

/** Whether a stream can be called so. */
export const isName = (text: string): boolean => namePattern.test(text) && !/^\.\.?$/.test(text);

/** Opens the form; `done` gets the stream as it is then. */
export function editStream(signal: AbortSignal, stream: Stream | undefined, done: (stream: Stream) => void): void {
  const title = stream === undefined ? words.form.create : words.form.edit(stream.name);
  openDialog(title, signal, ({ close }) => {
    const problem = el("p", { class: "problem", role: "alert" });
    const name = el("input", { autocomplete: "off", spellcheck: "false", maxlength: 256, required: true });
    const [age, ageUnit] = amount(...readAge(stream?.retention.max_age ?? null), words.form.ageUnits);
    const [size, sizeUnit] = amount(...readSize(stream?.retention.max_bytes ?? null), words.form.sizeUnits);
    const second = choice(words.form.seconds, stream?.on_second_publisher);
    const clock = choice(words.form.clocks, stream?.producer_clock);
    const tags = el("textarea", { rows: 2, spellcheck: "false" });
    tags.value = Object.entries(stream?.tags ?? {}).map(([key, value]) => `${key}=${value}`).join("\n");
    const submit = el("button", { type: "submit", class: "main" }, stream === undefined ? words.form.submit : words.form.save);

    const settings = (): Settings => ({
      retention: {
        max_age: age.value === "" ? null : writeAge(above(age.value), ageUnit.value as keyof typeof ageUnits),
        max_bytes: size.value === "" ? null : Math.round(above(size.value) * sizeUnits[sizeUnit.value as keyof typeof sizeUnits]),
      },
      on_second_publisher: second.value as Settings["on_second_publisher"],
      producer_clock: clock.value as Settings["producer_clock"],
      tags: readTags(tags.value),
    });
    const save = async (): Promise<void> => {
      if (stream !== undefined) return done(await api.change(stream.name, settings()));
      if (!isName(name.value)) throw new Wrong(words.form.nameWrong);
      done(await api.create(name.value, settings()));
    };
    const form = el(
      "form",
      {
        novalidate: true,
        submit: (event) => {
          event.preventDefault();
          submit.disabled = true;
          save().then(close, (error: unknown) => {
            submit.disabled = false;
            problem.textContent = error instanceof Wrong ? error.message : sentence(error);
          });
        },
      },
      stream === undefined ? field(words.form.name, name, words.form.nameHint) : null,
      el(
        "div",
        { class: "two" },
        field(words.form.age, age, words.form.ageHint, ageUnit),
        field(words.form.size, size, words.form.sizeHint, sizeUnit),
      ),
      field(words.form.second, second),
      field(words.form.clock, clock),
      field(words.form.tags, tags, words.form.tagsHint),
      problem,
      el(
        "div",
        { class: "actions" },
        stream === undefined ? null : removal(stream.name, signal, close),
        el("button", { type: "button", class: "quiet", click: close }, words.cancel),
        submit,
      ),
    );
    return [form];
  });
}

/** What the person typed is no value; the message says why. */
class Wrong extends Error {}

function above(text: string): number {
  const value = Number(text.replace(",", "."));
  if (!(value > 0) || !Number.isFinite(value)) throw new Wrong(words.form.number);
  return value;
}

function amount(value: string, unit: string, units: Record<string, string>): [HTMLInputElement, HTMLSelectElement] {
  const input = el("input", { inputmode: "decimal", autocomplete: "off", class: "short" });
  input.value = value;
  const select = choice(units, unit);
  select.setAttribute("aria-label", words.form.unit);
  return [input, select];
}

/** "36h", "30d" and others as a number of hours or days. */
function readAge(text: string | null): [string, string] {
  const [, count, unit] = /^(\d+)(ms|s|m|h|d|w)$/.exec(text ?? "") ?? [];
  if (count === undefined) return ["", "d"];
  const hours = Number(count) * { ms: 1 / 3_600_000, s: 1 / 3600, m: 1 / 60, h: 1, d: 24, w: 168 }[unit as "h"];
  const days = hours / ageUnits.d;
  return Number.isInteger(days) ? [String(days), "d"] : [String(Number(hours.toFixed(4))), "h"];
}

/** The server takes whole numbers: parts of an hour or day become minutes. */
function writeAge(count: number, unit: keyof typeof ageUnits): string {
  return Number.isInteger(count) ? `${count}${unit}` : `${Math.max(1, Math.round(count * ageUnits[unit] * 60))}m`;
}

function readSize(bytes: number | null): [string, string] {
  if (bytes === null) return ["", "GB"];
  const unit = bytes >= sizeUnits.TB ? "TB" : "GB";
  return [String(Number((bytes / sizeUnits[unit]).toFixed(6))), unit];
}

function readTags(text: string): Record<string, string> {
  const tags: Record<string, string> = {};
  for (const line of text.split("\n").map((one) => one.trim()).filter((one) => one !== "")) {
    const at = line.indexOf("=");
    if (at < 1) throw new Wrong(words.form.tagsWrong(line));
    tags[line.slice(0, at).trim()] = line.slice(at + 1).trim();
  }
  return tags;
}

function removal(name: string, signal: AbortSignal, close: () => void): HTMLElement {
  const ask = (): void =>
    confirm(words.form.removeTitle(name), words.form.removeText, words.form.remove, signal, async () => {
      await api.remove(name);
      close();
      location.hash = "#/";
    });
  return el("button", { type: "button", class: "danger-quiet", click: ask }, words.form.remove);
}
