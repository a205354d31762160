-- What suites need to know of the records.
-- {records} is a sub-select over the source with columns k0, k1, … and txt.

-- keys --
-- as the source has them, so that they equal what a search gives; the last column tells whether the source has them
SELECT a.n, {found_keys}, s.found IS TRUE
FROM unnest(%(n)s::int[], {texts}) AS a(n, {names})
LEFT JOIN LATERAL (SELECT true AS found, {keys} FROM {records} s WHERE {same_record} LIMIT 1) s ON true
ORDER BY a.n

-- known_items --
-- a title that several records have finds none of them in particular
WITH titled AS (
    SELECT {keys}, btrim(regexp_replace(s.title, '\s+', ' ', 'g')) AS title FROM {titled} s WHERE {eligible}
), single AS (
    SELECT t.*, count(*) OVER (PARTITION BY t.title) AS bearers FROM titled t WHERE t.title <> ''
)
SELECT t.title, {keys_text}
FROM single t
WHERE t.bearers = 1
ORDER BY md5(concat_ws(' ', {alias_keys}))
LIMIT %(size)s

-- first_sentence --
-- of the first line that is not blank
left(coalesce(substring(substring(txt FROM '\S[^\n\r]*') FROM '^.+?[.!?。](?=\s|$)'), substring(txt FROM '\S[^\n\r]*')),
     {longest})
