/** One layout at a time: a new one replaces the one under way, and what waits for the drawing runs after it. */
import type { Scope } from "../dom";
import type { LayoutRequest, LayoutResult } from "./layout";
import { LayoutClient, type LayoutJob } from "./layout_client";

/** `slow` is called only if the layout takes longer than this, in milliseconds. */
const PATIENCE = 180;

export interface LayoutEvents {
  slow(): void;
  done(result: LayoutResult): void;
  failed(error: unknown): void;
}

export class LayoutRun {
  private readonly client = new LayoutClient();
  private job: LayoutJob | null = null;
  private waiting: (() => void)[] = [];

  constructor(private readonly scope: Scope) {
    scope.add(() => this.job?.cancel());
    scope.add(() => this.client.dispose());
  }

  get busy(): boolean {
    return this.job !== null;
  }

  /** Calls `fn` after the next layout. */
  after(fn: () => void): void {
    this.waiting.push(fn);
  }

  start(request: LayoutRequest, events: LayoutEvents): void {
    this.job?.cancel();
    const job = this.client.run(request);
    this.job = job;
    const stopWaiting = this.scope.after("progress", PATIENCE, events.slow);
    job.result.then(
      this.scope.guard("layout", (result) => {
        stopWaiting();
        if (this.job !== job) return;
        this.job = null;
        events.done(result);
        for (const then of this.waiting.splice(0)) then();
      }),
      (error: unknown) => {
        stopWaiting();
        if (this.job !== job) return;
        this.job = null;
        events.failed(error);
      },
    );
  }

  /** Stops the layout under way; nothing that waits for it runs. */
  cancel(): void {
    this.job?.cancel();
    this.job = null;
    this.waiting = [];
  }
}
