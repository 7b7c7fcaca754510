"""The store: one folder for all files, shared by every notebook, script and shell of a user.

``WORKBENCH_HOME`` names the folder; without it the user's data folder is used. Only its owner may enter it. In it:

    format              version of this layout
    secret              key of the seals that mark builds of this store
    adopted             builds from before there were seals
    index.db            fingerprints of files, models made from others, summaries of engines (SQLite, WAL)
    models/<sha256>/    models that the workbench made: exported, cast, imported
    builds/<key>/       one built engine: engine, build.log, record.json, plan.json, build.json, seal.json
    failures/<name>/    one failed build: build.log, request.json, error.json, record.json; kept for a week
    sessions/<name>.db  one session each (SQLite, WAL)
    locks/, tmp/        locks of running builds, and their unfinished folders

A build is made in ``tmp`` and moved into place when finished, so a folder in ``builds`` is always complete.
"""

from workbench.core.store.database import Database
from workbench.core.store.drafts import output, replacing
from workbench.core.store.errors import UNWRITABLE, unwritable
from workbench.core.store.seals import ENGINE_FILES, IMPORTED, read_seal, sound
from workbench.core.store.store import KnownBuild, Store, home

__all__ = [
    "ENGINE_FILES", "IMPORTED", "UNWRITABLE", "Database", "KnownBuild", "Store", "home", "output", "read_seal", "replacing", "sound", "unwritable",
]  # fmt: skip
