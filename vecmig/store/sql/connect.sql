-- What is said first on a connection: whose session it is, and how values become text in it.

-- settle --
-- Sets nothing where another process answers than the one that is meant: a pooler lends its sessions to applications.
-- As plain as can be, for a new process has no catalogue in its cache yet: an aggregate here costs it 3 ms.
SELECT pg_catalog.pg_backend_pid(), CASE WHEN pg_catalog.pg_backend_pid() = {process} THEN ARRAY[{settings}] END

-- settle_transaction --
SELECT {settings}
