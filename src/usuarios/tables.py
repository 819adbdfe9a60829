"""Lay out what is kept of users."""

from __future__ import annotations

from sqlalchemy import MetaData

WRITE = MetaData()
READ = MetaData()
