// The player's keys, wherever the focus is but in fields, dialogs and on buttons that take the key themselves.

export interface KeyVerbs {
  toggle(): void;
  pause(): void;
  step(ms: number): void;
  wind(direction: 1 | -1): void;
  frameMs(): number;
  begin(): void;
  goLive(): void;
  mark(end: "from" | "to"): void;
  mute(): void;
  full(): void;
}

const stepMs = 5000;

export function listenToKeys(signal: AbortSignal, verbs: KeyVerbs): void {
  const act = (event: KeyboardEvent): boolean => {
    const far = event.shiftKey ? verbs.frameMs() : stepMs;
    switch (event.key.length === 1 ? event.key.toLowerCase() : event.key) {
      case " ":
      case "k":
        verbs.toggle();
        return true;
      case "ArrowLeft":
        verbs.step(-far);
        return true;
      case "ArrowRight":
        verbs.step(far);
        return true;
      case "j":
        verbs.wind(-1);
        return true;
      case "l":
        verbs.wind(1);
        return true;
      case "Home":
        verbs.begin();
        return true;
      case "End":
        verbs.goLive();
        return true;
      case "i":
        verbs.mark("from");
        return true;
      case "o":
        verbs.mark("to");
        return true;
      case "m":
        verbs.mute();
        return true;
      case "f":
        verbs.full();
        return true;
      default:
        return false;
    }
  };
  addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const on = event.target instanceof Element ? event.target : document.body;
      if (on.closest("input, select, textarea, dialog") !== null) return;
      if ((event.key === " " || event.key === "Enter") && on.closest("button, a") !== null) return;
      if (act(event)) event.preventDefault();
    },
    { signal },
  );
}
