-- What a stamp says of its record: whether all its vectors are there, and the hash of its text.
-- {records} is a sub-select over the source with columns k0, k1, … and txt; {stamps} is the relation of one tag.

-- whole --
(SELECT v.* FROM {stamps} v WHERE v.chunk = 0 {condition})

-- all_chunks --
AND (v.chunks = 1 OR v.chunks = (
    SELECT count(*)
    FROM {stamps} c
    WHERE c.tag = v.tag AND {same_record} AND c.chunk < v.chunks AND c.source_hash = v.source_hash))

-- hash_kind --
-- What the hashes of a tag are. In a ledger that has no such column yet, the name means the one around it.
(SELECT (SELECT text_hash FROM {schema}.tag t WHERE t.collection = {collection} AND t.tag = {tag})
 FROM (VALUES ('md5')) AS older (text_hash))

-- hash --
-- The first 128 bits of the text's SHA-256. A tag that an earlier vecmig began keeps the MD5 that its stamps are: to write
-- them anew would put every vector into the index again.
CASE WHEN {kind} = 'md5'
     THEN pg_catalog.md5(s.txt)::uuid
     ELSE pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to(s.txt, 'UTF8')), 1, 16),
                            'hex')::uuid END
