// Netron's page in a frame, from Jupyter's own server. The kernel does not know the server's address; the page does.
export default {
  render({ model, el }) {
    const config = JSON.parse(document.getElementById("jupyter-config-data")?.textContent || "{}");
    const base = config.baseUrl || document.body.dataset.baseUrl || "/";
    const show = async () => {
      const path = model.get("path");
      el.replaceChildren();
      if (!path?.length) return;
      const url = `${base}workbench/netron/${path.map(encodeURIComponent).join("/")}/`;
      const answer = await fetch(url, { method: "HEAD", credentials: "same-origin" }).catch(() => null);
      if (!answer?.ok) {
        const note = document.createElement("p");
        note.setAttribute("role", "alert");
        note.textContent =
          "Netron's view needs the workbench's server extension: run `jupyter server extension enable workbench.server` " +
          "and start Jupyter again. (Or Netron is not installed: pip install 'trt-workbench[lab]'.)";
        el.append(note);
        return;
      }
      const frame = document.createElement("iframe");
      frame.title = `Netron: ${path[1]}`;
      frame.src = url;
      frame.style.cssText = `width:100%;height:${model.get("height")}px;border:1px solid var(--jp-border-color2,#ccc);border-radius:8px;background:#fff`;
      el.append(frame);
    };
    model.on("change:path", show);
    show();
    return () => model.off("change:path", show);
  },
};
