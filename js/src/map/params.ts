/** What a map gets from the outside, and what it reports. */
import type { DetailsSource } from "../details/details";
import type { ErrorSink } from "../dom";
import type { SelectionLink } from "../selection";
import type { GraphData, ViewOptions } from "../types";
import type { FlagStyle } from "./fusion_model";

export interface GraphViewEvents {
  expanded?(ids: string[]): void;
  overlay?(name: string): void;
  grouping?(name: string): void;
  /** Node ids under the pointer; empty when it leaves. */
  hover?(ids: string[]): void;
}

export interface GraphViewParams {
  element: HTMLElement;
  data: GraphData;
  /** Shown instead of the data's title, where that would be too long; the title stays the tooltip. */
  heading?: string;
  link: SelectionLink;
  options?: ViewOptions;
  /** What was open, colored and grouped before; names that do not exist are ignored. */
  state?: { expanded?: string[]; overlay?: string; grouping?: string };
  details?: DetailsSource;
  /** Flag of each node of the data, for the before-and-after view. */
  flags?: (FlagStyle | null)[];
  extraLegend?: HTMLElement | null;
  events?: GraphViewEvents;
  onError: ErrorSink;
}
