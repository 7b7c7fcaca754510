/** Asks for a layout, in a Blob worker where the page allows it. */
import workerSource from "virtual:layout-worker";
import { layout, type LayoutRequest, type LayoutResult } from "./layout";

export interface LayoutJob {
  result: Promise<LayoutResult>;
  /** Ends the work at once; the promise is then never settled. */
  cancel(): void;
}

/** Layouts this small take less time than starting a worker does. */
const SMALL = 40;

export class LayoutClient {
  private idle: Worker | null = null;
  private refused = false;

  run(request: LayoutRequest): LayoutJob {
    if (this.refused || request.parent.length <= SMALL) return onMainThread(request);
    const worker = this.take();
    if (!worker) return onMainThread(request);
    let fallback: LayoutJob | null = null;
    let ended = false;
    const result = new Promise<LayoutResult>((resolve, reject) => {
      worker.onmessage = (event: MessageEvent<{ ok: true; result: LayoutResult } | { ok: false; message: string }>) => {
        if (ended) return;
        ended = true;
        this.keep(worker);
        if (event.data.ok) resolve(event.data.result);
        else reject(new Error(`Layout failed: ${event.data.message}`));
      };
      // A page whose security policy forbids Blob workers reports it here, not from the constructor.
      worker.onerror = () => {
        if (ended) return;
        ended = true;
        worker.terminate();
        this.refused = true;
        fallback = onMainThread(request);
        fallback.result.then(resolve, reject);
      };
      worker.postMessage(request);
    });
    return {
      result,
      cancel: () => {
        if (!ended) worker.terminate();
        ended = true;
        fallback?.cancel();
      },
    };
  }

  dispose(): void {
    this.idle?.terminate();
    this.idle = null;
  }

  /** A finished worker is kept warm: starting one costs more than a small layout. */
  private keep(worker: Worker): void {
    if (this.idle) worker.terminate();
    else this.idle = worker;
  }

  private take(): Worker | null {
    const warm = this.idle;
    this.idle = null;
    if (warm) return warm;
    try {
      const url = URL.createObjectURL(new Blob([workerSource], { type: "text/javascript" }));
      const worker = new Worker(url);
      // The program is fetched on a later turn; its address is not needed after that.
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
      return worker;
    } catch {
      this.refused = true;
      return null;
    }
  }
}

function onMainThread(request: LayoutRequest): LayoutJob {
  let cancelled = false;
  const result = new Promise<LayoutResult>((resolve, reject) => {
    // After the next paint, so that "laying out" is seen before the page stalls.
    setTimeout(() => {
      if (cancelled) return;
      try {
        resolve(layout(request));
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    }, 0);
  });
  return { result, cancel: () => { cancelled = true; } };
}
