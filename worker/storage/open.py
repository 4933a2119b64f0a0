"""The storage that the settings name: a bucket, or a local folder."""

from __future__ import annotations

from volume.layout import Layout
from worker.settings import Settings
from worker.storage.base import Storage
from worker.storage.local import LocalStorage
from worker.storage.s3 import S3Storage
from worker.storage.s3_client import S3Limits


def open_storage(settings: Settings, limits: S3Limits | None = None) -> Storage:
    """Give the bucket of the settings or, where none is set, the local folder.

    Nothing is asked of the bucket yet: see `check`. Raises SetupError for settings that cannot
    be meant.
    """
    if settings.s3_bucket_name:
        return S3Storage.from_settings(settings, limits or S3Limits())
    folder = settings.local_storage_dir or Layout(settings.runpod_volume).local_storage
    return LocalStorage(folder)
