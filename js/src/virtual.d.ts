/** Text of the bundled layout worker, made by build.mjs. */
declare module "virtual:layout-worker" {
  const source: string;
  export default source;
}
