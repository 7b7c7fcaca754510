// Stands in for the bundle. Jupyter sends a widget's module once per widget and, where widget state is
// saved, writes it into the notebook once per widget; the bundle is half a megabyte. So each widget has
// only this loader, and the first one on a page asks the kernel for the bundle, for all of them.
const bundles = (globalThis.__trtWorkbenchBundles ??= new Map());
const ANSWER_WITHIN = 30_000;

function bundle(model) {
  const key = model.get("bundle");
  let known = bundles.get(key);
  if (!known) {
    known = ask(model);
    bundles.set(key, known);
    known.catch(() => bundles.delete(key));
  }
  return known;
}

function ask(model) {
  return new Promise((resolve, reject) => {
    const give_up = setTimeout(() => {
      model.off("msg:custom", receive);
      reject(new Error("the kernel has not answered. It may be busy or stopped: run the cell again."));
    }, ANSWER_WITHIN);
    function receive(message, buffers) {
      if (message?.type !== "bundle") return;
      clearTimeout(give_up);
      model.off("msg:custom", receive);
      if (message.error) {
        reject(new Error(message.error));
        return;
      }
      const url = URL.createObjectURL(new Blob([buffers[0]], { type: "text/javascript" }));
      import(url).then(resolve, reject).finally(() => URL.revokeObjectURL(url));
    }
    model.on("msg:custom", receive);
    model.send({ type: "bundle" });
  });
}

export default {
  render(context) {
    let gone = false;
    let dispose = null;
    bundle(context.model).then(
      (module) => {
        if (!gone) dispose = module.default.render(context);
      },
      (error) => {
        if (gone) return;
        const note = document.createElement("div");
        note.setAttribute("role", "alert");
        note.textContent = `This view could not be loaded: ${error.message}`;
        context.el.replaceChildren(note);
      },
    );
    return () => {
      gone = true;
      dispose?.();
    };
  },
};
