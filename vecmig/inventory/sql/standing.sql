-- What a collection's objects look like, of the catalogue alone.

-- standing --
-- two values: one that differs as soon as an object is dropped, disabled, replaced, altered or opened to somebody, and one
-- that differs as soon as the source has other partitions or children
SELECT md5(pg_catalog.concat_ws('|',
    (SELECT string_agg(pg_catalog.concat_ws(' ', c.oid, c.relname, c.relnamespace, c.relrowsecurity, c.relacl), ',' ORDER BY c.oid)
     FROM pg_catalog.pg_class c WHERE c.oid IN (of.source, of.live, of.vectors)),
    (SELECT string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull), ',' ORDER BY a.attnum)
     FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = of.source AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT string_agg(pg_catalog.concat_ws(' ', t.oid, t.xmin, t.tgname, t.tgenabled), ',' ORDER BY t.oid)
     FROM pg_catalog.pg_trigger t
     WHERE t.tgrelid = of.source AND NOT t.tgisinternal),
    (SELECT string_agg(pg_catalog.concat_ws(' ', w.oid, w.xmin, p.oid, p.xmin), ',' ORDER BY w.oid, p.oid)
     FROM pg_catalog.pg_rewrite w
     LEFT JOIN pg_catalog.pg_depend d
         ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
     LEFT JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
     WHERE w.ev_class = of.live),
    (SELECT string_agg(pg_catalog.concat_ws(' ', p.oid, p.xmin), ',' ORDER BY p.oid)
     FROM pg_catalog.pg_proc p
     JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname = %(schema)s AND p.proname = %(search)s),
    (SELECT string_agg(pg_catalog.concat_ws(' ', i.inhrelid, i.inhdetachpending, c.relrowsecurity, c.relacl), ',' ORDER BY i.inhrelid)
     FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = of.vectors),
    (SELECT string_agg(pg_catalog.concat_ws(' ', p.oid, p.xmin), ',' ORDER BY p.oid)
     FROM pg_catalog.pg_policy p WHERE p.polrelid = of.vectors),
    (SELECT string_agg(pg_catalog.concat_ws(' ', x.indexrelid, x.indisvalid), ',' ORDER BY x.indexrelid)
     FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_index x ON x.indrelid = i.inhrelid WHERE i.inhparent = of.vectors),
    (SELECT string_agg(s.srsubid::text, ',' ORDER BY s.srsubid)
     FROM pg_catalog.pg_subscription_rel s WHERE s.srrelid = of.source))),
    (WITH RECURSIVE below (oid) AS (
         SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = of.source
         UNION
         SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.oid)
     SELECT md5(coalesce(string_agg(b.oid::text, ',' ORDER BY b.oid), '')) FROM below b)
FROM (SELECT pg_catalog.to_regclass(%(source)s)::oid AS source, pg_catalog.to_regclass(%(live)s)::oid AS live,
             pg_catalog.to_regclass(%(vectors)s)::oid AS vectors) AS of
