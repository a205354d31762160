-- vecmig's own tables, version 7: by which hash of its text a stamp tells whether a record is fresh.

-- SHA-256, but for the tags that an earlier vecmig began
ALTER TABLE {schema}.tag
    ADD COLUMN text_hash text NOT NULL DEFAULT 'md5' CHECK (text_hash IN ('md5', 'sha256')),
    ALTER COLUMN text_hash SET DEFAULT 'sha256';
