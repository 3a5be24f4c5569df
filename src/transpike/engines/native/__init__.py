"""The native library of the event engine, and closed forms that use it."""
