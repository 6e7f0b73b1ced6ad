// Tokens and keys: what there is, new ones, and taking them back.

import { serverNow } from "../../clock";
import { Refused, api, type Credential } from "../../api";
import { el } from "../../dom";
import { icon } from "../../icons";
import { confirm } from "../../widgets/dialog";
import { words } from "../../words";
import * as zone from "../../zone";
import { sentence } from "../poll";
import { newSecret, newToken } from "./mint";

export class AccessCard {
  private readonly rows = el("tbody");
  private readonly problem = el("p", { class: "problem", role: "status" });
  private readonly table: HTMLElement;
  private readonly none = el("p", { class: "soft", hidden: true }, words.access.none);
  private readonly ended = el("label", { class: "check", hidden: true });
  private showEnded = false;
  private all: Credential[] = [];
  readonly element: HTMLElement;

  constructor(private readonly signal: AbortSignal) {
    const columns = Object.values(words.access.columns).map((text) => (text === "" ? el("td") : el("th", { scope: "col" }, text)));
    this.table = el("table", {}, el("thead", {}, el("tr", {}, ...columns)), this.rows);
    const again = (): void => void this.refresh();
    this.element = el(
      "section",
      { class: "card wide" },
      el(
        "div",
        { class: "bar" },
        el("h2", {}, words.access.title),
        el(
          "div",
          { class: "bar-end" },
          el("button", { type: "button", class: "quiet", click: () => newSecret(signal, again) }, icon("plus"), words.access.newSecret),
          el("button", { type: "button", class: "main", click: () => newToken(signal, again) }, icon("plus"), words.access.newToken),
        ),
      ),
      el("p", { class: "hint" }, words.access.how),
      this.problem,
      this.table,
      this.none,
      this.ended,
    );
  }

  async refresh(): Promise<void> {
    try {
      const [tokens, keys] = await Promise.all([api.tokens(this.signal), api.keys(this.signal)]);
      this.all = [...tokens.tokens, ...keys.keys].sort((a, b) => b.created.localeCompare(a.created));
      this.problem.textContent = "";
      this.draw();
    } catch (error) {
      if (this.signal.aborted) return;
      this.problem.textContent = error instanceof Refused && error.status === 403 ? words.access.forbidden : sentence(error);
    }
  }

  private draw(): void {
    const ended = this.all.filter(hasEnded);
    const shown = this.showEnded ? this.all : this.all.filter((one) => !hasEnded(one));
    this.rows.replaceChildren(...shown.map((one) => this.row(one)));
    this.table.hidden = shown.length === 0;
    this.none.hidden = shown.length > 0;
    this.ended.hidden = ended.length === 0;
    const box = el("input", { type: "checkbox", checked: this.showEnded });
    box.addEventListener("change", () => {
      this.showEnded = box.checked;
      this.draw();
      this.ended.querySelector("input")?.focus();
    });
    this.ended.replaceChildren(box, words.access.ended(ended.length));
  }

  private row(one: Credential): HTMLElement {
    const time = (text: string | null): string => (text === null ? words.access.never : zone.near(Date.parse(text)));
    const name = one.label === "" ? words.access.unnamed : one.label;
    const gone = hasEnded(one);
    const revoke = el("button", { type: "button", class: "danger-quiet", "aria-label": `${words.access.revoke}: ${name}` }, words.access.revoke);
    revoke.addEventListener("click", () => {
      const text = one.kind === "publish_secret" ? words.access.revokeSecret : words.access.revokeToken;
      confirm(words.access.revokeTitle(name), text, words.access.revoke, this.signal, async () => {
        await api.revoke(one);
        await this.refresh();
      });
    });
    const ends = one.revoked !== null ? words.access.isRevoked : gone ? words.access.isExpired : time(one.expires);
    const { columns } = words.access;
    const cell = (label: string, text: string, look = ""): HTMLElement => el("td", { "data-label": label, class: look }, text);
    return el(
      "tr",
      { class: gone ? "ended" : "" },
      cell(columns.label, name, "strong"),
      cell(columns.kind, words.access.kinds[one.kind]),
      cell(columns.streams, one.streams),
      cell(columns.may, may(one)),
      cell(columns.used, time(one.last_used)),
      cell(columns.ends, ends),
      el("td", { class: "act" }, gone ? null : revoke),
    );
  }
}

const hasEnded = ({ revoked, expires }: Credential): boolean => revoked !== null || (expires !== null && Date.parse(expires) <= serverNow());

function may({ kind, actions, playback }: Credential): string {
  if (kind === "publish_secret") return words.access.actions["publish"]!;
  const all = actions.length === 0 ? words.access.everything : actions.map((action) => words.access.actions[action] ?? action).join(", ");
  return playback ? `${all} (${words.access.playback})` : all;
}
