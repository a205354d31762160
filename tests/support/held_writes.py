"""Hold a write of vectors in its middle, for as long as a test has advisory lock 7."""

from __future__ import annotations

#: How many writes are held now.
HELD = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"


def hold_at(key: int) -> str:
    """Return the SQL that holds whatever writes the vector of a record, once it has: before its commit."""
    # locks have a timeout, sleep has none
    return f"""
CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE NOT pg_try_advisory_xact_lock(7) LOOP PERFORM pg_sleep(0.01); END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER held AFTER INSERT ON documents_vectors FOR EACH ROW WHEN (NEW.id = {key})
    EXECUTE FUNCTION public.hold()
"""
