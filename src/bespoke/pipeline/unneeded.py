"""The files of a project's versions rid of those that no version names."""

from bespoke.registry import Catalogue, Unneeded, place, remove, sharing, unneeded


def prune_versions(*, apply: bool = False, store: str = "") -> Unneeded:
    """The files that no version names, retired ones included, in the nearest registry; with `apply` they are removed.

    Where a server's versions and a project's own share a folder, both count. What only this machine copied from a
    server comes again when it is asked for.

    Raises: BespokeError when there is no registry or it cannot be reached, of one version it cannot be told which files
    it names, or a version is being registered: then nothing is removed.
    """
    catalogues = [Catalogue(one) for one in sharing(place(store))]
    shelf = catalogues[0].shelf
    if not shelf.root.is_dir():
        return Unneeded()
    with shelf.changing():
        found = unneeded(catalogues)
        if apply:
            remove(found, shelf)
    return found
