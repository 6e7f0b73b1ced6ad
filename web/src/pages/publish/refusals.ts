// Why publishing does not go, as sentences with what can be done.

import { Refused } from "../../api";
import { Unreachable } from "../../rtc/exchange";
import { words } from "../../words";
import { sentence } from "../poll";

/** What stopped it: the browser's devices, the server, or the way between them. */
export function explain(error: unknown, stream: string, screen: boolean): string {
  if (error instanceof Unreachable) return words.publish.unreachable(error.at.join(", "));
  if (error instanceof DOMException) return device(error, screen);
  if (!(error instanceof Refused)) return words.publish.failed(error instanceof Error ? error.message : String(error));
  switch (error.status) {
    case 401:
      return words.signIn.refused;
    case 403:
      return words.publish.forbidden(stream);
    case 409:
      return words.publish.busy(stream);
    case 406:
      return words.publish.codec(error.message);
    case 429:
      return words.publish.many;
    case 503:
      return words.publish.stopping;
    case 507:
      return words.publish.full;
    default:
      return sentence(error);
  }
}

/** What `getUserMedia` and `getDisplayMedia` throw (Media Capture and Streams, section 10.3). */
function device({ name, message }: DOMException, screen: boolean): string {
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return screen ? words.publish.notShared : words.publish.notAllowed;
    case "NotFoundError":
      return words.publish.noDevice;
    case "NotReadableError":
    case "AbortError":
      return words.publish.inUse;
    case "OverconstrainedError":
      return words.publish.gone;
    default:
      return words.publish.failed(message);
  }
}
