"""Tables of a store, version by version."""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE items (
        id TEXT PRIMARY KEY, "case" TEXT NOT NULL, model TEXT NOT NULL, site TEXT NOT NULL, stratum TEXT NOT NULL,
        dice REAL);
    CREATE TABLE places (position INTEGER PRIMARY KEY, item TEXT NOT NULL, repeat INTEGER NOT NULL);
    CREATE TABLE scores (
        id TEXT PRIMARY KEY, reader TEXT NOT NULL, item TEXT NOT NULL, position INTEGER NOT NULL,
        repeat INTEGER NOT NULL, score TEXT, exclusion TEXT, comment TEXT NOT NULL, seconds REAL NOT NULL,
        saved_at TEXT NOT NULL,
        CHECK ((score IS NULL) <> (exclusion IS NULL)));
    CREATE TABLE corrections (
        id TEXT PRIMARY KEY, reader TEXT NOT NULL, item TEXT NOT NULL, position INTEGER NOT NULL,
        repeat INTEGER NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL, automatic_sha256 TEXT NOT NULL,
        voxels_added INTEGER NOT NULL, voxels_removed INTEGER NOT NULL, added_ml REAL NOT NULL,
        removed_ml REAL NOT NULL, automatic_ml REAL NOT NULL, corrected_ml REAL NOT NULL, dice REAL, hd95_mm REAL,
        seconds REAL NOT NULL, saved_at TEXT NOT NULL);
    """,
)
"""What makes a store of version N from one of version N - 1; the first makes it from nothing."""

VERSION = len(MIGRATIONS)
"""Stands in a store as SQLite's user_version."""
