-- The notes that a collection needs a full pass.

-- note --
INSERT INTO {schema}.full_pass (collection, reason) VALUES (%(collection)s, %(reason)s)

-- needed --
SELECT reason, min(noted_at), max(noted_at)
FROM {schema}.full_pass
WHERE collection = %(collection)s
GROUP BY reason
ORDER BY min(noted_at), reason

-- noted --
SELECT id FROM {schema}.full_pass WHERE collection = %(collection)s AND NOT %(tag)s = ANY (passed)

-- passed --
UPDATE {schema}.full_pass SET passed = array_append(passed, %(tag)s) WHERE id = ANY (%(ids)s)

-- forget --
DELETE FROM {schema}.full_pass f
USING {schema}.route r
WHERE f.collection = %(collection)s AND r.collection = f.collection
  AND f.passed @> array_remove(ARRAY[r.live, r.standby, r.candidate], NULL)
