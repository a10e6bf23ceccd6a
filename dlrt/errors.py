"""Errors a caller may want to catch."""


class Divergence(ArithmeticError):
    """A loss, gradient or factor is no longer finite.

    Attributes:
        layer: qualified name of the layer where it was seen, or None when it was the loss.
    """

    def __init__(self, message: str, layer: str | None = None) -> None:
        super().__init__(message)
        self.layer = layer
