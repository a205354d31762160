-- Where the vectors of a collection lie.

-- move --
ALTER TABLE {relation} SET SCHEMA {schema}
