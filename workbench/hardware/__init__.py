"""Facts about machines and GPUs: what is here, what each GPU can do, and CUDA through its driver library."""
