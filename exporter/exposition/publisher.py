"""Collects what is published of each target, and hands it on as one whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exporter.exposition.render import Exposition
from exporter.ledger import TargetView


class Publisher:
    """Collects the targets' views and hands them, all together, to the exposition."""

    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition
        self._views: dict[str, TargetView | None] = {}

    def view(self, target: str) -> TargetView | None:
        return self._views.get(target)

    def publish(self, view: TargetView) -> None:
        """Replace what is shown of one target."""
        shown = self._views.get(view.target) is not None
        self._views[view.target] = view
        if shown:
            self._exposition.replace(view)
        else:
            self._publish_all()

    def exchange(
        self,
        names: Sequence[str],
        views: Iterable[TargetView] = (),
        *,
        created_timestamps: bool | None = None,
    ) -> None:
        """From now on these targets, with these new views, in one publication.

        ``created_timestamps``: with ``_created`` series or without; ``None``: as before.
        """
        if created_timestamps is not None:
            self._exposition.show_created(created_timestamps)
        fresh = {view.target: view for view in views}
        self._views = {name: fresh.get(name, self._views.get(name)) for name in names}
        self._publish_all()

    def _publish_all(self) -> None:
        self._exposition.publish(view for view in self._views.values() if view is not None)
