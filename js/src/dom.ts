/** Small helpers for the DOM. A Scope holds everything that must end with a view. */

export type ErrorSink = (where: string, error: unknown) => void;

/** Collects what must be undone, and catches what callbacks throw: no error may vanish. */
export class Scope {
  private readonly undo = new Set<() => void>();
  private dead = false;

  constructor(readonly report: ErrorSink) {}

  get disposed(): boolean {
    return this.dead;
  }

  /** Returns the way to forget it, for what ends without help. */
  add(undo: () => void): () => void {
    if (this.dead) undo();
    else this.undo.add(undo);
    return () => this.undo.delete(undo);
  }

  /** How much waits to be undone. */
  get held(): number {
    return this.undo.size;
  }

  guard<A extends unknown[]>(where: string, fn: (...args: A) => void): (...args: A) => void {
    return (...args) => {
      if (this.dead) return;
      try {
        fn(...args);
      } catch (error) {
        this.report(where, error);
      }
    };
  }

  listen<K extends keyof HTMLElementEventMap>(
    target: EventTarget, type: K, fn: (event: HTMLElementEventMap[K]) => void, options?: AddEventListenerOptions,
  ): void {
    const guarded = this.guard(type, fn) as EventListener;
    target.addEventListener(type, guarded, options);
    this.add(() => target.removeEventListener(type, guarded, options));
  }

  /** Calls at most once per `wait` ms, with the latest state, and never after the end. */
  debounce(where: string, wait: number, fn: () => void): () => void {
    let timer: ReturnType<typeof setTimeout> | undefined;
    this.add(() => clearTimeout(timer));
    return () => {
      clearTimeout(timer);
      timer = setTimeout(this.guard(where, fn), wait);
    };
  }

  /** Calls once in the next frame, however often it is asked. */
  perFrame(where: string, fn: () => void): () => void {
    let asked = 0;
    this.add(() => cancelAnimationFrame(asked));
    const guarded = this.guard(where, fn);
    return () => {
      if (asked) return;
      asked = requestAnimationFrame(() => {
        asked = 0;
        guarded();
      });
    };
  }

  after(where: string, wait: number, fn: () => void): () => void {
    const guarded = this.guard(where, fn);
    const timer = setTimeout(() => {
      forget();
      guarded();
    }, wait);
    const forget = this.add(() => clearTimeout(timer));
    return () => {
      forget();
      clearTimeout(timer);
    };
  }

  onResize(target: Element, fn: () => void): void {
    const observer = new ResizeObserver(this.guard("resize", fn));
    observer.observe(target);
    this.add(() => observer.disconnect());
  }

  /** Now, or when the element first has a width: a notebook draws a view before it attaches it. */
  whenSized(target: Element, fn: (width: number) => void): void {
    if (target.clientWidth > 0) return fn(target.clientWidth);
    const observer = new ResizeObserver(this.guard("resize", () => {
      if (target.clientWidth === 0) return;
      observer.disconnect();
      fn(target.clientWidth);
    }));
    observer.observe(target);
    this.add(() => observer.disconnect());
  }

  /** When an off-screen output comes back: JupyterLab detaches them, and canvases may be blank. */
  onShown(target: Element, fn: () => void): void {
    const observer = new IntersectionObserver(this.guard("visibility", (entries: IntersectionObserverEntry[]) => {
      if (entries.some((e) => e.isIntersecting)) fn();
    }));
    observer.observe(target);
    this.add(() => observer.disconnect());
  }

  dispose(): void {
    this.dead = true;
    const all = [...this.undo].reverse();
    this.undo.clear();
    for (const undo of all) {
      try {
        undo();
      } catch (error) {
        this.report("cleanup", error);
      }
    }
  }
}

type Child = Node | string | null | undefined | false;
type Attributes = Record<string, string | number | boolean | null | undefined>;

/** Makes an element. Strings become text nodes, so nothing that comes from a model is ever HTML. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((c): c is Node | string => c !== null && c !== undefined && c !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** 16 x 16 stroke icons. */
const ICONS = {
  search: "M7 2.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 0 0 0-9M10.5 10.5L14 14",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  outline: "M2.5 4h2M6.5 4h7M4.5 8h2M8.5 8h5M4.5 12h2M8.5 12h5",
  level: "M3 4.5l5 3.5l5-3.5M3 8.5L8 12l5-3.5",
  all: "M4 6l4-3.5L12 6M4 10l4 3.5l4-3.5",
  collapse: "M4 2.5L8 6l4-3.5M4 13.5L8 10l4 3.5",
  vertical: "M8 2v12M4.5 10.5L8 14l3.5-3.5M4 2h8",
  horizontal: "M2 8h12M10.5 4.5L14 8l-3.5 3.5M2 4v8",
  save: "M8 2.5v7.5M4.8 7L8 10.2L11.2 7M2.5 13.5h11",
  close: "M4 4l8 8M12 4l-8 8",
  chevron: "M6 4l4 4l-4 4",
  split: "M2.5 3h4.5v10H2.5zM9 3h4.5v10H9z",
  swap: "M2.5 5.5h10M9.5 2.5l3 3l-3 3M13.5 10.5h-10M6.5 7.5l-3 3l3 3",
  clear: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M6 6l4 4M10 6l-4 4",
} as const;
export type IconName = keyof typeof ICONS;

export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "wb-icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export function button(name: IconName, label: string, text = ""): HTMLButtonElement {
  return h("button", { type: "button", class: text ? "wb-button wb-with-text" : "wb-button", title: label, "aria-label": label }, icon(name), text ? h("span", {}, text) : null);
}

export function download(name: string, blob: Blob): void {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  link.click();
  // The browser starts reading on the next turn.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

let serial = 0;
/** Ids for aria references, unique on the page. */
export function newId(prefix: string): string {
  serial++;
  return `${prefix}-${serial}`;
}
