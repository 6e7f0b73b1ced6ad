// Light or dark: as the system says, or as the viewer chose here.

export const themes = ["auto", "light", "dark"] as const;
export type Theme = (typeof themes)[number];

const key = "kinora.theme";

export function theme(): Theme {
  const stored = localStorage.getItem(key);
  return themes.find((one) => one === stored) ?? "auto";
}

export function setTheme(next: Theme): void {
  localStorage.setItem(key, next);
  applyTheme();
}

/** Called with every change of the colours that are in force. */
export const themeChanged = new EventTarget();

export function applyTheme(): void {
  const now = theme();
  document.documentElement.style.colorScheme = now === "auto" ? "light dark" : now;
  themeChanged.dispatchEvent(new Event("change"));
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
