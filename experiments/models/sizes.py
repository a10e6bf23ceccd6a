"""The sizes of a vision transformer, checked before it is built."""

from experiments.data.arguments import check_integer


def check(image_size: int, patch_size: int, **sizes: int) -> None:
    """Raise ValueError unless all are positive integers and `image_size` is a multiple of `patch_size`."""
    for key, value in {"image_size": image_size, "patch_size": patch_size, **sizes}.items():
        check_integer(key, value, 1)
    if image_size % patch_size:
        below = image_size - image_size % patch_size
        near = f"{below} or {below + patch_size}" if below else str(patch_size)
        raise ValueError(f"image_size is {image_size}: give a multiple of the patch size {patch_size}, as {near}")
