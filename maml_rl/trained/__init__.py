"""A trained run in Python: loading, adapting, acting, exporting."""
