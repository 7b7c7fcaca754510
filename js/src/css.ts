/** The style sheet, made from the palettes so that canvas and page cannot drift apart. */
import { FAMILY } from "./measure";
import { PALETTES, type Palette } from "./theme";

const NAMES = ["bg", "canvas", "card", "raised", "hover", "line", "lineStrong", "text", "muted", "faint", "accent", "accentSoft", "onAccent", "amber", "amberSoft", "danger", "dangerSoft", "shadow", "edgeStrong"] as const;

const set = (p: Palette): string => NAMES.map((name) => `--wb-${name}:${p[name]}`).join(";");
/** A variable with its fallback: some hosts define ours late or not at all. Where Jupyter styles an element (dl, table, pre), ours needs two classes to win. */
const v = (name: (typeof NAMES)[number]): string => `var(--wb-${name}, ${PALETTES.light[name]})`;

const CSS = `
.wb-root{${set(PALETTES.light)};color-scheme:light;box-sizing:border-box;position:relative;display:flex;flex-direction:column;min-width:0;width:100%;background:${v("bg")};color:${v("text")};border:1px solid ${v("line")};border-radius:10px;overflow:hidden;font:400 13px/1.4 ${FAMILY};container-type:inline-size;text-align:left}
.wb-root[data-theme=dark]{${set(PALETTES.dark)};color-scheme:dark}
.wb-root *,.wb-root *::before{box-sizing:border-box}
.wb-root [hidden]{display:none!important}
.wb-root button,.wb-root input,.wb-root select{font:inherit;color:inherit;margin:0}
.wb-root :focus{outline:none}
.wb-root :focus-visible{outline:2px solid ${v("accent")};outline-offset:1px}
.wb-icon{width:16px;height:16px;flex:none;fill:none;stroke:currentColor;stroke-width:1.5;stroke-linecap:round;stroke-linejoin:round}
.wb-bar{display:flex;align-items:center;gap:6px;padding:7px 10px;border-bottom:1px solid ${v("line")};flex-wrap:wrap;min-height:46px}
.wb-title{font-weight:600;font-size:13px;line-height:1.3;overflow:hidden;overflow-wrap:anywhere;display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:2;max-width:240px;margin-right:4px}
.wb-grow{flex:1 1 8px}
.wb-button{display:inline-flex;align-items:center;justify-content:center;gap:6px;height:30px;min-width:30px;padding:0 6px;border:1px solid transparent;border-radius:7px;background:transparent;color:${v("muted")}!important;cursor:pointer;white-space:nowrap}
.wb-button:hover{background:${v("hover")};color:${v("text")}!important}
.wb-button[aria-pressed=true],.wb-button[aria-checked=true]{background:${v("accentSoft")};color:${v("accent")}!important}
.wb-button:disabled{opacity:.4;cursor:default;background:transparent}
.wb-button.wb-solid{background:${v("accent")};color:${v("onAccent")}!important;padding:0 12px;font-weight:500}
.wb-button.wb-line{border-color:${v("lineStrong")};padding:0 12px;color:${v("text")}!important}
.wb-group{display:inline-flex;gap:1px;align-items:center}
.wb-break{display:none;order:2;flex:1 0 100%;height:0}
.wb-rule{width:1px;height:18px;background:${v("line")};margin:0 3px}
.wb-field{display:inline-flex;align-items:center;gap:6px;color:${v("muted")};font-size:12px;white-space:nowrap}
.wb-field select{height:30px;max-width:170px;border:1px solid ${v("line")};border-radius:7px;background:${v("raised")};color:${v("text")};padding:0 24px 0 9px;font-size:12.5px;cursor:pointer;text-overflow:ellipsis;appearance:none;background-image:url("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='10' height='6' fill='none' stroke='%23808a99' stroke-width='1.5'%3E%3Cpath d='M1 1l4 4l4-4'/%3E%3C/svg%3E");background-repeat:no-repeat;background-position:right 9px center}
.wb-field select:hover{border-color:${v("lineStrong")}}
.wb-search{position:relative;display:inline-flex;align-items:center;flex:0 1 240px;min-width:130px}
.wb-search>.wb-icon{position:absolute;left:9px;width:14px;height:14px;color:${v("faint")};pointer-events:none}
.wb-search input{width:100%;height:30px;border:1px solid ${v("line")};border-radius:7px;background:${v("raised")};padding:0 28px 0 29px;font-size:12.5px}
.wb-search input:focus{border-color:${v("accent")};outline:2px solid ${v("accentSoft")};outline-offset:0}
.wb-search input::placeholder{color:${v("faint")};opacity:1}
.wb-search input::-webkit-search-cancel-button{display:none}
.wb-key{position:absolute;right:7px;border:1px solid ${v("line")};border-radius:4px;padding:0 5px;font-size:10.5px;line-height:16px;color:${v("faint")};pointer-events:none}
.wb-search input:not(:placeholder-shown)~.wb-key{display:none}
.wb-hits{position:absolute;z-index:30;top:34px;left:0;width:max(100%,320px);max-width:min(460px,90cqw);max-height:320px;overflow:auto;background:${v("raised")};border:1px solid ${v("lineStrong")};border-radius:9px;box-shadow:0 10px 30px ${v("shadow")};padding:4px}
.wb-hit{display:flex;align-items:center;gap:8px;padding:5px 8px;border-radius:6px;cursor:pointer;white-space:nowrap;overflow:hidden}
.wb-hit>span:nth-child(2){overflow:hidden;text-overflow:ellipsis;flex:0 1 auto}
.wb-hit small{color:${v("muted")};overflow:hidden;text-overflow:ellipsis;flex:1 1 30px;text-align:right;font-size:11px}
.wb-hit[aria-selected=true],.wb-hit:hover{background:${v("hover")}}
.wb-note{padding:6px 8px;color:${v("muted")};font-size:12px}
.wb-body{display:flex;flex:1 1 auto;min-height:0;position:relative}
.wb-stage{position:relative;flex:1 1 auto;min-width:0;background:${v("canvas")};overflow:hidden;cursor:grab;touch-action:none;user-select:none}
.wb-stage:active{cursor:grabbing}
.wb-stage.wb-over{cursor:pointer}
.wb-stage:focus-visible{outline:2px solid ${v("accent")};outline-offset:-2px}
.wb-stage>canvas,.wb-cy{position:absolute;inset:0;width:100%;height:100%}
.wb-stage>canvas{pointer-events:none}
.wb-mini{position:absolute!important;right:10px;bottom:10px;border:1px solid ${v("lineStrong")};border-radius:7px;background:${v("raised")};box-shadow:0 2px 8px ${v("shadow")};cursor:crosshair;touch-action:none}
.wb-tip{position:absolute;z-index:20;pointer-events:none;max-width:min(380px,92%);background:${v("raised")};border:1px solid ${v("lineStrong")};border-radius:8px;box-shadow:0 6px 20px ${v("shadow")};padding:8px 10px;font-size:12px;line-height:1.45;overflow-wrap:anywhere}
.wb-tip b{font-weight:600;display:block}
.wb-tip span{display:block;color:${v("muted")}}
.wb-tip .wb-warm{color:${v("amber")};font-weight:500}
.wb-hint{position:absolute;left:50%;bottom:14px;transform:translateX(-50%);background:${v("text")};color:${v("bg")};font-size:12px;padding:5px 11px;border-radius:14px;opacity:.92;pointer-events:none;white-space:nowrap}
.wb-panel{position:absolute;z-index:25;left:50%;top:14px;transform:translateX(-50%);display:flex;gap:10px;align-items:center;flex-wrap:wrap;background:${v("raised")};border:1px solid ${v("lineStrong")};border-radius:10px;box-shadow:0 8px 26px ${v("shadow")};padding:9px 12px;max-width:94%;cursor:default}
.wb-spin{width:14px;height:14px;border:2px solid ${v("line")};border-top-color:${v("accent")};border-radius:50%;animation:wb-spin .8s linear infinite}
@keyframes wb-spin{to{transform:rotate(360deg)}}
@media (prefers-reduced-motion:reduce){.wb-spin{animation-duration:3s}}
.wb-error{display:flex;gap:10px;align-items:flex-start;padding:8px 12px;background:${v("dangerSoft")};color:${v("danger")};border-bottom:1px solid ${v("line")};font-size:12.5px;overflow-wrap:anywhere}
.wb-error>span{flex:1}
.wb-empty{position:absolute;inset:0;display:flex;align-items:center;justify-content:center;padding:20px;color:${v("muted")};text-align:center}
.wb-foot{display:flex;align-items:center;gap:6px 14px;padding:6px 12px;border-top:1px solid ${v("line")};min-height:34px;flex-wrap:wrap;font-size:12px}
.wb-legend{display:flex;align-items:center;gap:4px 12px;flex-wrap:wrap;min-width:0}
.wb-legend b{font-weight:600;color:${v("muted")}}
.wb-entry{display:inline-flex;align-items:center;gap:5px;white-space:nowrap}
.wb-chip{display:inline-flex;align-items:center;justify-content:center;min-width:20px;height:16px;padding:0 3px;border-radius:4px;font-size:10px;font-weight:600}
.wb-entry small{color:${v("faint")};font-size:11px}
.wb-ramp{display:inline-block;width:132px;height:10px;border-radius:3px;position:relative;overflow:hidden}
.wb-ramp.wb-hatched::before{content:"";position:absolute;inset:0;background:repeating-linear-gradient(135deg,transparent 0 3px,${v("bg")} 3px 5px)}
.wb-ramp-box{display:inline-flex;flex-direction:column;align-items:center;line-height:1}
.wb-entry .wb-middle{font-size:10px;margin-top:2px}
.wb-source{border:1px solid ${v("lineStrong")};border-radius:9px;padding:0 7px;font-size:11px;line-height:17px;color:${v("muted")}}
.wb-source[data-source=estimated]{border-style:dashed}
.wb-dash{display:inline-block;width:22px;height:0;border-top:2px dashed ${v("amber")}}
.wb-status{margin-left:auto;color:${v("muted")};font-variant-numeric:tabular-nums;text-align:right}
.wb-outline{flex:0 0 236px;display:flex;flex-direction:column;border-right:1px solid ${v("line")};min-height:0;background:${v("bg")}}
.wb-outline>header{padding:8px 12px 5px;font-size:11px;font-weight:600;color:${v("muted")}}
.wb-scroll{flex:1;overflow:auto;position:relative;min-height:0}
.wb-scroll:focus-visible{outline-offset:-2px}
.wb-row{position:absolute;left:0;right:0;height:26px;display:flex;align-items:center;gap:6px;padding-right:10px;cursor:pointer;white-space:nowrap;font-size:12.5px}
.wb-row>span.wb-name{overflow:hidden;text-overflow:ellipsis}
.wb-row>small{margin-left:auto;color:${v("faint")};font-size:11px;padding-left:6px}
.wb-row:hover{background:${v("hover")}}
.wb-row[aria-selected=true]{background:${v("accentSoft")}}
.wb-row.wb-partial{box-shadow:inset 2px 0 ${v("accent")}}
.wb-scroll:focus-visible .wb-row.wb-cursor{outline:2px solid ${v("accent")};outline-offset:-2px;border-radius:4px}
.wb-twist{width:16px;height:16px;flex:none;color:${v("faint")};display:inline-flex;transition:transform .12s}
.wb-row[aria-expanded=true]>.wb-twist{transform:rotate(90deg)}
.wb-dot{width:8px;height:8px;border-radius:2px;flex:none}
.wb-details{flex:0 0 330px;border-left:1px solid ${v("line")};overflow:auto;padding:12px 14px 18px;background:${v("bg")};min-height:0;font-size:12.5px}
.wb-details.wb-alone{flex:1 1 auto;border-left:0}
.wb-blank{min-height:100%;display:flex;flex-direction:column;align-items:center;justify-content:center;gap:6px;text-align:center;color:${v("muted")};padding:20px 10px;line-height:1.5}
.wb-details .wb-blank p{margin:0;max-width:34ch;color:inherit}
.wb-blank b{color:${v("text")};font-size:13.5px;font-weight:600}
.wb-blank .wb-icon{width:30px;height:30px;stroke-width:1;color:${v("faint")};margin-bottom:4px}
.wb-blank kbd{border:1px solid ${v("lineStrong")};border-radius:4px;padding:0 4px;font:inherit;font-size:11px;background:${v("canvas")};color:inherit}
.wb-details h3{font-size:13.5px;font-weight:600;margin:0 0 3px;line-height:1.35;overflow-wrap:anywhere;color:inherit}
.wb-details h4{font-size:11.5px;font-weight:600;margin:16px 0 5px;color:${v("muted")}}
.wb-details p{margin:4px 0 6px;color:${v("text")}}
.wb-id{color:${v("muted")};font-size:11.5px;overflow-wrap:anywhere}
.wb-tags{display:flex;flex-wrap:wrap;gap:5px;margin-top:7px}
.wb-tag{border:1px solid ${v("line")};background:${v("canvas")};border-radius:5px;padding:0 7px;font-size:11.5px;line-height:19px;white-space:nowrap;max-width:100%;overflow:hidden;text-overflow:ellipsis}
.wb-root .wb-facts{display:grid;grid-template-columns:minmax(84px,auto) 1fr;gap:3px 12px;margin:0}
.wb-facts dt,.wb-facts dd{float:none;width:auto;padding:0}
.wb-facts dt{color:${v("muted")};margin:0;font-weight:400}
.wb-facts dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.wb-facts dd small{display:block;color:${v("faint")}}
.wb-est{border-bottom:1px dashed ${v("faint")}}
.wb-unseen{position:absolute;width:1px;height:1px;margin:-1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.wb-links{display:flex;flex-direction:column;gap:1px;align-items:stretch}
.wb-links button{all:unset;cursor:pointer;padding:2px 6px;margin:0 -6px;border-radius:5px;color:${v("accent")};overflow-wrap:anywhere;font-size:12px}
.wb-links button:hover{background:${v("hover")}}
.wb-links button:focus-visible{outline:2px solid ${v("accent")}}
.wb-code{font:12px/1.55 ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace;background:${v("canvas")};border:1px solid ${v("line")};border-radius:7px;overflow:auto;padding:5px 0}
.wb-code>div{display:flex;white-space:pre;min-width:max-content;padding-right:10px}
.wb-code i{font-style:normal;color:${v("faint")};width:46px;text-align:right;padding-right:12px;flex:none;user-select:none}
.wb-code .wb-marked i{color:${v("muted")}}
.wb-code .wb-marked{background:${v("amberSoft")};box-shadow:inset 3px 0 ${v("amber")}}
.wb-path{font-size:11.5px;color:${v("muted")};margin-bottom:4px;overflow-wrap:anywhere}
.wb-root .wb-raw{margin:0;font:11.5px/1.5 ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace;white-space:pre-wrap;overflow-wrap:anywhere;max-height:320px;overflow:auto;background:${v("canvas")};border:1px solid ${v("line")};border-radius:7px;padding:8px 10px;color:inherit}
.wb-details summary{cursor:pointer;font-size:11.5px;font-weight:600;margin-top:16px;color:${v("muted")}}
.wb-root .wb-small tbody tr{background:transparent}
.wb-root .wb-small{width:100%;margin:0;table-layout:auto;border-collapse:collapse;font-size:12px}
.wb-small th,.wb-small td{text-align:left;padding:3px 8px 3px 0;border-bottom:1px solid ${v("line")};overflow-wrap:anywhere;vertical-align:top;background:transparent;color:inherit}
.wb-small th{color:${v("muted")};font-weight:500}
.wb-panes{display:flex;flex:1;min-height:0;position:relative}
.wb-pane{flex:1 1 0;min-width:0;display:flex;flex-direction:column;position:relative;background:${v("bg")}}
.wb-pane+.wb-pane{border-left:1px solid ${v("line")}}
.wb-pane .wb-root{border:0;border-radius:0;height:100%}
.wb-toggle .wb-pane{position:absolute;inset:0;transition:opacity .32s ease;border-left:0!important}
.wb-toggle .wb-pane.wb-away{opacity:0;pointer-events:none;visibility:hidden;transition:opacity .32s ease,visibility 0s .32s}
.wb-ghosts{position:absolute;inset:0;width:100%;height:100%;pointer-events:none;z-index:15}
.wb-seg{display:inline-flex;border:1px solid ${v("line")};border-radius:8px;padding:1px;background:${v("canvas")}}
.wb-seg .wb-button{height:26px;padding:0 10px;font-size:12.5px}
.wb-seg .wb-button[aria-checked=true]{background:${v("raised")};color:${v("text")}!important;box-shadow:0 1px 2px ${v("shadow")}}
.wb-flag{display:inline-flex;width:16px;height:16px;border-radius:50%;align-items:center;justify-content:center;background:${v("text")};color:${v("bg")};font-size:9.5px;font-weight:700}
.wb-swatch{width:18px;height:13px;border-radius:3px;border:1.5px solid ${v("edgeStrong")}}
.wb-swatch[data-border=dashed]{border-style:dashed}.wb-swatch[data-border=dotted]{border-style:dotted}.wb-swatch[data-border=double]{border:3px double ${v("edgeStrong")}}
.wb-table{flex:1;min-height:0;overflow:auto;position:relative;font-size:12.5px;font-variant-numeric:tabular-nums}
.wb-table:focus-visible{outline-offset:-2px}
.wb-table::-webkit-scrollbar{width:11px;height:11px}
.wb-table::-webkit-scrollbar-thumb{background:${v("lineStrong")};border:3px solid ${v("bg")};border-radius:6px}
.wb-table::-webkit-scrollbar-corner,.wb-table::-webkit-scrollbar-track{background:${v("bg")}}
.wb-sheet{flex:1;min-height:0;display:flex;position:relative}
.wb-sheet::after{content:"";position:absolute;z-index:4;right:0;top:0;bottom:0;width:18px;pointer-events:none;opacity:0;transition:opacity .15s;background:linear-gradient(90deg,transparent,${v("shadow")})}
.wb-sheet.wb-more::after{opacity:1}
.wb-thead{position:sticky;top:0;z-index:3;display:flex;background:${v("bg")};border-bottom:1px solid ${v("lineStrong")};min-width:max-content;height:34px}
.wb-th{display:flex;flex:none}
.wb-sort{all:unset;box-sizing:border-box;flex:1;min-width:0;display:flex;align-items:center;gap:5px;padding:0 12px;font-weight:600;font-size:12px;color:${v("muted")};cursor:pointer;white-space:nowrap;overflow:hidden}
.wb-sort>span{flex:0 0 auto;max-width:100%;overflow:hidden;text-overflow:ellipsis}
.wb-sort small{font-weight:400;color:${v("faint")};min-width:0;overflow:hidden;text-overflow:ellipsis}
.wb-sort:hover{color:${v("text")};background:${v("hover")}}
.wb-sort:focus-visible{outline:2px solid ${v("accent")};outline-offset:-2px}
.wb-sort i{font-style:normal;color:${v("accent")};width:10px}
.wb-num{justify-content:flex-end;text-align:right}
.wb-sort.wb-num>i{order:-1}
.wb-tr{position:absolute;left:0;display:flex;height:30px;align-items:center;border-bottom:1px solid ${v("line")};cursor:pointer;min-width:100%}
.wb-tr:hover{background:${v("hover")}}
.wb-tr[aria-selected=true]{background:${v("accentSoft")};box-shadow:inset 3px 0 ${v("accent")}}
.wb-table:focus-visible .wb-tr.wb-cursor{outline:2px solid ${v("accent")};outline-offset:-2px}
.wb-td{position:relative;flex:none;padding:0 12px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis;line-height:29px;height:29px}
.wb-td>em{font-style:normal;position:relative}
.wb-meter{position:absolute;left:8px;right:8px;bottom:3px;height:2px;border-radius:1px;background:linear-gradient(${v("accent")},${v("accent")}) right/var(--wb-share,0) 100% no-repeat;opacity:.55}
.wb-count{color:${v("muted")};font-size:12px;white-space:nowrap}
.wb-report{border:0;border-radius:0;overflow:visible;background:${v("canvas")};min-height:100vh}
.wb-page{width:100%;max-width:1560px;margin:0 auto;padding:26px 28px 40px;display:flex;flex-direction:column;gap:18px}
.wb-page>:empty{display:none}
.wb-page>header h1{font-size:22px;line-height:1.25;font-weight:650;margin:0;overflow-wrap:anywhere;color:inherit}
.wb-page>header p{margin:4px 0 0;color:${v("muted")}}
.wb-cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px}
.wb-figure{background:${v("bg")};border:1px solid ${v("line")};border-radius:10px;padding:12px 14px;margin:0;min-width:0}
.wb-figure small{display:block;color:${v("muted")};font-size:12px}
.wb-figure strong{display:block;font-size:19px;font-weight:600;margin-top:2px;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.wb-figure img{max-width:100%;height:auto;display:block}
.wb-images{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:14px}
.wb-page>footer{color:${v("muted")};font-size:12px}
@container (max-width:1020px){.wb-page{padding:18px 14px}}
@container (max-width:760px){.wb-outline{position:absolute;z-index:12;left:0;top:0;bottom:0;width:236px;box-shadow:6px 0 20px ${v("shadow")}}.wb-field>span{display:none}.wb-details{position:absolute;z-index:12;right:0;top:0;bottom:0;width:min(330px,88%);box-shadow:-6px 0 20px ${v("shadow")}}.wb-details.wb-alone{position:static;width:auto;box-shadow:none}}
@container (max-width:1000px){.wb-tools>.wb-title{flex:1 1 90px;min-width:70px;max-width:none}.wb-tools>.wb-grow{display:none}.wb-tools>.wb-field,.wb-tools>.wb-search{order:3}.wb-tools>.wb-break{display:block}.wb-tools>.wb-search{flex:1 1 90px;min-width:90px;max-width:none}}
@container (max-width:620px){.wb-bar.wb-tools{gap:6px 4px}.wb-tools .wb-zoom,.wb-tools>.wb-rule{display:none}.wb-tools>.wb-field{flex:0 1 auto;min-width:0}.wb-field select{max-width:124px}}
@container (max-width:430px){.wb-field select{max-width:104px}}
`;

const STYLED = Symbol.for("trt-workbench.styled");

/** Adds the sheet once to the document or shadow root that the element lives in. */
export function injectCss(at: Element): void {
  const root = at.getRootNode();
  const home: Document | ShadowRoot = root instanceof ShadowRoot ? root : document;
  const flagged = home as unknown as Record<symbol, HTMLStyleElement | undefined>;
  // Compared by text: two versions of the bundle may live on one page.
  const known = flagged[STYLED];
  if (known?.isConnected && known.textContent === CSS) return;
  const style = document.createElement("style");
  style.textContent = CSS;
  (home instanceof Document ? home.head : home).append(style);
  flagged[STYLED] = style;
}
