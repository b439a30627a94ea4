"""A pickle that runs a program where it is loaded."""


class OsSystem:
    """Makes the file ./ran when it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, ("touch ran",)
