/** The worker's whole program: one request, one answer. */
import { layout, type LayoutRequest } from "./layout";

onmessage = (event: MessageEvent<LayoutRequest>): void => {
  try {
    postMessage({ ok: true, result: layout(event.data) });
  } catch (error) {
    postMessage({ ok: false, message: error instanceof Error ? error.message : String(error) });
  }
};
