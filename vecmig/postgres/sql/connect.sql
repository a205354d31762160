-- What is said first on a connection: whose session it is, and how values become text in it.

-- settle --
-- Sets nothing where another process answers than the one that is meant: a pooler lends its sessions to applications.
-- As plain as can be, for a new process has no catalogue in its cache yet: an aggregate here costs it 3 ms.
SELECT pg_catalog.pg_backend_pid(),
       CASE WHEN pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) {process}
                 AND pg_catalog.current_setting(s.name, true) OPERATOR(pg_catalog.<>) s.value
                 AND s.instead_of OPERATOR(pg_catalog.=) ANY (ARRAY['', pg_catalog.current_setting(s.name, true)])
            THEN pg_catalog.set_config(s.name, s.value, false) END
FROM ROWS FROM (pg_catalog.unnest({names}::text[]), pg_catalog.unnest({values}::text[]),
                pg_catalog.unnest({instead_of}::text[])) AS s (name, value, instead_of)

-- settle_transaction --
SELECT {settings}

-- name --
SELECT pg_catalog.set_config('application_name', %(name)s, false)
