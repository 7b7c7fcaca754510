/** Entry of the bundle: anywidget takes the default export, a report page the named one. */
export { default } from "./host/widget";
export { mountReport } from "./report/standalone";
