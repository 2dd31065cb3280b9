"""Stands in for appnope, which ipykernel needs on a Mac: nothing naps here."""


def nope() -> None:
    """Do nothing."""
