// How full the disk is, and for how long it has room at the rate of now.

import type { Server } from "../../api";
import { el } from "../../dom";
import * as show from "../../show";
import { words } from "../../words";

export class DiskCard {
  private readonly forecast = el("p", { class: "verdict" });
  private readonly fill = el("div", { class: "fill" });
  private readonly mark = el("div", { class: "mark" });
  private readonly meter = el("div", { class: "meter", role: "meter", "aria-label": words.server.usedLabel, "aria-valuemin": 0, "aria-valuemax": 100 }, this.fill, this.mark);
  private readonly used = el("p", { class: "soft" });
  private readonly facts = el("dl", { class: "facts" });
  private readonly note = el("p", { class: "hint" });
  readonly element = el("section", { class: "card" }, el("h2", {}, words.server.disk), this.forecast, this.meter, this.used, this.facts, this.note);

  draw({ space }: Server): void {
    const { free_bytes: free, total_bytes: total, seconds_left: left, low_bytes: low } = space;
    const used = total > 0 ? ((total - free) / total) * 100 : 0;
    this.fill.style.width = `${used}%`;
    this.mark.style.left = `${total > 0 ? 100 - (low / total) * 100 : 100}%`;
    this.meter.classList.toggle("bad", space.state !== "ok");
    this.meter.setAttribute("aria-valuenow", used.toFixed(0));
    this.used.textContent = words.server.used(show.bytes(total - free), show.bytes(total));
    this.forecast.textContent =
      space.state !== "ok"
        ? words.server.forecastNow
        : left === undefined
          ? words.server.forecastNone
          : `${words.server.forecast} ${words.server.forecastValue(show.duration(left * 1000))}`;
    this.forecast.classList.toggle("bad", space.state !== "ok");
    const facts: [string, string][] = [
      [words.server.free, show.bytes(free)],
      [words.server.rate, space.write_rate > 0 ? words.server.rateValue(show.bytes(space.write_rate)) : words.server.forecastNone],
    ];
    this.facts.replaceChildren(...facts.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]));
    this.note.textContent = words.server.forecastNote(total > 0 ? `${((low / total) * 100).toFixed(0)} %` : "–");
  }
}
