"""The native library: the event engine's kernels, closed forms and scans that use it."""
