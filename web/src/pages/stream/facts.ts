// What is known of a stream, as terms and texts.

import type { Stream } from "../../api";
import { el } from "../../dom";
import * as show from "../../show";
import { words } from "../../words";
import * as zone from "../../zone";
import { since } from "../streams/card";

export function describe(stream: Stream): Node[] {
  const { publisher, retention } = stream;
  const facts: [string, string][] = [[words.stream.state, since(stream)]];
  if (publisher !== null) {
    const lost = publisher.lost > 0 ? words.stream.lost(publisher.lost) : "";
    facts.push([words.stream.publisher, words.stream.from(publisher.protocol, publisher.peer) + lost]);
  }
  facts.push([words.stream.viewers, String(stream.viewers)]);
  if (stream.state === "live") facts.push([words.stream.bitrate, show.bitrate(stream.bitrate)]);
  facts.push([words.stream.stored, show.bytes(stream.bytes)]);
  if (stream.first_time !== null) facts.push([words.stream.first, zone.time(Date.parse(stream.first_time))]);
  if (stream.last_time !== null) facts.push([words.stream.last, zone.time(Date.parse(stream.last_time))]);
  const bounds = [retention.max_age, retention.max_bytes === null ? null : show.bytes(retention.max_bytes)].filter((one) => one !== null);
  facts.push([words.stream.keeps, bounds.length === 0 ? words.stream.keepsAll : words.stream.keepsUpTo(bounds.join(", "))]);
  stream.tracks.forEach((track, at) => {
    const size = track.width ? ` ${track.width}×${track.height}` : "";
    const rate = track.frame_rate ? `, ${Number(track.frame_rate.toFixed(2))} fps` : "";
    const name = track.codec_string === null ? "" : ` (${track.codec_string})`;
    facts.push([at === 0 ? words.stream.tracks : "", `${show.codec(track.codec)}${size}${rate}${name}`]);
  });
  const tags = Object.entries(stream.tags).map(([key, value]) => `${key}=${value}`);
  if (tags.length > 0) facts.push([words.stream.tags, tags.join(", ")]);
  for (const note of stream.notes) facts.push(["", note]);
  return facts.flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]);
}
