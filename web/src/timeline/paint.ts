// Draws the timeline on a canvas: ruler, recorded spans, gaps, the selected range, the playhead.

import { serverNow } from "../clock";
import { words } from "../words";
import type { Hole, Piece } from "./recorded";
import { marks, span, type View } from "./view";

export interface Scene {
  view: View;
  spans: Piece[];
  gaps: Hole[];
  known: boolean;
  selection: Piece | undefined;
  playhead: number | undefined;
  live: boolean;
  hover: number | undefined;
}

export const rulerHeight = 28;
const trackTop = 38;
const trackBottom = 14;
/** A gap that is narrower says its reason only when pointed at. */
const reasonWidth = 90;

/** The colours in force, read from the style sheet. */
export interface Colours {
  ink: string;
  soft: string;
  line: string;
  track: string;
  span: string;
  hatch: string;
  accent: string;
  live: string;
  select: string;
  card: string;
}

export function colours(element: HTMLElement): Colours {
  const style = getComputedStyle(element);
  // A custom property is not resolved by itself: the colour of a real property is.
  const probe = document.createElement("span");
  element.append(probe);
  const read = (name: string): string => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color || style.color;
  };
  const found = {
    ink: read("ink"),
    soft: read("soft"),
    line: read("line"),
    track: read("track"),
    span: read("span"),
    hatch: read("hatch"),
    accent: read("accent"),
    live: read("live"),
    select: read("select"),
    card: read("card"),
  };
  probe.remove();
  return found;
}

export function paint(canvas: HTMLCanvasElement, scene: Scene, colour: Colours): void {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  if (context === null || width === 0) return;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const x = (at: number): number => ((at - scene.view.from) / span(scene.view)) * width;
  ruler(context, scene, colour, width, height, x);
  track(context, scene, colour, width, height, x);
  if (scene.selection !== undefined) selection(context, scene.selection, colour, width, height, x);
  if (scene.hover !== undefined) line(context, x(scene.hover), rulerHeight, height, colour.soft, 1);
  const now = x(serverNow());
  if (now >= 0 && now <= width) line(context, now, trackTop - 4, height - trackBottom + 4, colour.live, 1.5);
  if (scene.playhead !== undefined) playhead(context, x(scene.playhead), scene.live ? colour.live : colour.ink, colour.card, height);
}

type Place = (at: number) => number;

function line(context: CanvasRenderingContext2D, x: number, top: number, bottom: number, colour: string, width: number): void {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(Math.round(x) + 0.5, top);
  context.lineTo(Math.round(x) + 0.5, bottom);
  context.stroke();
}

function ruler(context: CanvasRenderingContext2D, scene: Scene, colour: Colours, width: number, height: number, x: Place): void {
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  let free = -Infinity;
  for (const mark of marks(scene.view, width)) {
    const at = x(mark.at);
    const labelled = mark.label !== undefined;
    line(context, at, rulerHeight - (labelled ? 7 : 3), rulerHeight, colour.line, 1);
    if (labelled) {
      context.globalAlpha = mark.strong ? 0.9 : 0.45;
      line(context, at, rulerHeight, height - trackBottom, colour.line, 1);
      context.globalAlpha = 1;
    }
    if (mark.label === undefined) continue;
    const half = context.measureText(mark.label).width / 2;
    const left = Math.min(Math.max(at - half, 2), width - 2 * half - 2);
    if (left < free) continue;
    free = left + 2 * half + 12;
    context.fillStyle = mark.strong ? colour.ink : colour.soft;
    context.fillText(mark.label, left, 11);
  }
}

function box(context: CanvasRenderingContext2D, left: number, right: number, top: number, bottom: number, radius: number): void {
  context.beginPath();
  context.roundRect(left, top, right - left, bottom - top, Math.min(radius, (right - left) / 2));
}

function track(context: CanvasRenderingContext2D, scene: Scene, colour: Colours, width: number, height: number, x: Place): void {
  const bottom = height - trackBottom;
  context.save();
  box(context, 0, width, trackTop, bottom, 6);
  context.clip();
  context.fillStyle = colour.track;
  context.fillRect(0, trackTop, width, bottom - trackTop);
  for (const gap of scene.gaps) {
    const [left, right] = [Math.max(0, x(gap.from)), Math.min(width, x(gap.to))];
    if (right <= 0 || left >= width || right - left < 1) continue;
    hatch(context, left, right, trackTop, bottom, colour.hatch);
    if (right - left < reasonWidth) continue;
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    const reason = words.stream.reason(gap.reason);
    const long = context.measureText(reason).width;
    if (long + 20 > right - left) continue;
    context.fillStyle = colour.track;
    box(context, (left + right - long) / 2 - 8, (left + right + long) / 2 + 8, (trackTop + bottom) / 2 - 11, (trackTop + bottom) / 2 + 11, 5);
    context.fill();
    context.fillStyle = colour.soft;
    context.fillText(reason, (left + right - long) / 2, (trackTop + bottom) / 2);
  }
  context.fillStyle = colour.span;
  for (const piece of scene.spans) {
    const [left, right] = [x(piece.from), x(piece.to)];
    if (right < 0 || left > width) continue;
    // What is shorter than a pixel is still to be seen.
    context.fillRect(left, trackTop, Math.max(1, right - left), bottom - trackTop);
  }
  context.restore();
}

function hatch(context: CanvasRenderingContext2D, left: number, right: number, top: number, bottom: number, colour: string): void {
  context.save();
  context.beginPath();
  context.rect(left, top, right - left, bottom - top);
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.beginPath();
  const height = bottom - top;
  for (let at = left - height - ((left - height) % 8); at < right; at += 8) {
    context.moveTo(at, bottom);
    context.lineTo(at + height, top);
  }
  context.stroke();
  context.restore();
}

function selection(context: CanvasRenderingContext2D, range: Piece, colour: Colours, width: number, height: number, x: Place): void {
  const [left, right] = [x(range.from), x(range.to)];
  const bottom = height - trackBottom + 5;
  context.globalAlpha = 0.22;
  context.fillStyle = colour.select;
  context.fillRect(Math.max(0, left), trackTop - 5, Math.min(width, right) - Math.max(0, left), bottom - trackTop + 5);
  context.globalAlpha = 1;
  for (const edge of [left, right]) {
    line(context, edge, trackTop - 5, bottom, colour.select, 2);
    context.fillStyle = colour.select;
    box(context, edge - 3, edge + 4, (trackTop + bottom) / 2 - 10, (trackTop + bottom) / 2 + 8, 3);
    context.fill();
  }
}

function playhead(context: CanvasRenderingContext2D, at: number, colour: string, halo: string, height: number): void {
  line(context, at, rulerHeight - 2, height - 2, halo, 5);
  line(context, at, rulerHeight - 2, height - 2, colour, 2);
  context.fillStyle = colour;
  context.strokeStyle = halo;
  context.lineWidth = 2;
  context.beginPath();
  context.arc(Math.round(at) + 0.5, rulerHeight + 2, 6, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
}
