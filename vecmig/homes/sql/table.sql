-- The vectors table and its partitions.

-- create_table --
CREATE TABLE IF NOT EXISTS {vectors} (
    tag         text NOT NULL CHECK (tag <> ''),
    {key_columns},
    chunk       int NOT NULL DEFAULT 0 CHECK (chunk >= 0),
    chunks      int NOT NULL DEFAULT 1,
    -- NOT NULL in each partition whose vectors are in it
    embedding   {type},
    source_hash uuid NOT NULL,
    chunk_text  text,
    embedded_at timestamptz NOT NULL DEFAULT now(),
    -- role and application of whoever inserts past vecmig, which leaves it empty
    written_by  text[] DEFAULT {writer},
    PRIMARY KEY (tag, {keys}, chunk)
) PARTITION BY LIST (tag)

-- comment_table --
COMMENT ON TABLE {vectors} IS {comment}

-- there --
-- what is called like the vectors table: whether it is one, its comment, and whether it has the columns that came later
SELECT pg_catalog.pg_get_partkeydef(c.oid) = 'LIST (tag)', pg_catalog.obj_description(c.oid, 'pg_class'),
       EXISTS (SELECT FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = c.oid AND a.attname = 'chunks' AND NOT a.attisdropped),
       EXISTS (SELECT FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = c.oid AND a.attname = 'written_by' AND NOT a.attisdropped)
FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass(%(name)s)

-- add_chunks --
-- the rows that are there count as records of one chunk, as they did: nothing is embedded again for it
ALTER TABLE {vectors} ADD COLUMN IF NOT EXISTS chunks int NOT NULL DEFAULT 1

-- add_writers --
-- in two steps: of the rows that are there nobody knows it
ALTER TABLE {vectors} ADD COLUMN IF NOT EXISTS written_by text[];
ALTER TABLE {vectors} ALTER COLUMN written_by SET DEFAULT {writer}

-- writer --
CASE WHEN pg_catalog.current_setting('application_name') <> 'vecmig'
     THEN ARRAY[session_user::text, pg_catalog.current_setting('application_name')] END

-- create_partition --
CREATE TABLE {partition} (LIKE {vectors} INCLUDING ALL)

-- free_key --
-- the primary key of a vectors table that has no partitions yet, and that nobody refers to
SELECT c.conname
FROM pg_catalog.pg_constraint c
WHERE c.conrelid = pg_catalog.to_regclass(%(vectors)s) AND c.contype = 'p'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.conrelid)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.confrelid = c.conrelid)

-- drop_key --
ALTER TABLE {vectors} DROP CONSTRAINT {key}

-- lacks_key --
-- whether the vectors table leaves the key to its partitions; one that --sql only writes about does not
SELECT pg_catalog.to_regclass(%(vectors)s) IS NOT NULL
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c
                   WHERE c.conrelid = pg_catalog.to_regclass(%(vectors)s) AND c.contype = 'p')

-- add_key --
ALTER TABLE {partition} ADD PRIMARY KEY (tag, {keys}, chunk)

-- add_short_key --
-- The tag is the same in all of them, and would be a third of what a stamp takes. They come in the order of their keys.
ALTER TABLE {partition} ADD {kind} ({keys}, chunk) WITH (fillfactor = 100)

-- alter_partition --
ALTER TABLE {partition}
    ALTER COLUMN tag SET DEFAULT {tag},
    ALTER COLUMN embedding {required} NOT NULL,
    ADD CONSTRAINT {constraint} CHECK ({condition}),
    ADD CONSTRAINT {tag_constraint} CHECK (tag = {tag})

-- restore_constraint --
ALTER TABLE {partition} DROP CONSTRAINT IF EXISTS {constraint}, ADD CONSTRAINT {constraint} CHECK ({condition})

-- attach_partition --
ALTER TABLE {vectors} ATTACH PARTITION {partition} FOR VALUES IN ({tag})

-- detach_partition --
ALTER TABLE {vectors} DETACH PARTITION {partition}

-- drop_partition --
DROP TABLE {partition}

-- attached --
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_inherits i
    WHERE i.inhrelid = pg_catalog.to_regclass(%(partition)s)
      AND i.inhparent = pg_catalog.to_regclass(%(vectors)s)
      AND NOT i.inhdetachpending)
