"""Facts about this machine and about GPUs, and the devices that engines run on."""
