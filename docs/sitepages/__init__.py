"""Makes the source of the documentation site: ``site.build``."""
