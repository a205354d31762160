-- remembered --
SELECT texts, tokens FROM {schema}.learned_limit
WHERE provider = %(provider)s AND model = %(model)s AND learned_at > clock_timestamp() - %(lasts)s

-- remember --
INSERT INTO {schema}.learned_limit AS l (provider, model, texts, tokens)
VALUES (%(provider)s, %(model)s, %(texts)s, %(tokens)s)
ON CONFLICT (provider, model) DO UPDATE
SET texts = excluded.texts, tokens = excluded.tokens, learned_at = excluded.learned_at
