"""An engine as views need it: one lens for all, data for the browser, pages without a kernel."""
