-- 240 products in six categories; every 40th is one of five ever made.
INSERT INTO catalog.products (id, name, category, description, price_cents, options)
SELECT 'p-' || lpad(n::text, 4, '0'),
       maker || ' ' || thing || ' ' || (100 + n),
       category,
       CASE WHEN n % 40 = 0 THEN 'One of five ever made: ' ELSE '' END
           || maker || '''s ' || lower(thing) || ' in batch ' || (1 + n / 24) || ', made to order',
       price + 25 * (n % 37),
       options::jsonb
FROM generate_series(1, 240) AS n
CROSS JOIN LATERAL (SELECT
    (ARRAY['keyboard', 'console', 'handheld', 'keycaps', 'audio', 'kit'])[1 + n % 6] AS category,
    (ARRAY['Keyboard', 'Console', 'Handheld', 'Keycap set', 'Sound module', 'Solder kit'])[1 + n % 6] AS thing,
    (ARRAY['Alder', 'Birch', 'Cedar', 'Dogwood', 'Elm', 'Fir', 'Ginkgo'])[1 + n % 7] AS maker,
    (ARRAY[14900, 19900, 12900, 6900, 8900, 4900])[1 + n % 6] AS price,
    (ARRAY[
        '[{"name":"switches","values":[{"name":"linear","extraCents":0},{"name":"tactile","extraCents":500},{"name":"clicky","extraCents":300}]},{"name":"keycaps","values":[{"name":"abs","extraCents":0},{"name":"pbt","extraCents":1900}]},{"name":"layout","values":[{"name":"iso","extraCents":0},{"name":"ansi","extraCents":0},{"name":"ortho","extraCents":1200}]}]',
        '[{"name":"shell","values":[{"name":"grey","extraCents":0},{"name":"clear","extraCents":1500}]},{"name":"video","values":[{"name":"composite","extraCents":0},{"name":"rgb","extraCents":2500},{"name":"hdmi","extraCents":6900}]}]',
        '[{"name":"screen","values":[{"name":"original","extraCents":0},{"name":"ips","extraCents":4500}]},{"name":"battery","values":[{"name":"cells","extraCents":0},{"name":"rechargeable","extraCents":2200}]}]',
        '[]', '[]', '[]'])[1 + n % 6] AS options
) AS made
ON CONFLICT DO NOTHING;

INSERT INTO inventory.products (id, stock_initial, stock)
SELECT 'p-' || lpad(n::text, 4, '0'), pieces, pieces
FROM generate_series(1, 240) AS n
CROSS JOIN LATERAL (SELECT CASE WHEN n % 40 = 0 THEN 5 ELSE 1000000 END AS pieces) AS made
ON CONFLICT DO NOTHING;

-- 500 customers; the card of every 50th is always declined.
INSERT INTO customers.customers (id, name, email, segment, card_reference)
SELECT 'c-' || lpad(n::text, 4, '0'),
       'Customer ' || n,
       'customer' || n || '@shop.example',
       (ARRAY['keyboard', 'console', 'handheld', 'keycaps', 'audio', 'kit'])[1 + n % 6],
       CASE WHEN n % 50 = 0 THEN 'declined-' ELSE 'card-' END || lpad(n::text, 4, '0')
FROM generate_series(1, 500) AS n
ON CONFLICT DO NOTHING;

-- Twelve picks a segment: its own products first, then some of the others.
INSERT INTO recommend.picks (segment, product_id, score)
SELECT segment, id, score FROM (
    SELECT s.segment, p.id,
           CASE WHEN p.category = s.segment THEN 100 ELSE 0 END + ('x' || left(md5(s.segment || p.id), 7))::bit(28)::integer % 90 AS score,
           row_number() OVER (PARTITION BY s.segment ORDER BY
               CASE WHEN p.category = s.segment THEN 100 ELSE 0 END + ('x' || left(md5(s.segment || p.id), 7))::bit(28)::integer % 90 DESC, p.id) AS place
    FROM catalog.products p
    CROSS JOIN unnest(ARRAY['keyboard', 'console', 'handheld', 'keycaps', 'audio', 'kit']) AS s(segment)
) AS ranked
WHERE place <= 12
ON CONFLICT DO NOTHING;
